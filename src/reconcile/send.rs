//! Sending an e-mail: the attempt is recorded first, what it replaces is deleted in between, and the POST
//! recorded afterwards.

use std::time::Duration;

use kube::runtime::controller::Action;
use rand::RngExt as _;
use rand::distr::Alphanumeric;
use tokio::time::Instant;

use super::act::{abandoned, closed};
use super::connection::{Connection, Link, Policy};
use super::events::Deed;
use super::memory::Underway;
use super::observe::inviter;
use super::org_invite::Turn;
use super::report;
use super::write::{Written, has_finalizer};
use crate::astro::budget::{Class, Verb};
use crate::astro::directory::backoff;
use crate::astro::{self, Invite, Refusal};
use crate::claims;
use crate::error::Error;
use crate::metrics::Cause;
use crate::plan::{Lookup, Saying, State};
use crate::random;
use crate::resources::conditions;
use crate::resources::org_invite::Attempt;
use crate::resources::{OrgInvite, OrgInviteStatus, Reason};

/// How often the status write after a POST is tried before settling takes over.
const STATUS_TRIES: u32 = 6;
/// For how long what was sent for an object that is gone is tried to take back before it is left to a person.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(10);

/// How long its place in line may be away, at most.
const ORPHAN_LINE: Duration = Duration::from_mins(1);

/// What became of the record of an attempt.
enum Recorded {
    /// It is written.
    Done,
    /// The object carries another attempt by now.
    Superseded,
    /// The object is gone.
    Gone,
    /// The API server did not take it.
    Not,
}

impl Turn<'_> {
    /// Sends an e-mail as a new attempt. What it replaces is deleted in between, and then its POST
    /// waits for a look: [`Step::Post`](crate::plan::Step::Post). Where nobody can look, only an answer that proves that the
    /// invitation was pending, or a person's wish, lets the POST go out.
    pub(super) async fn send(
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
        if replacing.is_some()
            && !blind
            && let Some(at) = self.too_early()
        {
            return self.queue(record, at).await;
        }
        let posting = (blind || replacing.is_none()).then_some(posting);
        if let Some(at) = self.permit(replacing, posting) {
            return self.queue(record, at).await;
        }
        if !self.context.leadership.holds(self.term) {
            return Ok(Action::await_change());
        }
        let policy = self.connection.policy();
        // Before the patch, whose answer may be lost.
        let before = self.memory.underway.replace(Underway {
            attempt: attempt.id.clone(),
            deleted: false,
        });
        let written = self.context.writer.attempt(self.object, &attempt).await;
        if let Err(Error::Kube(kube::Error::Api(_))) = &written {
            // Such as annotations that are too long together: not at the cost of the others' calls each time.
            self.memory.failed();
        }
        let Written::Done(object) = written? else {
            // Somebody else wrote: that is planned afresh, and no attempt.
            self.memory.underway = before;
            return Ok(Action::await_change());
        };
        self.memory.wrote(object.as_ref());
        if !self.context.leadership.holds(self.term) {
            return Ok(Action::await_change());
        }
        if !self.is_for(&policy) {
            self.withdraw(*object, record, &attempt, unseen).await;
            return Ok(Action::await_change());
        }
        let Some(replaced) = attempt.replaces.clone() else {
            return self.post(*object, record, &attempt).await;
        };
        let answer = self.delete(&replaced).await;
        let asked = attempt.request != record.last_resend_request;
        match answer {
            // Should no other one come: who handed it over may be there still.
            Ok(()) => self.memory.taken_back = Some(replaced.clone()),
            Err(error) if self.may_have_ended(&replaced, &error, blind, asked) => {}
            Err(astro::Error::Refused(refusal)) => {
                return self
                    .not_replaced(&object, record, &attempt, &refusal, unseen)
                    .await;
            }
            // It is not known what became of the replaced invite: the attempt settles like any other.
            Err(error) => {
                tracing::warn!(%error, invite = %replaced, "the invitation to replace could not be deleted");
                self.memory.failed();
                let (reason, then) = if blind {
                    (
                        Reason::RevokeFailed,
                        "It is tried again while Astro shows it",
                    )
                } else {
                    (
                        Reason::Settling,
                        "It goes on once the organization was read again",
                    )
                };
                let message = format!(
                    "The invitation could not be taken back for a new one in its place: {error}. {then}"
                );
                let state = State::Progressing(Saying { reason, message });
                self.tell_unfinished(*object, record, &attempt, state).await;
                return Ok(self.again());
            }
        }
        tracing::info!(invite = %replaced, "deleted the invitation that is replaced");
        self.memory.worked();
        if blind {
            return self.post(*object, record, &attempt).await;
        }
        self.memory.underway = Some(Underway {
            attempt: attempt.id.clone(),
            deleted: true,
        });
        self.connection.directory.want(
            Instant::now() + self.context.timing.listing_delay,
            self.address.clone(),
        );
        let state = State::Progressing(Saying {
            reason: Reason::Replacing,
            message: "The invitation was taken back, and the one in its place goes out once the organization was read again".to_owned(),
        });
        self.tell_unfinished(*object, record, &attempt, state).await;
        Ok(Action::await_change())
    }

    /// When to come back for the DELETE of a replacement, which waits until its POST can follow soon: else the person
    /// would be left without an invitation while others are sent.
    fn too_early(&self) -> Option<Instant> {
        let (budget, uid, now) = (&self.connection.budget, self.uid(), Instant::now());
        // The fewer first: a place for a POST that has to wait for them is of no use.
        let place = budget.reserve(Verb::Delete, Class::Later, &uid);
        if place > now {
            return Some(place);
        }
        let place = budget.reserve(Verb::Post, Class::Later, &uid);
        let early = place.checked_duration_since(now + self.context.timing.listing_delay)?;
        (!early.is_zero()).then(|| now + early)
    }

    /// Closes an attempt that nothing was called for yet, unless an earlier one may have deleted what it replaces: then
    /// it settles like any other.
    async fn withdraw(
        &mut self,
        object: OrgInvite,
        record: &OrgInviteStatus,
        attempt: &Attempt,
        unseen: bool,
    ) {
        tracing::info!("nothing is sent: the Organization changed while the attempt was written");
        if unseen {
            self.memory.underway = None;
            return;
        }
        let record = abandoned(record, attempt);
        if let Recorded::Done = self.tell(object, attempt, &record).await {
            self.memory.underway = None;
        }
    }

    /// Writes and tells `state` while it is not known what becomes of `attempt`.
    async fn tell_unfinished(
        &mut self,
        object: OrgInvite,
        record: &OrgInviteStatus,
        attempt: &Attempt,
        state: State,
    ) {
        if self.context.leadership.holds(self.term) {
            let status = self.unfinished(record, attempt, state);
            self.tell(object, attempt, &status).await;
        }
    }

    /// The status that says so.
    fn unfinished(
        &self,
        record: &OrgInviteStatus,
        attempt: &Attempt,
        state: State,
    ) -> OrgInviteStatus {
        let state = state.while_replaced(attempt.replaces.is_some());
        OrgInviteStatus {
            open_attempt: Some(Box::new(attempt.clone())),
            ..self.status(record, &state)
        }
    }

    /// Whether the Organization still says what was planned for: it may have been suspended while the attempt was
    /// written.
    fn is_for(&self, policy: &Policy) -> bool {
        let name = &self.object.spec.organization_ref.name;
        let same = |now: &Connection| now.id == self.connection.id && *now.policy() == *policy;
        matches!(self.context.link(self.term, name), Link::Up(now) if same(&now))
    }

    /// Whether a DELETE was refused since the invitation to replace may have ended: the look before the POST tells, or,
    /// where nobody could look when it was sent, a person's wish does.
    fn may_have_ended(
        &mut self,
        replaced: &str,
        error: &astro::Error,
        blind: bool,
        asked: bool,
    ) -> bool {
        let gone = error.says_absent() || error.says_bad_request();
        if !gone || !blind {
            return gone;
        }
        self.note_answer(replaced, error.says_absent()) && asked
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
        let state = if refusal.from_api && matches!(refusal.status, 400 | 404) {
            // Where nobody can look, that is the best word there is, when it is said twice: the invitation ended.
            if let Some(answered) = &self.memory.revoked {
                let agreed = answered.agreed;
                let lookup = if agreed {
                    Lookup::Gone
                } else {
                    Lookup::GoneOnce
                };
                let watched = (answered.invite.clone(), Instant::now(), lookup);
                self.memory.watched = Some(Box::new(watched));
                if !agreed {
                    self.await_pass(None);
                }
            }
            State::Unchanged
        } else {
            self.refused(refusal, Verb::Delete, false)
        };
        let status = if unseen {
            self.unfinished(record, attempt, state)
        } else {
            self.status(&abandoned(record, attempt), &state)
        };
        let written = self.tell(object.clone(), attempt, &status).await;
        if !unseen && matches!(written, Recorded::Done) {
            self.memory.underway = None;
        }
        Ok(self.again())
    }

    /// Sends the POST of `attempt`, which `object` carries, and writes down what came of it.
    pub(super) async fn post(
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
                self.memory.taken_back = None;
                self.connection.learn(Verb::Post, true);
                if self.connection.learn_sent(&invite) {
                    // Which invitations are the token's own is known now.
                    let organization = &self.object.spec.organization_ref.name;
                    self.context.trigger_all_of(organization);
                }
                tracing::info!(invite = %invite.id, "invited");
                self.count_email(record, attempt);
                let status = self.sent(record, attempt, &invite);
                self.record_sent(object, attempt, status, &invite).await;
                // Not before: the API server would be busy with both at once, and Ready is what people wait for.
                self.tell_sent(record, attempt, &invite);
                Ok(Action::await_change())
            }
            Err(astro::Error::Refused(refusal)) => {
                tracing::warn!(%refusal, "Astro refused the invitation");
                let state = self.refused(&refusal, Verb::Post, attempt.replaces.is_some());
                let status = self.status(&closed(record, attempt), &state);
                self.tell(object, attempt, &status).await;
                Ok(self.again())
            }
            Err(error) => {
                tracing::warn!(%error, "it is not known whether Astro took the invitation");
                self.memory.failed();
                if self.blind() {
                    // It counts as sent: nobody can look.
                    self.keep_distance();
                }
                let message = format!(
                    "It is not known whether the invitation went out: {error}. Nothing is sent until it has had time to arrive and the organization was read again"
                );
                let state = State::Obscured(Saying {
                    reason: Reason::Settling,
                    message,
                });
                self.tell_unfinished(object, record, attempt, state).await;
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
        self.remember_refused(&saying, None);
        let status = self.status(&closed(record, attempt), &State::Stalled(saying));
        self.tell(object.clone(), attempt, &status).await;
        Ok(self.again())
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
        // When it was edited meanwhile, the next plan sees to it.
        let seen_to = attempt.role == self.object.spec.role;
        self.status_of(&record, &State::Invited, seen_to)
    }

    /// Rule 7: the record of what was sent is written, and what was sent is revoked when its object is gone.
    async fn record_sent(
        &mut self,
        object: OrgInvite,
        attempt: &Attempt,
        status: OrgInviteStatus,
        invite: &Invite,
    ) {
        match self.record(object, attempt, &status).await {
            Recorded::Done | Recorded::Superseded => {}
            Recorded::Gone => self.revoke_orphan(invite).await,
            Recorded::Not => {
                tracing::error!(invite = %invite.id, "the invitation's ID could not be written: it is adopted once the attempt has settled");
            }
        }
    }

    /// Writes and tells what came of the attempt.
    async fn tell(
        &mut self,
        object: OrgInvite,
        attempt: &Attempt,
        status: &OrgInviteStatus,
    ) -> Recorded {
        let written = self.record(object, attempt, status).await;
        match written {
            Recorded::Done => self.context.events.changed(self.object, status),
            Recorded::Superseded | Recorded::Gone => {}
            Recorded::Not => {
                tracing::error!(
                    "what came of the attempt could not be written: it settles like an e-mail whose outcome is unknown"
                );
            }
        }
        written
    }

    /// Rule 7: what came of an attempt is written with a resource version, again after a conflict while it is still the
    /// object's last one, also when somebody removed its annotation.
    async fn record(
        &mut self,
        mut object: OrgInvite,
        attempt: &Attempt,
        status: &OrgInviteStatus,
    ) -> Recorded {
        let mut status = status.clone();
        let opens = status.attempt_id.as_ref() != Some(&attempt.id);
        for tried in 1..=STATUS_TRIES {
            let outcome = self.context.writer.status(&object, &status).await;
            match outcome {
                Ok(Written::Done(written)) => {
                    self.memory.wrote(written.as_ref());
                    return Recorded::Done;
                }
                Ok(Written::Conflict | Written::Gone) => {}
                Err(error) => {
                    tracing::warn!(%error, tried, "what came of the attempt could not be written; it is tried again");
                    tokio::time::sleep(Duration::from_millis(100) * 2u32.pow(tried)).await;
                }
            }
            match self.context.writer.read(&object).await {
                Ok(Some(fresh)) => {
                    let same = match claims::annotated(&fresh) {
                        Some(Ok(now)) if now.id == attempt.id => true,
                        Some(Ok(now)) if claims::is_own(&now, &fresh) => false,
                        Some(Err(_)) => false,
                        _ => !claims::is_closed(attempt, &fresh),
                    };
                    // Nor is one opened again that a later term has closed, or tells of.
                    let elsewhere = claims::is_closed(attempt, &fresh)
                        || !self.context.leadership.holds(self.term);
                    if !same || (opens && elsewhere) {
                        return Recorded::Superseded;
                    }
                    let told = fresh.status.as_ref().map(|status| &status.conditions);
                    conditions::keep_transitions(
                        &mut status.conditions,
                        told.map_or(&[], Vec::as_slice),
                    );
                    object = self.held(fresh).await;
                }
                Ok(None) => return Recorded::Gone,
                Err(error) => tracing::warn!(%error, "the OrgInvite cannot be read"),
            }
        }
        Recorded::Not
    }

    /// The object with the finalizer, which goes with the annotation when somebody replaces an object: rule 9.
    async fn held(&mut self, object: OrgInvite) -> OrgInvite {
        if has_finalizer(&object) || object.metadata.deletion_timestamp.is_some() {
            return object;
        }
        match self.context.writer.hold(&object).await {
            Ok(Written::Done(held)) => *held,
            Ok(Written::Conflict | Written::Gone) | Err(_) => object,
        }
    }

    /// The object of a just sent invite is gone: nobody would take it back.
    async fn revoke_orphan(&mut self, invite: &Invite) {
        let began = Instant::now();
        let mut failures = 0;
        let why = loop {
            let budget = &self.connection.budget;
            // Other turns are not held up for long.
            let place = budget.reserve(Verb::Delete, Class::First, &invite.id);
            let patience = if failures == 0 {
                ORPHAN_LINE
            } else {
                ORPHAN_PATIENCE
            };
            if place > began + patience {
                break "Astro's limits leave no time for it".to_owned();
            }
            budget.wait(Verb::Delete, Class::First, &invite.id).await;
            if !self.context.leadership.holds(self.term) {
                break "another replica leads".to_owned();
            }
            let error = match self.delete(&invite.id).await {
                // The one before may have taken effect.
                Err(error) if failures == 0 || !error.says_absent() => error,
                _ => {
                    tracing::info!(invite = %invite.id, "revoked: its OrgInvite is gone");
                    return;
                }
            };
            failures += 1;
            match &error {
                astro::Error::Refused(refusal) if refusal.status == 429 => {
                    self.connection.budget.pause(Verb::Delete, refusal.pause());
                }
                astro::Error::Unknown { .. } if began.elapsed() < ORPHAN_PATIENCE => {
                    tokio::time::sleep(backoff(failures)).await;
                }
                _ => break error.to_string(),
            }
        };
        self.connection.budget.forget(&invite.id);
        let advice = "its OrgInvite was removed by force: revoke the invitation in Astro";
        tracing::error!(invite = %invite.id, why, advice, "could not revoke");
    }

    /// Counts the e-mail of `attempt` once, whether its answer tells of it or a look after that was
    /// lost; `record` is the one before it. The next one is not before the spacing after now.
    pub(super) fn count_email(&mut self, record: &OrgInviteStatus, attempt: &Attempt) {
        if self.memory.counted.as_ref() == Some(&attempt.id) {
            return;
        }
        self.memory.counted = Some(attempt.id.clone());
        self.connection.metrics.sent(cause(record, attempt));
        self.keep_distance();
    }

    /// An e-mail whose outcome nobody can look up counts as sent.
    pub(super) fn reckon_with(&mut self, open: Option<&Attempt>) {
        let unsent = self.memory.underway.as_ref();
        let is_unknown =
            open.is_some_and(|open| unsent.is_none_or(|unsent| unsent.attempt != open.id));
        let counted = self.memory.last_email.map(|(at, _)| at);
        if is_unknown && self.memory.last_call > counted {
            self.keep_distance();
        }
    }

    /// The next e-mail to the address is not before the spacing after now.
    fn keep_distance(&mut self) {
        let spacing = self.context.timing.spacing + Duration::from_secs(1);
        let next = report::time(astro::later(self.now(), spacing));
        self.memory.last_email = Some((Instant::now(), next.0));
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

pub(super) fn random_id() -> String {
    random::draw(|rng| {
        rng.sample_iter(Alphanumeric)
            .take(16)
            .map(char::from)
            .collect()
    })
}
