//! Performing the one step of a plan: the only place that changes Astro.
//!
//! The order of calls and writes is rule 1 of "Exactly one e-mail" in `docs/design.md`.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use tokio::time::Instant;

use super::events::Deed;
use super::memory::{Refused, Revoked};
use super::org_invite::Turn;
use super::report;
use super::send::random_id;
use super::write::{Written, has_finalizer};
use crate::astro::budget::{Class, Verb};
use crate::astro::directory::{Health, View};
use crate::astro::http::is_id;
use crate::astro::{self, Refusal, Role};
use crate::claims;
use crate::error::Error;
use crate::plan::{Found, Plan, Saying, State, Step};
use crate::resources::conditions::is_true;
use crate::resources::org_invite::Attempt;
use crate::resources::{OrgInvite, OrgInviteStatus, Reason};

/// Who waits no longer than that for a place in line does not tell so.
const SOON: Duration = Duration::from_secs(5);
/// How long it takes until a token that may not invite is tried again for an object.
const HOUR: Duration = Duration::from_hours(1);

impl<'a> Turn<'a> {
    /// Takes the step and says its state.
    pub(super) async fn act(
        &mut self,
        plan: Plan,
        record: OrgInviteStatus,
        attempt: Option<Attempt>,
        inherited: Option<OrgInviteStatus>,
        begun: Option<Instant>,
    ) -> Result<Action, Error> {
        let changes = plan.step.describe();
        if self.connection.policy().suspend
            && let Some(action) = changes.clone().or_else(|| plan.later())
        {
            return self.suspended(record, action).await;
        }
        if changes.is_some()
            && let Some(at) = self.memory.retry_at.filter(|at| *at > Instant::now())
        {
            return Ok(requeue_at(at));
        }
        match (plan.step, attempt) {
            (Step::AwaitPass, _) => {
                self.say(&record, &plan.state).await?;
                self.await_pass(begun);
                Ok(Action::await_change())
            }
            (Step::AwaitTime(time), _) => {
                self.say(&record, &plan.state).await?;
                Ok(requeue_past(time, self.now()))
            }
            (
                Step::Send {
                    replaces,
                    unseen,
                    resends,
                    request,
                },
                _,
            ) => {
                let attempt = Attempt {
                    id: random_id(),
                    uid: self.object.metadata.uid.clone(),
                    email: self.object.spec.email.clone(),
                    role: self.object.spec.role,
                    replaces,
                    resends,
                    request,
                    after: Some(record.attempt_id.clone().unwrap_or_default()),
                    named: self.named().filter(|id| is_id(id)).map(str::to_owned),
                    told: None,
                };
                self.send(&record, attempt, unseen).await
            }
            (Step::Post, Some(attempt)) => {
                if let Some(at) = self.permit(None, Some(Class::First)) {
                    return self.queue(&record, at).await;
                }
                self.post(self.object.clone(), &record, &attempt).await
            }
            (Step::Adopt { found, role }, attempt) => {
                self.adopt(record, attempt, found, role).await
            }
            (Step::Inherit, _) => self.inherit(inherited.unwrap_or_default()).await,
            (Step::Close, Some(attempt)) => {
                let closed = closed(&record, &attempt);
                self.say(&closed, &plan.state).await?;
                self.memory.underway = None;
                Ok(Action::await_change())
            }
            (Step::Drop(invite), _) => self.drop_left_over(&invite).await,
            (Step::Revoke(invite), _) => self.revoke(&record, &invite).await,
            (Step::Release, _) => self.release().await,
            (Step::Abandon, Some(attempt)) => {
                self.say(&abandoned(&record, &attempt), &plan.state).await?;
                self.memory.underway = None;
                Ok(Action::await_change())
            }
            (Step::Rest | Step::Post | Step::Close | Step::Abandon, _) => {
                self.say(&record, &plan.state).await?;
                Ok(Action::await_change())
            }
        }
    }

    /// Says what would be done. An edit of the Organization plans it again.
    async fn suspended(
        &mut self,
        record: OrgInviteStatus,
        action: String,
    ) -> Result<Action, Error> {
        let message =
            format!("The Organization is suspended. Without that, the next step is to {action}");
        let mut status = self.status(
            &record,
            &State::Obscured(Saying {
                reason: Reason::Suspended,
                message,
            }),
        );
        status.planned_action = Some(action);
        let object = self.object;
        self.write(object, &status).await?;
        Ok(Action::await_change())
    }

    /// To be planned again when more is known: by a pass, or, where there is none, after the back-off.
    pub(super) fn again(&self) -> Action {
        if self.blind() {
            let now = || Action::requeue(Duration::ZERO);
            return self.memory.retry_at.map_or_else(now, requeue_at);
        }
        self.await_pass(None);
        Action::await_change()
    }

    /// Whether the token may not list users, so that no pass tells who is there.
    pub(super) fn blind(&self) -> bool {
        matches!(self.connection.directory.health(), Health::Forbidden(..))
    }

    /// Where nobody can look, whether Astro itself refused a pass that began a listing delay after `answered`: something
    /// else may have answered in its place, or Astro from an older state.
    pub(super) fn blind_since(&self, answered: Instant) -> Option<bool> {
        match self.connection.directory.view(self.address) {
            View::Blind { begun } => Some(begun >= answered + self.context.timing.listing_delay),
            _ => None,
        }
    }

    /// What a refusal means. That of a POST is remembered until something that it depends on changes; `replaced`: the
    /// invitation before it is deleted.
    pub(super) fn refused(&mut self, refusal: &Refusal, verb: Verb, replaced: bool) -> State {
        let what = if verb == Verb::Post {
            "invite people"
        } else {
            "take invitations back"
        };
        let saying = match refusal.status {
            429 => {
                self.connection.budget.pause(verb, refusal.pause());
                return State::Progressing(Saying {
                    reason: Reason::RateLimited,
                    message: format!("{refusal}. It is tried again"),
                });
            }
            401 => {
                self.memory.failed();
                self.connection.directory.reject(refusal.clone());
                return State::Progressing(Saying {
                    reason: Reason::TokenRejected,
                    message: format!(
                        "{refusal}. It is tried again once the Organization's token is accepted"
                    ),
                });
            }
            403 if refusal.from_api => {
                self.connection.learn(verb, false);
                Saying {
                    reason: Reason::TokenNotAllowed,
                    message: format!(
                        "{refusal}. The Organization's token may not {what}: give it a role that may, or put another token into the Secret. It is tried again within the hour"
                    ),
                }
            }
            _ if verb != Verb::Post => {
                return State::Progressing(Saying {
                    reason: Reason::RevokeFailed,
                    message: format!(
                        "The invitation could not be taken back: {refusal}. It is tried again"
                    ),
                });
            }
            // Somebody on the way said so, and not Astro.
            _ if !refusal.from_api => {
                self.memory.failed();
                return State::Progressing(Saying {
                    reason: Reason::AstroUnavailable,
                    message: format!("{refusal}. Nothing was sent, and it is tried again"),
                });
            }
            _ => Saying {
                reason: Reason::Refused,
                message: format!(
                    "{refusal}. It is not tried again until the spec, the Organization or its token changes, or somebody asks with the annotation iam.astronomer.io/resend-requested-at"
                ),
            },
        };
        let saying = if replaced {
            let message = format!(
                "{}. The invitation before it was taken back already, so that the person has none",
                saying.message
            );
            Saying { message, ..saying }
        } else {
            saying
        };
        if verb == Verb::Post {
            let until = (saying.reason == Reason::TokenNotAllowed).then(|| Instant::now() + HOUR);
            self.remember_refused(&saying, until);
        }
        State::Stalled(saying)
    }

    /// The POST is not tried again for the same occasion.
    pub(super) fn remember_refused(&mut self, saying: &Saying, until: Option<Instant>) {
        self.memory.refused = Some(Box::new(Refused {
            occasion: self.occasion(),
            saying: saying.clone(),
            until,
        }));
    }

    /// Rule 9: the finalizer first, then the record.
    async fn adopt(
        &mut self,
        record: OrgInviteStatus,
        attempt: Option<Attempt>,
        found: Found,
        role: Role,
    ) -> Result<Action, Error> {
        let Some(object) = self.hold().await? else {
            return Ok(Action::await_change());
        };
        tracing::info!(invite = %found.id, "adopted");
        let note = format!("Invitation {} was found and is this object's own", found.id);
        // A wish that came with a manifest was for an e-mail of another time.
        let is_new =
            record.invite_id.is_none() && record.attempt_id.is_none() && record.user_id.is_none();
        let wished = self.request().filter(|_| is_new).map(str::to_owned);
        let sent_at = record
            .invited_at
            .clone()
            .filter(|_| record.invite_id.as_ref() == Some(&found.id));
        let settled = attempt.filter(|attempt| record.attempt_id.as_ref() != Some(&attempt.id));
        // The one that was to be replaced is no e-mail of that attempt.
        let sent = settled
            .as_ref()
            .filter(|attempt| attempt.replaces.as_ref() != Some(&found.id));
        // One that came with a manifest went out another time, for another object.
        if let Some(attempt) = sent.filter(|attempt| !claims::is_copied(attempt, self.object)) {
            self.count_email(&record, attempt);
        }
        let record = OrgInviteStatus {
            resends: sent.map_or(record.resends, |attempt| attempt.resends),
            last_resend_request: sent.map_or(wished.or(record.last_resend_request), |attempt| {
                attempt.request.clone()
            }),
            invite_id: Some(found.id),
            attempt_id: settled.map(|attempt| attempt.id).or(record.attempt_id),
            open_attempt: None,
            organization_id: Some(self.connection.organization_id.clone()),
            email: Some(self.object.spec.email.clone()),
            role: Some(role),
            invited_at: sent_at.or(Some(report::time(self.now()))),
            expires_at: found.expires_at.map(report::time),
            user_id: None,
            gone_since: None,
            inviter: found.inviter,
            observed_generation: record.observed_generation,
            conditions: record.conditions,
            planned_action: None,
        };
        let seen_to = role == self.object.spec.role;
        let status = self.status_of(&record, &State::Invited, seen_to);
        if self.write(&object, &status).await? {
            self.context.events.did(self.object, Deed::Adopted, &note);
            self.memory.underway = None;
            self.memory.taken_back = None;
        }
        Ok(Action::await_change())
    }

    /// Takes over the record of an object in deletion, whatever became of its invite.
    async fn inherit(&mut self, inherited: OrgInviteStatus) -> Result<Action, Error> {
        let Some(object) = self.hold().await? else {
            return Ok(Action::await_change());
        };
        tracing::info!(
            invite = inherited.invite_id,
            "took over from an OrgInvite that is being deleted"
        );
        let reason = if inherited.invite_id.is_some() {
            Reason::Accepted
        } else {
            Reason::AlreadyMember
        };
        let said = |reason, message: &str| Saying {
            reason,
            message: format!(
                "{message}, as another OrgInvite saw it, from which this one took over"
            ),
        };
        let state = match (&inherited.user_id, &inherited.gone_since) {
            (None, _) => State::Invited,
            (Some(user_id), None) => State::Member {
                user_id: user_id.clone(),
                saying: said(reason, "The person is a member of the organization"),
            },
            (Some(_), Some(_)) => State::Gone(said(
                Reason::MemberRemoved,
                "The person was a member and is no longer",
            )),
        };
        let note = if inherited.user_id.is_none() {
            "The invitation of an OrgInvite that is being deleted is this object's own now"
        } else {
            "An OrgInvite that is being deleted saw the person as a member, and this object goes on from there"
        };
        let own = self.object.status.clone().unwrap_or_default();
        let record = OrgInviteStatus {
            attempt_id: own.attempt_id,
            observed_generation: own.observed_generation,
            conditions: own.conditions,
            ..inherited
        };
        let mut status = self.status_of(&record, &state, false);
        // Whatever became of it before: an invitation that was declined stays so.
        status.gone_since = record.gone_since;
        if self.write(&object, &status).await? {
            self.context.events.did(self.object, Deed::TakenOver, note);
        }
        Ok(Action::await_change())
    }

    /// Sets the finalizer if it is absent; `None` on a conflict.
    async fn hold(&mut self) -> Result<Option<Cow<'a, OrgInvite>>, Error> {
        if has_finalizer(self.object) {
            return Ok(Some(Cow::Borrowed(self.object)));
        }
        if !self.context.leadership.holds(self.term) {
            return Ok(None);
        }
        match self.context.writer.hold(self.object).await? {
            Written::Done(object) => {
                self.memory.wrote(object.as_ref());
                Ok(Some(Cow::Owned(*object)))
            }
            Written::Conflict | Written::Gone => Ok(None),
        }
    }

    /// Deletes the invite that a settled attempt was to replace.
    async fn drop_left_over(&mut self, invite: &str) -> Result<Action, Error> {
        if let Some(at) = self.permit(Some(Class::Later), None) {
            return Ok(requeue_at(at));
        }
        if !self.context.leadership.holds(self.term) {
            return Ok(Action::await_change());
        }
        let answer = self.delete(invite).await;
        if matches!(answer, Ok(()) | Err(astro::Error::Unknown { .. })) {
            self.memory.taken_back = Some(invite.to_owned());
        }
        match answer {
            Ok(()) => {
                tracing::info!(%invite, "deleted the invitation that was to be replaced");
                self.memory.worked();
            }
            Err(error) => {
                tracing::warn!(%error, %invite, "the invitation that was to be replaced could not be deleted");
                if let astro::Error::Refused(refusal) = &error {
                    self.refused(refusal, Verb::Delete, false);
                }
                self.memory.failed();
            }
        }
        self.await_pass(None);
        Ok(Action::await_change())
    }

    /// Takes the recorded invitation back, and lets the object go when that is certain.
    async fn revoke(&mut self, record: &OrgInviteStatus, invite: &str) -> Result<Action, Error> {
        if let Some(before) = self.memory.answered(invite)
            && self.blind_since(before.since) == Some(false)
        {
            let from = before.since + self.context.timing.listing_delay;
            self.connection.directory.want(from, self.address.clone());
            return Ok(Action::await_change());
        }
        if let Some(at) = self.permit(Some(Class::First), None) {
            return self.queue(record, at).await;
        }
        if !self.context.leadership.holds(self.term) {
            return Ok(Action::await_change());
        }
        let answer = self.delete(invite).await;
        if matches!(answer, Ok(()) | Err(astro::Error::Unknown { .. })) {
            self.memory.taken_back = Some(invite.to_owned());
        }
        let error = match answer {
            Ok(()) => {
                tracing::info!(%invite, "revoked");
                self.memory.worked();
                // Should somebody else's write keep the object from going now.
                self.memory.revoked = Some(Revoked {
                    invite: invite.to_owned(),
                    absent: true,
                    since: Instant::now(),
                    agreed: true,
                    disproved: false,
                });
                self.connection.learn(Verb::Delete, true);
                let released = self.release().await;
                let note = format!("Invitation {invite} was taken back");
                self.context.events.did(self.object, Deed::Revoked, &note);
                return released;
            }
            Err(error) => error,
        };
        let absent = error.says_absent();
        let refused = error.says_bad_request();
        let answered = self.memory.answered(invite);
        // Also when a list has disproved it since.
        let before = self.memory.revoked.as_ref();
        let again = before.is_some_and(|before| before.invite == invite && before.absent == absent);
        let agreed = answered.is_some_and(|before| before.agreed);
        if absent || refused {
            tracing::info!(%invite, %error, "the invitation is not there to be revoked: looking why");
            self.note_answer(invite, absent);
        }
        // The same once more, after a look that shows it pending: that needs telling.
        let looked = (absent || refused) && again && (agreed || !self.blind());
        if looked || !absent {
            self.memory.failed();
        }
        if looked || !(absent || refused) {
            tracing::warn!(%invite, %error, "the invitation could not be revoked");
            let state = match &error {
                astro::Error::Refused(refusal) => self.refused(refusal, Verb::Delete, false),
                astro::Error::Unknown { .. } => State::Progressing(Saying {
                    reason: Reason::RevokeFailed,
                    message: format!(
                        "The invitation could not be taken back: {error}. It is tried again, and the object stays until then"
                    ),
                }),
            };
            self.say(record, &state).await?;
        }
        Ok(self.again())
    }

    /// Remembers that a DELETE was answered with 404, or 400. Where nobody can look that counts the second time, after
    /// a pass that Astro itself refused; whether it does now.
    pub(super) fn note_answer(&mut self, invite: &str, absent: bool) -> bool {
        let now = Instant::now();
        let before = self.memory.answered(invite);
        let before = before.filter(|before| before.absent == absent);
        let since = before.map_or(now, |before| before.since);
        let agreed =
            before.is_some_and(|before| before.agreed) || self.blind_since(since) == Some(true);
        self.memory.revoked = Some(Revoked {
            invite: invite.to_owned(),
            absent,
            since,
            agreed,
            disproved: false,
        });
        agreed
    }

    pub(super) async fn release(&mut self) -> Result<Action, Error> {
        if !has_finalizer(self.object) || !self.context.leadership.holds(self.term) {
            return Ok(Action::await_change());
        }
        if let Written::Done(object) = self.context.writer.release(self.object).await? {
            tracing::info!("released");
            self.memory.wrote(object.as_ref());
            self.connection.budget.forget(&self.uid());
        }
        Ok(Action::await_change())
    }

    pub(super) async fn delete(&mut self, invite: &str) -> Result<(), astro::Error> {
        let answer = self.connection.astro.delete_invite(invite).await;
        self.memory.called();
        let took_back = match &answer {
            Ok(()) => Some(Instant::now()),
            // It may have taken effect, or may yet: many of them must not look as if people had gone.
            Err(astro::Error::Unknown { .. }) => Some(Instant::now() + self.context.timing.settle),
            Err(astro::Error::Refused(_)) => None,
        };
        if let Some(at) = took_back {
            let address = self.address.clone();
            self.connection.directory.took_back(address, at);
        }
        answer
    }

    /// Waits for its place in line. What kept the object from going on before is told no longer.
    pub(super) async fn queue(
        &mut self,
        record: &OrgInviteStatus,
        at: Instant,
    ) -> Result<Action, Error> {
        let told = &record.conditions;
        let outdated = is_true(told, "Reconciling") || is_true(told, "Stalled");
        if outdated && at > Instant::now() + SOON {
            let saying = Saying {
                reason: Reason::Queued,
                message: "Its turn has not come yet: Astro's limits let some calls a second pass"
                    .to_owned(),
            };
            let state = if record.invite_id.is_some() || record.user_id.is_some() {
                State::Obscured(saying)
            } else {
                State::Progressing(saying)
            };
            self.say(record, &state).await?;
        }
        Ok(requeue_at(at))
    }

    /// Takes the permits for the calls to come, or tells when to come back.
    pub(super) fn permit(&self, delete: Option<Class>, post: Option<Class>) -> Option<Instant> {
        let (budget, uid) = (&self.connection.budget, self.uid());
        if let (Some(delete), Some(post)) = (delete, post) {
            // Neither is spent before both are to be had.
            let at = budget
                .reserve(Verb::Delete, delete, &uid)
                .max(budget.reserve(Verb::Post, post, &uid));
            if at > Instant::now() {
                return Some(at);
            }
        }
        let take = |class: Option<Class>, verb| budget.take(verb, class?, &uid).err();
        take(delete, Verb::Delete)
            .into_iter()
            .chain(take(post, Verb::Post))
            .max()
    }

    /// Asks to be planned again after the next pass that could tell more.
    pub(super) fn await_pass(&self, begun: Option<Instant>) {
        let begun = begun.or(self.memory.last_call);
        self.connection
            .directory
            .want(self.next_pass(begun), self.address.clone());
    }

    // --- report

    pub(super) fn status(&self, record: &OrgInviteStatus, state: &State) -> OrgInviteStatus {
        self.status_of(record, state, true)
    }

    /// The status that says `state`; unless the spec is `seen_to`, of a generation before that of the spec.
    pub(super) fn status_of(
        &self,
        record: &OrgInviteStatus,
        state: &State,
        seen_to: bool,
    ) -> OrgInviteStatus {
        let generation = self.object.metadata.generation.unwrap_or_default();
        let generation = if seen_to {
            generation
        } else {
            record.observed_generation.min(generation - 1)
        };
        let replaced = claims::is_replacing(self.object, record);
        let state = state.clone().while_replaced(replaced);
        let mut status = report::status(record, &state, self.blind(), generation, self.now());
        status
            .open_attempt
            .take_if(|attempt| claims::is_ended(attempt, record));
        status
    }

    /// Writes the status that says `state`, starting from `record`, if it differs from the object's.
    pub(super) async fn say(
        &mut self,
        record: &OrgInviteStatus,
        state: &State,
    ) -> Result<(), Error> {
        let status = if *state == State::Unchanged {
            record.clone()
        } else {
            self.status(record, state)
        };
        if status.user_id.is_some() {
            // What is known of a member is handed over when the object goes.
            if let Some(held) = self.hold().await? {
                self.write(&held, &status).await?;
            }
            return Ok(());
        }
        let object = self.object;
        self.write(object, &status).await?;
        Ok(())
    }

    /// Writes the status if it differs. Whether it is written now.
    pub(super) async fn write(
        &mut self,
        object: &OrgInvite,
        status: &OrgInviteStatus,
    ) -> Result<bool, Error> {
        if object.status.as_ref() == Some(status) || !self.context.leadership.holds(self.term) {
            return Ok(false);
        }
        // A conflict or a deletion is planned again by its own event.
        let Written::Done(written) = self.context.writer.status(object, status).await? else {
            return Ok(false);
        };
        self.memory.wrote(written.as_ref());
        self.context.events.changed(object, status);
        Ok(true)
    }

    pub(super) fn uid(&self) -> String {
        self.object.uid().unwrap_or_default()
    }
}

/// The record once `attempt` is known to have left nothing: what it replaced is gone as well. What
/// is sent in its place counts like it.
pub(super) fn closed(record: &OrgInviteStatus, attempt: &Attempt) -> OrgInviteStatus {
    OrgInviteStatus {
        attempt_id: Some(attempt.id.clone()),
        open_attempt: None,
        resends: attempt.resends,
        invite_id: None,
        role: None,
        expires_at: None,
        inviter: None,
        ..record.clone()
    }
}

/// The record once `attempt` is known to have changed nothing.
pub(super) fn abandoned(record: &OrgInviteStatus, attempt: &Attempt) -> OrgInviteStatus {
    OrgInviteStatus {
        attempt_id: Some(attempt.id.clone()),
        open_attempt: None,
        ..record.clone()
    }
}

/// Comes back when `time` is past.
pub(super) fn requeue_past(time: Timestamp, now: Timestamp) -> Action {
    let wait = Duration::try_from(time.duration_since(now)).unwrap_or_default();
    Action::requeue(wait + Duration::from_millis(50))
}

pub(super) fn requeue_at(at: Instant) -> Action {
    Action::requeue(at.saturating_duration_since(Instant::now()))
}
