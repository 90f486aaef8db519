//! Reconciling an `OrgInvite`: observe, plan, act, report, one at a time for each address.

use std::sync::Arc;
use std::time::Duration;

use futures::TryFutureExt as _;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::connection::{Connection, Link};
use super::context::Context;
use super::memory::{Memory, Occasion};
use super::report;
use super::write::{Written, has_finalizer};
use crate::astro::budget::{Class, Verb};
use crate::astro::directory::{Pending, Person, View};
use crate::astro::{self, Invite, Role, Subject};
use crate::claims;
use crate::error::Error;
use crate::leadership::Term;
use crate::plan::{
    self, Doubt, Facts, Found, Lookup, Named, Observation, Own, Saying, Sight, State,
};
use crate::policy;
use crate::resources::org_invite::{
    ATTEMPT_ANNOTATION, Attempt, DeletionPolicy, INVITE_ID_ANNOTATION, Inviter, RESEND_ANNOTATION,
};
use crate::resources::{Address, OrgInvite, OrgInviteStatus, Reason};

/// How long a reconcile waits at most for the cache to show our own last write: its watch event
/// triggers the next one, this is for the case that it is lost.
const CACHE_LAG: Duration = Duration::from_secs(5);

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
    attend(&key, &object, &context)
        .inspect_err(|error| {
            tracing::warn!(%error, "the OrgInvite cannot be reconciled; it is tried again");
        })
        .instrument(span)
        .await
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
            let message = format!(
                "{error}. The e-mail cannot be changed: delete this object and create another one"
            );
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
    let connection = match context.link(&term, &object.spec.organization_ref.name) {
        Link::Up(connection) => connection,
        Link::Down(saying) => {
            return without_organization(context, &term, object, &address, saying).await;
        }
        // What comes up triggers everybody.
        Link::NotYet => return Ok(Action::await_change()),
    };
    if !context.knows_namespace(&object.namespace().unwrap_or_default()) {
        // Its labels decide; its own event comes, and triggers this object.
        return Ok(Action::requeue(CACHE_LAG));
    }
    let memory = term.memory(&connection.organization_id, &address);
    let outcome = take_turn(
        key,
        context,
        &connection,
        &term,
        &address,
        &mut *memory.lock().await,
    )
    .await;
    drop(memory);
    term.forget_idle(&connection.organization_id, &address, context.timing);
    outcome
}

/// Plans and acts on what the caches show now: the address's lock may have taken a while.
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
        .filter(|other| other.uid() != object.uid())
        .collect();
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

/// The Organization is missing or not ready: nothing can be observed.
async fn without_organization(
    context: &Context,
    term: &Term,
    object: &OrgInvite,
    address: &Address,
    saying: Saying,
) -> Result<Action, Error> {
    if object.metadata.deletion_timestamp.is_some() {
        let retain = object.spec.deletion_policy == DeletionPolicy::Retain;
        let open = claims::is_open(object);
        if retain && open {
            // As with an Organization: an e-mail that is on its way could be sent twice else.
            let last_call = term.last_call(address).await.unwrap_or(term.began);
            let settles_at = last_call.max(term.began) + context.timing.settle;
            let wait = settles_at.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                let message = format!(
                    "{}. The object goes once an e-mail that may be on its way has had time to arrive",
                    saying.message
                );
                let reason = saying.reason;
                say(
                    context,
                    object,
                    State::Progressing(Saying { reason, message }),
                )
                .await?;
                return Ok(Action::requeue(wait));
            }
        }
        let nothing = claims::invite(object).is_none() && !open;
        if nothing || retain {
            context.writer.release(object).await?;
            return Ok(Action::await_change());
        }
        let message = format!(
            "{}. The invitation cannot be taken back meanwhile",
            saying.message
        );
        return say(
            context,
            object,
            State::Progressing(Saying {
                reason: saying.reason,
                message,
            }),
        )
        .await;
    }
    let recorded = claims::invite(object).is_some();
    say(
        context,
        object,
        if recorded {
            State::Obscured(saying)
        } else {
            State::Progressing(saying)
        },
    )
    .await
}

/// Writes the status that says `state`, if it differs. A conflict is planned again by its event.
async fn say(context: &Context, object: &OrgInvite, state: State) -> Result<Action, Error> {
    let recorded = object.status.clone().unwrap_or_default();
    let status = report::status(
        &recorded,
        &state,
        false,
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
                return say(
                    self.context,
                    self.object,
                    State::Stalled(Saying {
                        reason: Reason::AttemptUnreadable,
                        message,
                    }),
                )
                .await;
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
            return say(
                self.context,
                self.object,
                State::Stalled(Saying {
                    reason: Reason::AttemptUnreadable,
                    message,
                }),
            )
            .await;
        }

        let (observed, begun) = self.observe(&record, open).await;
        let taken_back = self.memory.taken_back.as_deref();
        let may_inherit = |heir: &OrgInvite, holder: &OrgInvite| {
            if taken_back.is_some() && claims::invite(holder) == taken_back {
                return false;
            }
            let given = holder.status.as_ref().and_then(|status| status.role);
            self.allows(heir, heir.spec.role) && given.is_some_and(|role| self.allows(heir, role))
        };
        let standing = claims::standing(self.object, others, may_inherit);
        let own = self.own(&record);
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
        } else if observed.lookup == Lookup::Exists
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
        let inherited = standing.inherits.and_then(|holder| holder.status.clone());
        self.act(plan, record, attempt, inherited, begun).await
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

    fn doubt(&self) -> Option<Doubt> {
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

    fn own(&self, record: &OrgInviteStatus) -> Own {
        let recorded = record.invite_id.as_deref();
        let revoked = self
            .memory
            .revoked
            .as_ref()
            .filter(|revoked| Some(revoked.invite.as_str()) == recorded);
        let underway = self.memory.underway.as_ref();
        let spacing = self.context.timing.spacing;
        let from_status = record
            .invited_at
            .as_ref()
            .map(|time| astro::later(time.0, spacing));
        let from_memory = self
            .memory
            .last_email
            .map(|at| astro::later(self.now(), spacing.saturating_sub(at.elapsed())));
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
                .filter(|refused| refused.0 == self.occasion())
                .map(|refused| refused.1.clone()),
            settles_at: Some(self.at(self.settled_from())),
            not_before: from_status.max(from_memory),
            unlisted: recorded.is_some() && self.memory.unlisted.as_deref() == recorded,
        }
    }

    /// The resend request, when it was not seen to yet.
    fn request(&self) -> Option<&str> {
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

    // --- observe

    /// What the directory says of the address, as far as it counts, and when its pass began.
    async fn observe(
        &mut self,
        record: &OrgInviteStatus,
        open: Option<&Attempt>,
    ) -> (Observation, Option<Instant>) {
        let mut observed = Observation {
            sight: Sight::NotYet,
            settled: false,
            term_settled: false,
            lookup: Lookup::NotAsked,
            named: None,
            next_look: None,
            doubt: self.doubt(),
        };
        let (begun, person, first) = match self.connection.directory.view(self.address) {
            View::Nothing => return (observed, None),
            View::Unreadable(why) => {
                observed.sight = Sight::Unreadable(why);
                return (observed, None);
            }
            View::Blind => {
                observed.sight = Sight::Blind;
                self.observe_blindly(&mut observed, record, open).await;
                return (observed, None);
            }
            // Of an invitation that is recorded, get-invite and a second pass tell.
            View::Seen {
                begun,
                between: true,
                ..
            } if open.is_some() || record.invite_id.is_none() => return (observed, Some(begun)),
            View::Seen {
                begun,
                person,
                first,
                ..
            } => (begun, person, first),
        };
        // A pass of an earlier term says nothing: rule 6.
        if begun < self.term.began || begun < self.counts_from() {
            return (observed, Some(begun));
        }
        observed.term_settled = begun >= self.term.began + self.context.timing.settle;
        observed.settled = !first && begun >= self.settled_from();
        observed.sight = match person {
            None => Sight::Absent,
            Some(Person::Member { user_id, role }) => Sight::Member { user_id, role },
            Some(Person::Barred) => Sight::Barred,
            Some(Person::Unidentified) => Sight::Unidentified,
            Some(Person::Pending { invites, role }) => self.pending(&invites, role, record),
        };
        let shown = |found: &Found| self.memory.unlisted.as_ref() == Some(&found.id);
        if matches!(&observed.sight, Sight::Pending(found) if found.iter().any(shown)) {
            self.memory.unlisted = None;
        }
        if observed.sight == Sight::Absent
            && open.is_none()
            && observed.doubt != Some(Doubt::Missing)
            && self.object.metadata.deletion_timestamp.is_none()
            && record.user_id.is_none()
            && let Some(invite) = &record.invite_id
        {
            observed.lookup = self.look_up(invite, begun).await;
            let before_expiry = record
                .expires_at
                .as_ref()
                .is_some_and(|time| self.now() < time.0);
            if before_expiry && observed.lookup == Lookup::Exists {
                self.memory.unlisted = Some(invite.clone());
            }
        }
        (observed, Some(begun))
    }

    /// What a row of a pending person shows. Astro may go on listing invites that have expired: but for
    /// the recorded one, they stand for nothing.
    fn pending(&self, invites: &[Pending], role: Option<Role>, record: &OrgInviteStatus) -> Sight {
        let now = self.now();
        let shown: Vec<Found> = invites
            .iter()
            .filter(|invite| {
                record.invite_id.as_deref() == Some(&invite.id)
                    || !astro::is_over(invite.expires_at, now)
            })
            .map(|invite| shown(invite, role))
            .collect();
        if shown.is_empty() {
            Sight::Absent
        } else {
            Sight::Pending(shown)
        }
    }

    /// From when on a pass counts for the address: a listing delay after our last call on it.
    fn counts_from(&self) -> Instant {
        self.memory
            .last_call
            .map_or(self.term.began, |at| at + self.context.timing.listing_delay)
    }

    /// Rule 3: from when on a pass may decide over an open attempt.
    fn settled_from(&self) -> Instant {
        self.memory
            .last_call
            .map_or(self.term.began, |at| at.max(self.term.began))
            + self.context.timing.settle
    }

    /// get-invite of a recorded invite that the directory does not show; once for each pass, and not
    /// again once two passes agree that it is gone.
    async fn look_up(&mut self, invite: &str, begun: Instant) -> Lookup {
        if let Some((id, since)) = &self.memory.gone
            && id == invite
        {
            let agreed = begun >= *since + self.context.timing.listing_delay;
            return if agreed {
                Lookup::Gone
            } else {
                Lookup::GoneOnce
            };
        }
        if self
            .memory
            .exists
            .as_ref()
            .is_some_and(|(id, at)| id == invite && *at == begun)
        {
            return Lookup::Exists;
        }
        let lookup = self.get(invite).await;
        match lookup {
            Lookup::Exists => self.memory.exists = Some((invite.to_owned(), begun)),
            Lookup::GoneOnce => self.memory.gone = Some((invite.to_owned(), begun)),
            _ => {}
        }
        lookup
    }

    /// get-invite, when the budget allows it now.
    async fn get(&self, invite: &str) -> Lookup {
        match self.get_invite(invite).await {
            Err(at) => Lookup::InLine(self.at(at)),
            Ok(Ok(_)) => Lookup::Exists,
            // 400 is one of the answers for an ended invite; both count only from the API itself.
            Ok(Err(error)) if error.says_absent() || error.says_bad_request() => Lookup::GoneOnce,
            Ok(Err(error)) => Lookup::Unknown(error.to_string()),
        }
    }

    async fn get_invite(&self, invite: &str) -> Result<Result<Invite, astro::Error>, Instant> {
        let uid = self.object.uid().unwrap_or_default();
        self.connection.budget.take(Verb::Get, Class::Later, &uid)?;
        let answer = self.connection.astro.get_invite(invite).await;
        match &answer {
            Err(astro::Error::Refused(refusal)) if refusal.status == 429 => {
                let pause = refusal.retry_after.unwrap_or(Duration::from_secs(1));
                self.connection.budget.pause(Verb::Get, pause);
                return Err(Instant::now() + pause);
            }
            Err(astro::Error::Refused(refusal)) if refusal.status == 401 => {
                self.connection.directory.reject(refusal.clone());
            }
            _ => {}
        }
        Ok(answer)
    }

    /// What can be known where the token may not list users.
    async fn observe_blindly(
        &mut self,
        observed: &mut Observation,
        record: &OrgInviteStatus,
        open: Option<&Attempt>,
    ) {
        if let Some(attempt) = open {
            observed.named = self.ask_named().await;
            let underway = self.memory.underway.as_ref();
            if underway.is_none_or(|underway| underway.attempt != attempt.id) {
                return;
            }
        }
        let Some(invite) = record.invite_id.as_deref() else {
            return;
        };
        let deleting = self.object.metadata.deletion_timestamp.is_some();
        let refused = self.memory.revoked.as_ref().is_some_and(|one| !one.absent);
        if record.user_id.is_some() || (deleting && !refused) {
            return;
        }
        let interval = self.connection.directory.interval();
        // What would be replaced now is asked for now.
        let wanted = open.is_some()
            || record.role != Some(self.object.spec.role)
            || self.request().is_some();
        let fresh = self.memory.watched.as_deref().filter(|(id, at, lookup)| {
            // Gone is gone; a refusal to take it back is younger than what was seen before.
            let holds = *lookup == Lookup::GoneOnce || (!wanted && at.elapsed() < interval);
            id == invite && !deleting && holds
        });
        if let Some((_, at, lookup)) = fresh {
            observed.lookup = lookup.clone();
            observed.next_look = Some(self.at(*at + interval));
            return;
        }
        observed.lookup = self.get(invite).await;
        if !matches!(observed.lookup, Lookup::InLine(_)) {
            let now = Instant::now();
            let watched = (invite.to_owned(), now, observed.lookup.clone());
            self.memory.watched = Some(Box::new(watched));
            observed.next_look = Some(self.at(now + interval));
        }
    }

    /// get-invite of the invite that a person named as the one that an open attempt sent.
    async fn ask_named(&mut self) -> Option<Named> {
        let id = self.object.annotations().get(INVITE_ID_ANNOTATION)?.trim();
        if let Some((asked, answer)) = self.memory.named.as_deref()
            && asked == id
        {
            return Some(answer.clone());
        }
        if !astro::http::is_id(id) {
            return Some(Named::Refused("it is not an ID".to_owned()));
        }
        let answer = match self.get_invite(id).await {
            Err(at) => return Some(Named::InLine(self.at(at))),
            // Only Astro's own word that there is none says anything about the invitation.
            Ok(Err(error)) if error.says_absent() || error.says_bad_request() => {
                Named::Refused(error.to_string())
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the invitation that was named cannot be looked at");
                return Some(Named::InLine(astro::later(
                    self.now(),
                    astro::directory::backoff(5),
                )));
            }
            Ok(Ok(invite)) => {
                let whom = invite
                    .invitee
                    .as_ref()
                    .and_then(|who| who.username.as_deref());
                let same = whom.and_then(|whom| Address::parse(whom).ok());
                if invite.organization_id != self.connection.organization_id {
                    Named::Refused("it is for another organization".to_owned())
                } else if same.as_ref() != Some(self.address) {
                    Named::Refused("it is for another address".to_owned())
                } else {
                    Named::Found(found(&invite))
                }
            }
        };
        self.memory.named = Some(Box::new((id.to_owned(), answer.clone())));
        Some(answer)
    }

    /// A moment of the process's clock by Astro's.
    fn at(&self, at: Instant) -> Timestamp {
        astro::later(self.now(), at.saturating_duration_since(Instant::now()))
    }

    /// When the next pass would have to begin for the plan to know more.
    pub(super) fn next_pass(&self, begun: Option<Instant>) -> Instant {
        let now = Instant::now();
        let Some(begun) = begun else { return now };
        let gone = self
            .memory
            .gone
            .as_ref()
            .map(|(_, since)| *since + self.context.timing.listing_delay);
        [
            Some(self.counts_from()),
            Some(self.term.began + self.context.timing.settle),
            Some(self.settled_from()),
            gone,
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > begun)
        .min()
        .unwrap_or(now)
    }
}

/// What the directory shows of an invite.
fn shown(invite: &Pending, role: Option<Role>) -> Found {
    Found {
        id: invite.id.clone().into(),
        role,
        expires_at: invite.expires_at,
        inviter: invite.inviter.as_deref().map(recorded),
    }
}

/// What get-invite shows of an invite.
fn found(invite: &Invite) -> Found {
    Found {
        id: invite.id.clone(),
        role: None,
        expires_at: invite.expires_at,
        inviter: inviter(invite),
    }
}

/// Who sent an invite, as the status says it.
pub(super) fn inviter(invite: &Invite) -> Option<Inviter> {
    invite.inviter.as_ref().map(recorded)
}

fn recorded(subject: &Subject) -> Inviter {
    Inviter {
        id: subject.id.clone(),
        subject_type: subject.kind,
        name: subject.name.clone(),
    }
}

/// The record with what the directory shows now of the recorded invite.
fn freshened(mut record: OrgInviteStatus, observed: &Observation) -> OrgInviteStatus {
    if let Sight::Pending(found) = &observed.sight
        && let Some(found) = found
            .iter()
            .find(|found| record.invite_id.as_ref() == Some(&found.id))
    {
        if let Some(expires_at) = found.expires_at {
            record.expires_at = Some(report::time(expires_at));
        }
        if found.inviter.is_some() {
            record.inviter.clone_from(&found.inviter);
        }
    }
    record
}
