//! Observing: what the directory and get-invite show of an object's address, as far as it counts.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::memory::Refused;
use super::org_invite::Turn;
use super::report;
use crate::astro::budget::{Class, Verb};
use crate::astro::directory::{Pending, Person, View};
use crate::astro::{self, Invite, Role, Subject};
use crate::plan::{Doubt, Found, Lookup, Named, Observation, Sight};
use crate::resources::org_invite::{Attempt, INVITE_ID_ANNOTATION, Inviter};
use crate::resources::{Address, OrgInviteStatus, Reason};

/// How old a reading may be for an e-mail that no recorded invitation is the reason of: whoever is not in it may have
/// come in by another way since.
const FRESH: Duration = Duration::from_mins(5);

impl<'a> Turn<'a> {
    /// What the directory says of the address, as far as it counts, and when its pass began.
    pub(super) async fn observe(
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
        let view = self.connection.directory.view(self.address);
        match view {
            View::Seen { .. } => {
                self.memory.watched = None;
                // That of a POST whose invitation turned out to be somebody else's: a list tells of that one.
                let unseen =
                    |refused: &mut Box<Refused>| refused.saying.reason == Reason::NotPermitted;
                self.memory.refused.take_if(unseen);
            }
            // Whatever the lists showed is not believed any more.
            View::Blind { .. } => self.memory.gone = None,
            View::Nothing | View::Unreadable(_) => {}
        }
        let (begun, person, early) = match view {
            View::Nothing => return (observed, None),
            View::Unreadable(why) => {
                observed.sight = Sight::Unreadable(why);
                return (observed, None);
            }
            View::Blind { .. } => {
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
                early,
                ..
            } => (begun, person, early),
        };
        // A pass of an earlier term says nothing: rule 6.
        if begun < self.term.began || begun < self.counts_from() {
            return (observed, Some(begun));
        }
        observed.term_settled = !early && begun >= self.term.began + self.context.timing.settle;
        observed.settled = !early && begun >= self.settled_from();
        observed.sight = match person {
            None if (record.invite_id.is_none() || open.is_some())
                && self.connection.directory.age() > FRESH =>
            {
                Sight::NotYet
            }
            None => Sight::Absent,
            Some(Person::Member { user_id, role }) => Sight::Member { user_id, role },
            Some(Person::Barred) => Sight::Barred,
            Some(Person::Unidentified) => Sight::Unidentified,
            Some(Person::Pending { invites, role }) => self.pending(&invites, role, record),
        };
        if let Sight::Pending(found) = &observed.sight {
            let is_shown = |id: &str| found.iter().any(|found| found.id == id);
            self.memory.unlisted.take_if(|id| is_shown(id));
            self.memory.gone.take_if(|(id, _)| is_shown(id));
            // One that is over may be listed although there is nothing to delete any more.
            let now = self.now();
            if let Some(revoked) = &mut self.memory.revoked
                && found.iter().any(|found| {
                    found.id == revoked.invite && !astro::is_over(found.expires_at, now)
                })
            {
                revoked.disproved = true;
            }
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
    pub(super) fn counts_from(&self) -> Instant {
        self.memory
            .last_call
            .map_or(self.term.began, |at| at + self.context.timing.listing_delay)
    }

    /// Rule 3: from when on a pass may decide over an open attempt.
    pub(super) fn settled_from(&self) -> Instant {
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
        if let Some((id, at, lookup)) = &self.memory.looked
            && id == invite
            && *at == begun
        {
            return lookup.clone();
        }
        let lookup = self.get(invite).await;
        match lookup {
            Lookup::Exists | Lookup::Unknown(_) => {
                self.memory.looked = Some((invite.to_owned(), begun, lookup.clone()));
            }
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
            Ok(Err(error)) => Lookup::Unknown(error.summary()),
        }
    }

    async fn get_invite(&self, invite: &str) -> Result<Result<Invite, astro::Error>, Instant> {
        let uid = self.object.uid().unwrap_or_default();
        self.connection.budget.take(Verb::Get, Class::Later, &uid)?;
        let answer = self.connection.astro.get_invite(invite).await;
        match &answer {
            Err(astro::Error::Refused(refusal)) if refusal.status == 429 => {
                let pause = refusal.pause();
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
            observed.named = self.ask_named(attempt).await;
            let underway = self.memory.underway.as_ref();
            if underway.is_none_or(|underway| underway.attempt != attempt.id) {
                return;
            }
        }
        let Some(invite) = record.invite_id.as_deref() else {
            return;
        };
        let deleting = self.object.metadata.deletion_timestamp.is_some();
        let answered = self.memory.answered(invite);
        let refused = answered.is_some_and(|one| !one.absent && one.agreed);
        if record.user_id.is_some() || (deleting && !refused) {
            return;
        }
        let interval = self.connection.directory.interval();
        // What would be replaced now is asked for now.
        let wanted = open.is_some()
            || record.role != Some(self.object.spec.role)
            || self.request().is_some();
        let before = self.memory.watched.as_deref();
        let before = before.filter(|(id, ..)| id == invite);
        let agrees = before.is_some_and(|(_, at, lookup)| {
            *lookup == Lookup::GoneOnce && self.blind_since(*at) == Some(true)
        });
        let fresh = before.filter(|(_, at, lookup)| {
            let holds = match lookup {
                // Gone is gone.
                Lookup::Gone => true,
                Lookup::GoneOnce => !agrees,
                _ => !wanted && at.elapsed() < interval,
            };
            // A refusal to take it back is younger than what was seen before.
            holds && !deleting
        });
        if let Some((_, at, lookup)) = fresh {
            observed.lookup = lookup.clone();
            observed.next_look = Some(self.at(*at + interval));
            return;
        }
        observed.lookup = match self.get(invite).await {
            Lookup::GoneOnce if agrees => Lookup::Gone,
            other => other,
        };
        if !matches!(observed.lookup, Lookup::InLine(_)) {
            let now = Instant::now();
            let watched = (invite.to_owned(), now, observed.lookup.clone());
            self.memory.watched = Some(Box::new(watched));
            observed.next_look = Some(self.at(now + interval));
        }
    }

    /// The invite that a person named as the one that an attempt sent.
    pub(super) fn named(&self) -> Option<&'a str> {
        let object = self.object;
        let id = object.annotations().get(INVITE_ID_ANNOTATION)?;
        Some(id.trim())
    }

    /// get-invite of the invite that a person named as the one that an open attempt sent.
    async fn ask_named(&mut self, attempt: &Attempt) -> Option<Named> {
        let before = self.named() == attempt.named.as_deref();
        if !before {
            self.memory.renamed = Some(attempt.id.clone());
        }
        let id = self.named()?;
        if before && self.memory.renamed.as_ref() != Some(&attempt.id) {
            return Some(Named::Refused(
                "it was named before that e-mail. If it is that one all the same, remove the annotation and set it again"
                    .to_owned(),
            ));
        }
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
            // Only Astro's own word that there is none says anything about the invitation; and it is asked again
            // whenever there is a reason to plan, since it may have been said in Astro's place.
            Ok(Err(error)) if error.says_absent() || error.says_bad_request() => {
                return Some(Named::Refused(error.summary()));
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
    pub(super) fn at(&self, at: Instant) -> Timestamp {
        astro::later(self.now(), at.saturating_duration_since(Instant::now()))
    }

    /// When the next pass would have to begin for the plan to know more.
    pub(super) fn next_pass(&self, begun: Option<Instant>) -> Instant {
        let now = Instant::now();
        if let Some((_, at, Lookup::GoneOnce)) = self.memory.watched.as_deref() {
            return *at + self.context.timing.listing_delay;
        }
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
pub(super) fn freshened(mut record: OrgInviteStatus, observed: &Observation) -> OrgInviteStatus {
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
