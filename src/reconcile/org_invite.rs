//! Reconciling an `OrgInvite`: observe, plan, act, report, one at a time for each address.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::act::{requeue_at, requeue_past};
use super::connection::{Connection, Link};
use super::context::Context;
use super::disconnected;
use super::memory::{Memory, Occasion};
use super::observe::freshened;
use super::report;
use super::write::{Written, has_finalizer};
use crate::astro::directory::View;
use crate::astro::{self, EXPIRY_GRACE, Role};
use crate::claims;
use crate::error::Error;
use crate::leadership::Term;
use crate::plan::{self, Doubt, Facts, Found, Lookup, Own, Saying, Sight, State};
use crate::policy;
use crate::resources::conditions;
use crate::resources::org_invite::{ATTEMPT_ANNOTATION, DeletionPolicy, RESEND_ANNOTATION};
use crate::resources::{Address, OrgInvite, OrgInviteStatus, Reason};

/// How long a reconcile waits at most for the cache to show our own last write: its watch event
/// triggers the next one, this is for the case that it is lost.
const CACHE_LAG: Duration = Duration::from_secs(5);

/// For how long an object's namespace may not be in the cache. After that it has gone without its objects, as by force.
const NAMESPACE_LAG: Duration = Duration::from_mins(5);

/// How soon a reconcile tries again whose address another object's has.
const IN_USE: Duration = Duration::from_millis(200);

/// Reconciles one object. Failures are logged here.
pub async fn reconcile(object: Arc<OrgInvite>, context: Arc<Context>) -> Result<Action, Error> {
    let key = ObjectRef::from_obj(object.as_ref());
    if !context.serves(&object.spec.organization_ref.name) {
        return Ok(Action::await_change());
    }
    // On every line that is logged on the way.
    let span = tracing::info_span!(
        "reconcile",
        object.kind = "OrgInvite",
        object.namespace = object.metadata.namespace,
        object.name = object.metadata.name
    );
    let attended = async {
        let outcome = attend(&key, &object, &context).await;
        if let Err(error) = &outcome {
            tracing::warn!(%error, "the OrgInvite cannot be reconciled; it is tried again");
            tell_refusal(error, &object, &context).await;
        }
        outcome
    };
    attended.instrument(span).await
}

/// Tells what the API server refuses where people look.
async fn tell_refusal(error: &Error, object: &OrgInvite, context: &Context) {
    // Of one that is not understood, no more than the conditions may be written.
    let tells = context.leadership.term().is_some() && object.spec.not_understood().is_none();
    let Some(message) = error.refusal().filter(|_| tells) else {
        return;
    };
    if !context.refusal_is_news(object, object.conditions()) {
        return;
    }
    let reason = Reason::WriteRefused;
    let state = disconnected::meanwhile(object, Saying { reason, message });
    // What is refused as well is in the log.
    say(context, object, state).await.ok();
}

async fn attend(
    key: &ObjectRef<OrgInvite>,
    object: &OrgInvite,
    context: &Context,
) -> Result<Action, Error> {
    let Some(term) = context.leadership.term() else {
        return Ok(Action::await_change());
    };
    if object.metadata.deletion_timestamp.is_some() && !has_finalizer(object) {
        return Ok(Action::await_change());
    }
    let address = match Address::parse(&object.spec.email) {
        Ok(address) => address,
        Err(error) => {
            let deleting = object.metadata.deletion_timestamp.is_some();
            let retain = object.spec.deletion_policy == DeletionPolicy::Retain;
            // Nothing is ever sent to such an address, whatever its annotation says.
            if deleting && (retain || claims::recorded(object).is_none()) {
                context.writer.release(object).await?;
                return Ok(Action::await_change());
            }
            let message = if deleting {
                format!(
                    "{error}, so that what is recorded cannot be taken back. With deletionPolicy Retain the object goes without"
                )
            } else {
                format!(
                    "{error}. The e-mail cannot be changed: delete this object and create another one"
                )
            };
            return say(
                context,
                object,
                State::Stalled(Saying {
                    reason: Reason::InvalidEmail,
                    message,
                }),
            )
            .await;
        }
    };
    let needs_it = claims::recorded(object).is_some() || claims::lost(object).is_some();
    if needs_it && !has_finalizer(object) {
        // Whoever replaces an object may drop it: what is recorded is taken back or handed over when it goes.
        match context.writer.hold(object).await? {
            Written::Done(held) if !has_finalizer(&held) => tracing::warn!(
                "something removes the finalizer as it is set, so that the invitation stays when the object is deleted: let the API server's policies keep it"
            ),
            // Its own event plans the rest.
            _ => return Ok(Action::await_change()),
        }
    }
    if let Some(field) = object.spec.not_understood() {
        return say_not_supported(context, object, field).await;
    }
    let connection = match context.link(&term, &object.spec.organization_ref.name) {
        Link::Up(connection) => is_elsewhere(object, &connection).map_or(Ok(connection), Err),
        Link::Down(saying) => Err(saying),
        // What comes up triggers everybody.
        Link::NotYet => return Ok(Action::await_change()),
    };
    let connection = match connection {
        Ok(connection) => connection,
        Err(saying) => {
            return disconnected::reconcile(context, &term, object, &address, saying)
                .await
                .map(|action| until_expiry(action, object, Timestamp::now()));
        }
    };
    if !context.knows_namespace(&object.namespace().unwrap_or_default()) {
        // Its labels decide; its own event comes, and triggers this object.
        return Ok(Action::requeue(CACHE_LAG));
    }
    let memory = term.memory(&connection.organization_id, &address);
    // Waiting here would keep a turn from others.
    let Ok(mut locked) = memory.try_lock() else {
        // Of many, not all at once: what changes triggers them.
        let others = context.invites.count_for(&address);
        let share = u32::try_from(others / 32).unwrap_or(u32::MAX);
        return Ok(Action::requeue(IN_USE.saturating_mul(share + 1)));
    };
    let outcome = take_turn(key, context, &connection, &term, &address, &mut locked).await;
    let refused_until = locked.refused.as_ref().and_then(|refused| refused.until);
    drop(locked);
    drop(memory);
    term.forget_idle(&connection.organization_id, &address, context.timing);
    outcome.map(|action| {
        let action = until_expiry(action, object, connection.directory.now());
        match refused_until.filter(|until| *until > Instant::now()) {
            Some(until) if action == Action::await_change() => requeue_at(until),
            _ => action,
        }
    })
}

/// Nobody knows what is meant, and what is recorded is for the version that does: nothing of it is written.
async fn say_not_supported(
    context: &Context,
    object: &OrgInvite,
    field: &str,
) -> Result<Action, Error> {
    if object.metadata.deletion_timestamp.is_some() && !claims::holds(object) {
        context.writer.release(object).await?;
        return Ok(Action::await_change());
    }
    let message = format!(
        "This version of the operator does not know the value of spec.{field}: update the operator, or change it. Nothing is sent or taken back meanwhile"
    );
    let recorded = object.status.clone().unwrap_or_default();
    let reason = Reason::NotSupported;
    let status = report::status(
        &recorded,
        &State::Stalled(Saying { reason, message }),
        nobody_sees(&recorded),
        object.metadata.generation.unwrap_or_default(),
        Timestamp::now(),
    );
    if status.conditions != recorded.conditions
        && let Written::Done(_) = context.writer.conditions(object, &status).await?
    {
        context.events.changed(object, &status);
    }
    Ok(Action::await_change())
}

/// What to say of an object whose record is of another organization in Astro, as when its Organization was removed by
/// force and created anew for another one: nothing that this one shows says anything of it.
fn is_elsewhere(object: &OrgInvite, connection: &Connection) -> Option<Saying> {
    let (present, name) = (
        &connection.organization_id,
        &object.spec.organization_ref.name,
    );
    let recorded = object.status.as_ref()?.organization_id.as_ref()?;
    (claims::recorded(object).is_some() && recorded != present).then(|| Saying {
        reason: Reason::OrganizationNotReady,
        message: format!(
            "Organization {name} is for the organization {present}, and what is recorded here is of {recorded}. Create the Organization for {recorded} again under that name, or delete this object with deletionPolicy Retain"
        ),
    })
}

/// Whatever an object waits for: an invitation that is told as out is looked at when it expires, and when its grace is
/// over.
fn until_expiry(action: Action, object: &OrgInvite, now: Timestamp) -> Action {
    let told = object.status.as_ref().filter(|status| {
        status.user_id.is_none() && conditions::is_true(&status.conditions, "Ready")
    });
    let Some(expires_at) = told.and_then(|status| status.expires_at.as_ref()) else {
        return action;
    };
    let ends = [expires_at.0, astro::later(expires_at.0, EXPIRY_GRACE)];
    let next = ends.into_iter().find(|end| *end >= now);
    match next.filter(|_| action == Action::await_change()) {
        Some(end) => requeue_past(end, now),
        None => action,
    }
}

/// Plans and acts on what the caches show now.
async fn take_turn(
    key: &ObjectRef<OrgInvite>,
    context: &Context,
    connection: &Connection,
    term: &Arc<Term>,
    address: &Address,
    memory: &mut Memory,
) -> Result<Action, Error> {
    let Some(object) = context.invites.get(key) else {
        return Ok(Action::await_change());
    };
    if !context.leadership.holds(term) {
        return Ok(Action::await_change());
    }
    let all = context.claimants(address, &connection.organization_id);
    if !memory.caught_up(&all.iter().map(AsRef::as_ref).collect::<Vec<_>>()) {
        return Ok(Action::requeue(CACHE_LAG));
    }
    let others: Vec<Arc<OrgInvite>> = all
        .into_iter()
        .filter(|other| other.metadata.uid != object.metadata.uid)
        .collect();
    let now = connection.directory.now();
    let is_unknown = |other: &Arc<OrgInvite>| {
        let created = other.metadata.creation_timestamp.as_ref();
        !context.knows_namespace(&other.namespace().unwrap_or_default())
            && created.is_none_or(|created| astro::later(created.0, NAMESPACE_LAG) > now)
    };
    if others.iter().any(is_unknown) {
        // Nor is it known what those may do.
        return Ok(Action::requeue(CACHE_LAG));
    }
    let mut turn = Turn {
        context,
        connection,
        term,
        memory,
        object: &object,
        address,
    };
    turn.take(&others).await
}

/// Whether it was told last that nobody can tell who accepted.
fn nobody_sees(recorded: &OrgInviteStatus) -> bool {
    let told = conditions::find(&recorded.conditions, "Accepted");
    told.is_some_and(|accepted| accepted.status == "Unknown")
}

/// Writes the status that says `state`, if it differs. A conflict is planned again by its event.
pub(super) async fn say(
    context: &Context,
    object: &OrgInvite,
    state: State,
) -> Result<Action, Error> {
    let recorded = object.status.clone().unwrap_or_default();
    let blind = nobody_sees(&recorded);
    let state = state.while_replaced(claims::is_replacing(object, &recorded));
    let status = report::status(
        &recorded,
        &state,
        blind,
        object.metadata.generation.unwrap_or_default(),
        Timestamp::now(),
    );
    if status != recorded
        && let Written::Done(_) = context.writer.status(object, &status).await?
    {
        context.events.changed(object, &status);
    }
    Ok(Action::await_change())
}

/// One turn on one object, with the address's lock held.
pub(super) struct Turn<'a> {
    pub(super) context: &'a Context,
    pub(super) connection: &'a Connection,
    pub(super) term: &'a Arc<Term>,
    pub(super) memory: &'a mut Memory,
    pub(super) object: &'a OrgInvite,
    pub(super) address: &'a Address,
}

impl Turn<'_> {
    async fn take(&mut self, others: &[Arc<OrgInvite>]) -> Result<Action, Error> {
        let record = self.object.status.clone().unwrap_or_default();
        let attempt = match claims::attempt(self.object) {
            Some(Err(error)) => {
                let message = format!(
                    "The annotation {ATTEMPT_ANNOTATION} cannot be read ({error}), so that nobody knows whether an e-mail is on its way. Remove it when Astro shows no invitation that this object does not record"
                );
                return self.broken(&record, message).await;
            }
            Some(Ok(attempt)) => Some(attempt),
            None => None,
        };
        let copied = attempt
            .as_ref()
            .is_some_and(|attempt| claims::is_copied(attempt, self.object))
            && record.attempt_id.is_none()
            && record.invite_id.is_none()
            && record.user_id.is_none();
        let open = attempt.as_ref().filter(|_| claims::is_open(self.object));
        if open.is_some_and(|attempt| {
            Address::parse(&attempt.email).ok().as_ref() != Some(self.address)
        }) {
            let message = "The annotation with the last attempt names another address than the spec. It is the operator's own: remove what was put there".to_owned();
            return self.broken(&record, message).await;
        }

        let (observed, begun) = self.observe(&record, open).await;
        if observed.sight == Sight::Blind {
            self.reckon_with(open);
        }
        // Asked of each other object, and the answer is the same for all of a namespace.
        let allowed = RefCell::new(HashMap::new());
        let permits = |object: &OrgInvite, role: Role| {
            let asked = (object.metadata.namespace.clone(), role);
            // An Organization's policy is for its own, and who means another one cannot act beside it.
            object.spec.organization_ref == self.object.spec.organization_ref
                && *allowed
                    .borrow_mut()
                    .entry(asked)
                    .or_insert_with(|| self.allows(object, role))
        };
        let taken_back = self.memory.taken_back.as_deref();
        let standing = claims::standing(self.object, others, permits, taken_back);
        let own = self.own(&record, &observed.sight);
        let namespace = self.object.namespace().unwrap_or_default();
        let now = self.now();
        let plan = plan::plan(&Facts {
            deleting: self.object.metadata.deletion_timestamp.is_some(),
            retain: self.object.spec.deletion_policy == DeletionPolicy::Retain,
            closing: self.connection.policy().closing,
            role: self.object.spec.role,
            resend_when: self.object.spec.resend_when,
            max_resends: self.object.spec.max_resends,
            request: self.request(),
            spacing: self.context.timing.spacing,
            copied,
            open,
            record: &record,
            permits: &|role| self.allows(self.object, role),
            own_invite: &|found| self.is_own(found),
            standing: &standing,
            observed: &observed,
            own: &own,
            now,
            namespace: &namespace,
        });
        tracing::debug!(?plan, ?observed, "planned");
        // What no pass showed changes unseen: each pass to come is a reason to plan again.
        if observed.sight == Sight::NotYet {
            self.connection
                .directory
                .expect(self.counts_from(), self.address.clone());
        } else if matches!(observed.lookup, Lookup::Exists | Lookup::Unknown(_))
            && let Some(begun) = begun
        {
            let next = begun + self.context.timing.listing_delay;
            self.connection.directory.expect(next, self.address.clone());
        }
        let mut record = freshened(record, &observed);
        if let State::Member { .. } = plan.state
            && let Some(request) = self.request()
        {
            // A wish for an e-mail to somebody who is in: it must not be seen to when the person leaves.
            record.last_resend_request = Some(request.to_owned());
        }
        if let State::Stalled(saying) = &plan.state
            && saying.reason == Reason::OutcomeUnknown
            && let Some(open) = open
        {
            // Only a wish that is new from now on answers that.
            let known = record.open_attempt.take_if(|known| known.id == open.id);
            let mut known = known.unwrap_or_else(|| Box::new(open.clone()));
            let wish = self.object.annotations().get(RESEND_ANNOTATION);
            known
                .told
                .get_or_insert_with(|| wish.cloned().unwrap_or_default());
            record.open_attempt = Some(known);
        }
        let inherited = standing.inherits.and_then(|holder| holder.status.clone());
        let inherited = inherited.map(|status| self.inheritable(status));
        // One that is closed says nothing, whoever writes it back.
        let counts = open.is_some() || copied;
        let attempt = attempt.filter(|_| counts);
        self.act(plan, record, attempt, inherited, begun).await
    }

    /// Of a record that is handed over, what the object may have: of somebody who accepted an invitation with a role
    /// that it may not give, that there is a member.
    fn inheritable(&self, status: OrgInviteStatus) -> OrgInviteStatus {
        match status.role {
            Some(role) if !self.allows(self.object, role) => OrgInviteStatus {
                organization_id: status.organization_id,
                user_id: status.user_id,
                gone_since: status.gone_since,
                last_resend_request: status.last_resend_request,
                ..OrgInviteStatus::default()
            },
            _ => status,
        }
    }

    /// Nobody knows what the annotation stands for. With Retain the object goes all the same, once an e-mail that
    /// may be on its way has had time to arrive.
    async fn broken(&mut self, record: &OrgInviteStatus, message: String) -> Result<Action, Error> {
        let goes = self.object.metadata.deletion_timestamp.is_some()
            && self.object.spec.deletion_policy == DeletionPolicy::Retain;
        let settled_from = self.settled_from();
        let wait = settled_from.saturating_duration_since(Instant::now());
        let looked = match self.connection.directory.view(self.address) {
            View::Seen { begun, early, .. } => begun >= settled_from && !early,
            View::Nothing => false,
            View::Unreadable(_) | View::Blind { .. } => true,
        };
        if goes && wait.is_zero() && looked {
            return self.release().await;
        }
        let reason = Reason::AttemptUnreadable;
        let message =
            format!("{message}. With deletionPolicy Retain a deleted object goes without");
        self.say(record, &State::Stalled(Saying { reason, message }))
            .await?;
        if !goes {
            return Ok(Action::await_change());
        }
        if !wait.is_zero() {
            return Ok(Action::requeue(wait));
        }
        self.await_pass(None);
        Ok(Action::await_change())
    }

    pub(super) fn allows(&self, object: &OrgInvite, role: Role) -> bool {
        let name = object.namespace().unwrap_or_default();
        let labels = self.context.namespace_labels(&name);
        policy::allows(
            &self.connection.policy().allow,
            policy::Namespace {
                name: &name,
                labels: &labels,
            },
            role,
            self.address,
        )
    }

    pub(super) fn doubt(&self) -> Option<Doubt> {
        if self.connection.directory.loss().is_some() {
            return Some(Doubt::Missing);
        }
        let created = self.object.metadata.creation_timestamp.as_ref();
        let since = self.connection.unread_since()?;
        created
            .is_none_or(|created| created.0 <= since)
            .then_some(Doubt::Unread)
    }

    fn is_own(&self, found: &Found) -> bool {
        let own = self.connection.token().subject;
        match (own.as_ref(), &found.inviter) {
            (Some(own), Some(inviter)) => own.id == inviter.id,
            // Not learned yet: the attempt's own record vouches for what it sent.
            (None, _) => claims::is_open(self.object),
            (Some(_), None) => false,
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.connection.directory.now()
    }

    fn own(&self, record: &OrgInviteStatus, sight: &Sight) -> Own {
        let recorded = record.invite_id.as_deref();
        let revoked = recorded
            .and_then(|invite| self.memory.answered(invite))
            .filter(|revoked| revoked.agreed || *sight != Sight::Blind);
        let underway = self.memory.underway.as_ref();
        let spacing = self.context.timing.spacing;
        let from_status = record
            .invited_at
            .as_ref()
            .map(|time| astro::later(time.0, spacing));
        // The same in each turn, unless Astro's clock has jumped past it.
        let from_memory = self.memory.last_email.and_then(|(at, next)| {
            let left = spacing.checked_sub(at.elapsed())?;
            let told = Some(next).filter(|next| *next > self.now());
            Some(told.unwrap_or_else(|| astro::later(self.now(), left)))
        });
        Own {
            underway: underway
                .filter(|underway| underway.deleted)
                .map(|underway| underway.attempt.clone()),
            unsent: underway.map(|underway| underway.attempt.clone()),
            revoke_answered_absent: revoked.is_some_and(|revoked| revoked.absent),
            revoke_refused: revoked.is_some_and(|revoked| !revoked.absent),
            refused: self
                .memory
                .refused
                .as_ref()
                .filter(|refused| refused.occasion == self.occasion())
                .filter(|refused| refused.until.is_none_or(|until| until > Instant::now()))
                .map(|refused| refused.saying.clone()),
            settles_at: Some(self.at(self.settled_from())),
            not_before: from_status.max(from_memory),
            unlisted: recorded.is_some() && self.memory.unlisted.as_deref() == recorded,
        }
    }

    /// The resend request, when it was not seen to yet.
    pub(super) fn request(&self) -> Option<&str> {
        let asked = self.object.annotations().get(RESEND_ANNOTATION)?;
        let seen = self.object.status.as_ref()?.last_resend_request.as_ref();
        (seen != Some(asked)).then_some(asked.as_str())
    }

    pub(super) fn occasion(&self) -> Occasion {
        Occasion {
            uid: self.object.uid().unwrap_or_default(),
            generation: self.object.metadata.generation.unwrap_or_default(),
            connection: self.connection.id,
            policy: self.connection.policy().generation,
            request: self.request().map(str::to_owned),
        }
    }
}
