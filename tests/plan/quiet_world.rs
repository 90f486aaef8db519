//! One object in a world that does what its plans ask for and else stands still.

use jiff::ToSpan;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orginvite_operator::astro::Role;
use orginvite_operator::claims::Heir;
use orginvite_operator::plan::{Found, Lookup, Own, Sight, State, Step};
use orginvite_operator::resources::OrgInviteStatus;
use proptest::prelude::*;

use crate::case::Case;

/// What is so in Astro.
#[derive(Clone, Debug)]
pub struct Truth {
    pub member: Option<Role>,
    pub live: Vec<Found>,
}

/// One object alone in a quiet world.
pub struct Run {
    case: Case,
    truth: Truth,
    sent: u32,
    released: bool,
}

impl Run {
    pub fn new(mut case: Case, truth: Truth) -> Self {
        case.held = false;
        case.inherits = false;
        case.heir = Heir::None;
        case.shared = false;
        case.own_invite = true;
        case.copied = false;
        case.closing = false;
        case.own = Own::default();
        Self {
            case,
            truth,
            sent: 0,
            released: false,
        }
    }

    fn look(&mut self) {
        let case = &mut self.case;
        let now = case.now;
        self.truth
            .live
            .retain(|one| one.expires_at.is_none_or(|time| time > now));
        let recorded = case.record.invite_id.clone();
        let shown = |live: &[Found]| live.iter().any(|one| Some(&one.id) == recorded.as_ref());
        case.lookup = if recorded.is_some() && !shown(&self.truth.live) {
            Lookup::Gone
        } else {
            Lookup::NotAsked
        };
        case.sight = match self.truth.member {
            Some(role) => Sight::Member {
                user_id: "u".to_owned(),
                role: Some(role),
            },
            None if self.truth.live.is_empty() => Sight::Absent,
            None => Sight::Pending(self.truth.live.clone()),
        };
        case.settled = true;
        case.term_settled = true;
        case.named = None;
        case.next_look = None;
        case.doubt = None;
    }

    /// Takes the next step; `None` at rest.
    pub fn next(&mut self) -> Option<Step> {
        if self.released {
            return None;
        }
        self.look();
        let plan = self.case.plan();
        self.report(&plan.state);
        let record = &mut self.case.record;
        match plan.step.clone() {
            Step::Rest => return None,
            // In a world that stands still, no pass tells more than this one.
            Step::AwaitPass | Step::Inherit | Step::Post => {}
            Step::AwaitTime(time) => self.case.now = time + 1.second(),
            Step::Send {
                replaces,
                resends,
                request,
                ..
            } => {
                self.truth
                    .live
                    .retain(|one| Some(&one.id) != replaces.as_ref());
                self.sent += 1;
                let id = format!("new{}", self.sent);
                let expires_at = self.case.now + 24.hours();
                self.truth.live.push(Found {
                    id: id.clone(),
                    role: Some(self.case.role),
                    expires_at: Some(expires_at),
                    inviter: None,
                });
                *record = OrgInviteStatus {
                    invite_id: Some(id),
                    role: Some(self.case.role),
                    invited_at: Some(Time(self.case.now)),
                    expires_at: Some(Time(expires_at)),
                    resends,
                    last_resend_request: request,
                    ..OrgInviteStatus::default()
                };
                self.case.open = None;
            }
            Step::Adopt { found, role } => {
                if let Some(attempt) = self.case.open.take() {
                    record.resends = attempt.resends;
                    record.last_resend_request = attempt.request;
                }
                record.invite_id = Some(found.id);
                record.role = Some(role);
                record.expires_at = found.expires_at.map(Time);
                record.user_id = None;
                record.gone_since = None;
            }
            Step::Close => {
                self.case.open = None;
                record.invite_id = None;
                record.role = None;
                record.expires_at = None;
            }
            Step::Drop(id) => self.truth.live.retain(|one| one.id != id),
            Step::Revoke(id) => {
                self.truth.live.retain(|one| one.id != id);
                self.released = true;
            }
            Step::Abandon => {
                self.case.record.attempt_id = self.case.open.take().map(|attempt| attempt.id);
            }
            Step::Release => self.released = true,
        }
        Some(plan.step)
    }

    fn report(&mut self, state: &State) {
        let record = &mut self.case.record;
        match state {
            State::Gone(_) => record.gone_since = Some(Time(self.case.now)),
            State::Invited => record.gone_since = None,
            State::Member { user_id, .. } => {
                record.gone_since = None;
                record.user_id = Some(user_id.clone());
            }
            _ => {}
        }
    }

    pub fn judge(&self) -> Result<(), TestCaseError> {
        let case = &self.case;
        let recorded = case.record.invite_id.as_ref();
        prop_assert!(
            case.open.is_none() || self.released,
            "an attempt stays open"
        );
        if case.deleting {
            let left = self.truth.live.iter().any(|one| Some(&one.id) == recorded);
            prop_assert!(self.released && (case.retain || !left), "left behind");
        }
        let most = 3 + case.max_resends;
        prop_assert!(self.sent <= most, "{} e-mails", self.sent);
        Ok(())
    }
}
