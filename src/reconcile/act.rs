//! Performing the one step of a plan: the only place that changes Astro.
//!
//! The order of calls and writes is rule 1 of "Exactly one e-mail" in `docs/design.md`.

use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::controller::Action;
use rand::RngExt as _;
use rand::distr::Alphanumeric;
use tokio::time::Instant;

use super::events::Deed;
use super::memory::{Revoked, Underway};
use super::org_invite::{Turn, inviter};
use super::report;
use super::write::{Written, has_finalizer};
use crate::astro::budget::{Class, Verb};
use crate::astro::directory::Health;
use crate::astro::{self, Invite, Refusal, Role};
use crate::claims;
use crate::error::Error;
use crate::metrics::Cause;
use crate::plan::{Found, Lookup, Plan, Saying, State, Step};
use crate::random;
use crate::resources::org_invite::Attempt;
use crate::resources::{OrgInvite, OrgInviteStatus, Reason};

/// How often the status write after a POST is tried before settling takes over.
const STATUS_TRIES: u32 = 6;

impl Turn<'_> {
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
            && let Some(action) = changes
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
                let wait = Duration::try_from(time.duration_since(self.now())).unwrap_or_default();
                Ok(Action::requeue(wait + Duration::from_millis(50)))
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
                };
                self.send(&record, attempt, unseen).await
            }
            (Step::Post, Some(attempt)) => {
                if let Some(at) = self.permit(None, Some(Class::First)) {
                    return Ok(requeue_at(at));
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
            (Step::Rest | Step::Post | Step::Close, _) => {
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

    /// Sends an e-mail as a new attempt. What it replaces is deleted in between, and then its POST
    /// waits for a look: [`Step::Post`]. Where nobody can look, only an answer that proves that the
    /// invitation was pending, or a person's wish, lets the POST go out.
    async fn send(
        &mut self,
        record: &OrgInviteStatus,
        attempt: Attempt,
        unseen: bool,
    ) -> Result<Action, Error> {
        // The permit is taken before the patch; a place in line is kept for the next turn.
        let blind = self.blind();
        let replacing = attempt.replaces.is_some().then_some(Class::Later);
        let posting = if attempt.resends > 0 || attempt.request.is_some() {
            Class::Later
        } else {
            Class::First
        };
        // The DELETE of a replacement waits until its POST can follow soon: else the person would be
        // left without an invitation while others are sent.
        if replacing.is_some() && !blind {
            let uid = self.uid();
            let place = self
                .connection
                .budget
                .reserve(Verb::Post, Class::Later, &uid);
            let soon = Instant::now() + self.context.timing.listing_delay;
            if place > soon {
                return Ok(requeue_at(Instant::now() + (place - soon)));
            }
        }
        let posting = (blind || replacing.is_none()).then_some(posting);
        if let Some(at) = self.permit(replacing, posting) {
            return Ok(requeue_at(at));
        }
        if !self.context.leadership.holds(self.term) {
            return Ok(Action::await_change());
        }
        let Written::Done(object) = self.context.writer.attempt(self.object, &attempt).await?
        else {
            // Somebody else wrote: that is planned afresh, and no attempt.
            return Ok(Action::await_change());
        };
        self.memory.wrote(object.as_ref());
        self.memory.underway = Some(Underway {
            attempt: attempt.id.clone(),
            deleted: false,
        });
        let Some(replaced) = attempt.replaces.clone() else {
            return self.post(*object, record, &attempt).await;
        };
        if !self.context.leadership.holds(self.term) {
            return Ok(Action::await_change());
        }
        let answer = self.delete(&replaced).await;
        let asked = attempt.request != record.last_resend_request;
        match answer {
            Ok(()) => {}
            // It may have ended: the look before the POST tells, or a person's wish does.
            Err(error)
                if (error.says_absent() || error.says_bad_request()) && (!blind || asked) => {}
            Err(astro::Error::Refused(refusal)) => {
                return self
                    .not_replaced(&object, record, &attempt, &refusal, unseen)
                    .await;
            }
            // It is not known what became of the replaced invite: the attempt settles like any other.
            Err(error) => {
                tracing::warn!(%error, invite = %replaced, "the invitation to replace could not be deleted");
                self.memory.failed();
                if blind {
                    let message = format!(
                        "The invitation could not be taken back for a new one in its place: {error}. It is tried again while Astro shows it"
                    );
                    let state = State::Obscured(Saying {
                        reason: Reason::RevokeFailed,
                        message,
                    });
                    let status = self.status(record, &state);
                    self.write(&object, &status).await?;
                }
                return Ok(self.again());
            }
        }
        tracing::info!(invite = %replaced, "deleted the invitation that is replaced");
        self.memory.worked();
        if blind {
            return self.post(*object, record, &attempt).await;
        }
        self.memory.underway = Some(Underway {
            attempt: attempt.id,
            deleted: true,
        });
        self.connection.directory.want(
            Instant::now() + self.context.timing.listing_delay,
            self.address.clone(),
        );
        Ok(Action::await_change())
    }

    /// The DELETE of the invitation to replace was refused: nothing happened, and no POST was sent. An
    /// earlier attempt may have deleted an `unseen` one: closing this one would leave a record of it, as
    /// if the person had declined.
    async fn not_replaced(
        &mut self,
        object: &OrgInvite,
        record: &OrgInviteStatus,
        attempt: &Attempt,
        refusal: &Refusal,
        unseen: bool,
    ) -> Result<Action, Error> {
        tracing::warn!(%refusal, "the invitation to replace could not be deleted");
        self.memory.failed();
        let state = if self.blind() && refusal.from_api && matches!(refusal.status, 400 | 404) {
            // Where nobody can look, that is the best word there is: the invitation ended.
            if let Some(replaced) = attempt.replaces.clone() {
                let watched = (replaced, Instant::now(), Lookup::GoneOnce);
                self.memory.watched = Some(Box::new(watched));
            }
            State::Unchanged
        } else {
            self.refused(refusal, Verb::Delete)
        };
        let record = if unseen {
            record.clone()
        } else {
            self.memory.underway = None;
            OrgInviteStatus {
                attempt_id: Some(attempt.id.clone()),
                ..record.clone()
            }
        };
        let status = self.status(&record, &state);
        self.write(object, &status).await?;
        Ok(self.again())
    }

    /// To be planned again when more is known: by a pass, or, where there is none, after the back-off.
    fn again(&self) -> Action {
        if self.blind() {
            let now = || Action::requeue(Duration::ZERO);
            return self.memory.retry_at.map_or_else(now, requeue_at);
        }
        self.await_pass(None);
        Action::await_change()
    }

    /// Whether the token may not list users, so that no pass tells anything.
    fn blind(&self) -> bool {
        matches!(self.connection.directory.health(), Health::Forbidden(_))
    }

    /// Sends the POST of `attempt`, which `object` carries, and writes down what came of it.
    async fn post(
        &mut self,
        object: OrgInvite,
        record: &OrgInviteStatus,
        attempt: &Attempt,
    ) -> Result<Action, Error> {
        if !self.context.leadership.holds(self.term) {
            return Ok(Action::await_change());
        }
        self.memory.underway = None;
        let answer = self
            .connection
            .astro
            .create_invite(&attempt.email, attempt.role)
            .await;
        self.memory.called();
        match answer {
            // The replaced invite again: no e-mail went out. The attempt settles like a lost one.
            Ok(invite) if Some(&invite.id) == attempt.replaces.as_ref() => {
                tracing::warn!(invite = %invite.id, "Astro answered with the invitation that was to be replaced");
                self.memory.failed();
                Ok(self.again())
            }
            Ok(invite) if self.connection.is_somebody_elses(&invite) => {
                self.not_ours(&object, record, attempt, &invite).await
            }
            Ok(invite) => {
                self.memory.worked();
                self.memory.last_email = Some(Instant::now());
                self.connection.learn(Verb::Post, true);
                if self.connection.learn_sent(&invite) {
                    // Which invitations are the token's own is known now.
                    let organization = &self.object.spec.organization_ref.name;
                    self.context.trigger_all_of(organization);
                }
                tracing::info!(invite = %invite.id, "invited");
                self.count_email(record, attempt);
                let status = self.sent(record, attempt, &invite);
                let recorded = self.record_sent(object, attempt, status, &invite).await;
                // Not before: the API server would be busy with both at once, and Ready is what people wait for.
                self.tell_sent(record, attempt, &invite);
                recorded.map(|()| Action::await_change())
            }
            Err(astro::Error::Refused(refusal)) => {
                tracing::warn!(%refusal, "Astro refused the invitation");
                let state = self.refused(&refusal, Verb::Post);
                let status = self.status(&closed(record, attempt), &state);
                self.write(&object, &status).await?;
                Ok(self.again())
            }
            Err(error) => {
                tracing::warn!(%error, "it is not known whether Astro took the invitation");
                self.memory.failed();
                let message = format!(
                    "It is not known whether the invitation went out: {error}. Nothing is sent until it has had time to arrive and the organization was read again"
                );
                let status = self.status(
                    record,
                    &State::Obscured(Saying {
                        reason: Reason::Settling,
                        message,
                    }),
                );
                self.write(&object, &status).await?;
                Ok(self.again())
            }
        }
    }

    /// Astro answered a POST with somebody else's pending invitation: no e-mail went out. A pass shows
    /// whether it may be touched; without one nobody can tell its role.
    async fn not_ours(
        &mut self,
        object: &OrgInvite,
        record: &OrgInviteStatus,
        attempt: &Attempt,
        invite: &Invite,
    ) -> Result<Action, Error> {
        tracing::warn!(invite = %invite.id, "Astro answered with an invitation that somebody else sent before");
        if !self.blind() {
            self.memory.failed();
            return Ok(self.again());
        }
        self.memory.worked();
        let saying = Saying {
            reason: Reason::NotPermitted,
            message: "The person has a pending invitation that this operator did not send, and the token may not list users, so that nobody can tell its role and whether this namespace may touch it. Revoke it in Astro, then set the annotation iam.astronomer.io/resend-requested-at to a new value".to_owned(),
        };
        self.memory.refused = Some(Box::new((self.occasion(), saying.clone())));
        let status = self.status(&closed(record, attempt), &State::Stalled(saying));
        self.write(object, &status).await?;
        Ok(Action::await_change())
    }

    /// Tells that an e-mail went out, and what for.
    fn tell_sent(&self, record: &OrgInviteStatus, attempt: &Attempt, invite: &Invite) {
        let deed = match cause(record, attempt) {
            Cause::First => Deed::Invited,
            Cause::Resend => Deed::Resent,
            Cause::Replacement => Deed::Replaced,
        };
        let note = format!("Invitation {} went out", invite.id);
        self.context.events.did(self.object, deed, &note);
    }

    /// The record of an invite that a POST just made.
    fn sent(
        &self,
        record: &OrgInviteStatus,
        attempt: &Attempt,
        invite: &Invite,
    ) -> OrgInviteStatus {
        let record = OrgInviteStatus {
            invite_id: Some(invite.id.clone()),
            attempt_id: Some(attempt.id.clone()),
            organization_id: Some(self.connection.organization_id.clone()),
            email: Some(attempt.email.clone()),
            role: Some(attempt.role),
            invited_at: Some(report::time(self.now())),
            expires_at: invite.expires_at.map(report::time),
            resends: attempt.resends,
            last_resend_request: attempt.request.clone(),
            user_id: None,
            inviter: inviter(invite),
            ..record.clone()
        };
        let mut status = self.status(&record, &State::Invited);
        if attempt.role != self.object.spec.role {
            // Edited meanwhile: the next plan sees to it.
            status.observed_generation = self.not_yet(&record);
        }
        status
    }

    /// Rule 7: the record of what was sent is written with a resource version, again after a conflict
    /// while the annotation is still this attempt, and what was sent is revoked when its object is gone.
    async fn record_sent(
        &mut self,
        mut object: OrgInvite,
        attempt: &Attempt,
        status: OrgInviteStatus,
        invite: &Invite,
    ) -> Result<(), Error> {
        for tried in 1..=STATUS_TRIES {
            let outcome = self.context.writer.status(&object, &status).await;
            match outcome {
                Ok(Written::Done(written)) => {
                    self.memory.wrote(written.as_ref());
                    return Ok(());
                }
                Ok(Written::Conflict | Written::Gone) => {}
                Err(error) => {
                    tracing::warn!(%error, tried, "the invitation's ID could not be written; it is tried again");
                    tokio::time::sleep(Duration::from_millis(100) * 2u32.pow(tried)).await;
                }
            }
            match self.context.writer.read(&object).await {
                Ok(Some(fresh)) => {
                    let same =
                        matches!(claims::attempt(&fresh), Some(Ok(now)) if now.id == attempt.id);
                    if !same {
                        return Ok(());
                    }
                    object = fresh;
                }
                Ok(None) => return self.revoke_orphan(invite).await,
                Err(error) => tracing::warn!(%error, "the OrgInvite cannot be read"),
            }
        }
        tracing::error!(invite = %invite.id, "the invitation's ID could not be written: it is adopted once the attempt has settled");
        Ok(())
    }

    /// The object of a just sent invite is gone: nobody would take it back.
    async fn revoke_orphan(&mut self, invite: &Invite) -> Result<(), Error> {
        self.connection
            .budget
            .wait(Verb::Delete, Class::First, &invite.id)
            .await;
        if !self.context.leadership.holds(self.term) {
            return Ok(());
        }
        match self.delete(&invite.id).await {
            Ok(()) => tracing::info!(invite = %invite.id, "revoked: its OrgInvite is gone"),
            Err(error) => {
                let advice = "its OrgInvite was removed by force: revoke the invitation in Astro";
                tracing::error!(%error, invite = %invite.id, advice, "could not revoke");
            }
        }
        Ok(())
    }

    /// Counts the e-mail of `attempt` once, whether its answer tells of it or a look after that was
    /// lost; `record` is the one before it.
    fn count_email(&mut self, record: &OrgInviteStatus, attempt: &Attempt) {
        if self.memory.counted.as_ref() == Some(&attempt.id) {
            return;
        }
        self.memory.counted = Some(attempt.id.clone());
        self.connection.metrics.sent(cause(record, attempt));
    }

    /// What a refusal means. That of a POST is remembered until something that it depends on changes.
    fn refused(&mut self, refusal: &Refusal, verb: Verb) -> State {
        let what = if verb == Verb::Post {
            "invite people"
        } else {
            "take invitations back"
        };
        let saying = match refusal.status {
            429 => {
                self.connection
                    .budget
                    .pause(verb, refusal.retry_after.unwrap_or(Duration::from_secs(1)));
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
            403 => {
                self.connection.learn(verb, false);
                Saying {
                    reason: Reason::TokenNotAllowed,
                    message: format!(
                        "{refusal}. The Organization's token may not {what}: give it a role that may, or another token"
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
            _ => Saying {
                reason: Reason::Refused,
                message: format!(
                    "{refusal}. It is not tried again until the spec, the Organization or its token changes"
                ),
            },
        };
        if verb == Verb::Post {
            self.memory.refused = Some(Box::new((self.occasion(), saying.clone())));
        }
        State::Stalled(saying)
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
        self.context.events.did(self.object, Deed::Adopted, &note);
        let sent_at = record
            .invited_at
            .clone()
            .filter(|_| record.invite_id.as_ref() == Some(&found.id));
        let settled = attempt.filter(|attempt| record.attempt_id.as_ref() != Some(&attempt.id));
        // The one that was to be replaced is no e-mail of that attempt.
        let sent = settled
            .as_ref()
            .filter(|attempt| attempt.replaces.as_ref() != Some(&found.id));
        if let Some(attempt) = sent {
            self.count_email(&record, attempt);
        }
        let record = OrgInviteStatus {
            resends: sent.map_or(record.resends, |attempt| attempt.resends),
            last_resend_request: sent.map_or(record.last_resend_request, |attempt| {
                attempt.request.clone()
            }),
            invite_id: Some(found.id),
            attempt_id: settled.map(|attempt| attempt.id).or(record.attempt_id),
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
        let mut status = self.status(&record, &State::Invited);
        if role != self.object.spec.role {
            status.observed_generation = self.not_yet(&record);
        }
        self.memory.underway = None;
        self.write(&object, &status).await?;
        Ok(Action::await_change())
    }

    /// Takes over the record of an object in deletion, whatever became of its invite.
    async fn inherit(&mut self, inherited: OrgInviteStatus) -> Result<Action, Error> {
        let Some(object) = self.hold().await? else {
            return Ok(Action::await_change());
        };
        tracing::info!(
            invite = inherited.invite_id,
            "took over the invitation of an OrgInvite that is being deleted"
        );
        let note = "The invitation of an OrgInvite that is being deleted is this object's own now";
        self.context.events.did(self.object, Deed::TakenOver, note);
        let own = self.object.status.clone().unwrap_or_default();
        let record = OrgInviteStatus {
            attempt_id: own.attempt_id,
            observed_generation: own.observed_generation,
            conditions: own.conditions,
            ..inherited
        };
        let mut status = self.status(&record, &State::Invited);
        status.observed_generation = self.not_yet(&record);
        // Whatever became of it before: an invitation that was declined stays so.
        status.gone_since = record.gone_since;
        self.write(&object, &status).await?;
        Ok(Action::await_change())
    }

    /// Sets the finalizer if it is absent; `None` on a conflict.
    async fn hold(&mut self) -> Result<Option<OrgInvite>, Error> {
        if has_finalizer(self.object) {
            return Ok(Some(self.object.clone()));
        }
        if !self.context.leadership.holds(self.term) {
            return Ok(None);
        }
        match self.context.writer.hold(self.object).await? {
            Written::Done(object) => {
                self.memory.wrote(object.as_ref());
                Ok(Some(*object))
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
        match self.delete(invite).await {
            Ok(()) => {
                tracing::info!(%invite, "deleted the invitation that was to be replaced");
                self.memory.worked();
            }
            Err(error) => {
                tracing::warn!(%error, %invite, "the invitation that was to be replaced could not be deleted");
                self.memory.failed();
            }
        }
        self.await_pass(None);
        Ok(Action::await_change())
    }

    /// Takes the recorded invitation back, and lets the object go when that is certain.
    async fn revoke(&mut self, record: &OrgInviteStatus, invite: &str) -> Result<Action, Error> {
        if let Some(at) = self.permit(Some(Class::First), None) {
            return Ok(requeue_at(at));
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
        let revoked = (absent || refused).then(|| Revoked {
            invite: invite.to_owned(),
            absent,
        });
        // Refused once more, after a look that shows it pending: that needs telling.
        let looked = refused && self.memory.revoked == revoked;
        if revoked.is_some() {
            tracing::info!(%invite, %error, "the invitation is not there to be revoked: looking why");
            self.memory.revoked = revoked;
        }
        if !absent {
            self.memory.failed();
        }
        if looked || !(absent || refused) {
            tracing::warn!(%invite, %error, "the invitation could not be revoked");
            let state = match &error {
                astro::Error::Refused(refusal) => self.refused(refusal, Verb::Delete),
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

    async fn release(&mut self) -> Result<Action, Error> {
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

    async fn delete(&mut self, invite: &str) -> Result<(), astro::Error> {
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

    /// Takes the permits for the calls to come, or tells when to come back.
    fn permit(&self, delete: Option<Class>, post: Option<Class>) -> Option<Instant> {
        let take = |class: Option<Class>, verb| {
            let class = class?;
            self.connection.budget.take(verb, class, &self.uid()).err()
        };
        take(delete, Verb::Delete)
            .into_iter()
            .chain(take(post, Verb::Post))
            .max()
    }

    /// Asks to be planned again after the next pass that could tell more.
    fn await_pass(&self, begun: Option<Instant>) {
        let begun = begun.or(self.memory.last_call);
        self.connection
            .directory
            .want(self.next_pass(begun), self.address.clone());
    }

    // --- report

    /// The generation to tell while that of the spec is not seen to yet.
    fn not_yet(&self, record: &OrgInviteStatus) -> i64 {
        let generation = self.object.metadata.generation.unwrap_or_default();
        record.observed_generation.min(generation - 1)
    }

    fn status(&self, record: &OrgInviteStatus, state: &State) -> OrgInviteStatus {
        report::status(
            record,
            state,
            self.blind(),
            self.object.metadata.generation.unwrap_or_default(),
            self.now(),
        )
    }

    /// Writes the status that says `state`, starting from `record`, if it differs from the object's.
    async fn say(&mut self, record: &OrgInviteStatus, state: &State) -> Result<(), Error> {
        let status = if *state == State::Unchanged {
            record.clone()
        } else {
            self.status(record, state)
        };
        let object = self.object;
        self.write(object, &status).await
    }

    async fn write(&mut self, object: &OrgInvite, status: &OrgInviteStatus) -> Result<(), Error> {
        if object.status.as_ref() == Some(status) || !self.context.leadership.holds(self.term) {
            return Ok(());
        }
        // A conflict or a deletion is planned again by its own event.
        if let Written::Done(written) = self.context.writer.status(object, status).await? {
            self.memory.wrote(written.as_ref());
            self.context.events.changed(object, status);
        }
        Ok(())
    }

    fn uid(&self) -> String {
        self.object.uid().unwrap_or_default()
    }
}

/// What the e-mail of `attempt` is for; `record` is the one before it.
fn cause(record: &OrgInviteStatus, attempt: &Attempt) -> Cause {
    let replaces = attempt.replaces.is_some();
    let asked = attempt.request != record.last_resend_request;
    if !replaces && record.invited_at.is_none() {
        Cause::First
    } else if asked || attempt.resends > record.resends {
        Cause::Resend
    } else if replaces {
        Cause::Replacement
    } else {
        Cause::First
    }
}

/// The record once `attempt` is known to have left nothing: what it replaced is gone as well. What
/// is sent in its place counts like it.
fn closed(record: &OrgInviteStatus, attempt: &Attempt) -> OrgInviteStatus {
    OrgInviteStatus {
        attempt_id: Some(attempt.id.clone()),
        resends: attempt.resends,
        invite_id: None,
        role: None,
        expires_at: None,
        inviter: None,
        ..record.clone()
    }
}

fn requeue_at(at: Instant) -> Action {
    Action::requeue(at.saturating_duration_since(Instant::now()))
}

fn random_id() -> String {
    random::draw(|rng| {
        rng.sample_iter(Alphanumeric)
            .take(16)
            .map(char::from)
            .collect()
    })
}
