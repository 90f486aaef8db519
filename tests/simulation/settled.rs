//! What must hold once nothing more comes: every object tells the truth, every invitation has an owner.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use orginvite_operator::resources::OrgInvite;
use orginvite_operator::resources::org_invite::ResendWhen;
use tokio::time::Instant;

use crate::api_server::is_deleting;
use crate::ledger::{address_of, open, recorded};
use crate::network::Call;
use crate::organization::{Ended, Organization, Standing};
use crate::process::ALLOWED;
use crate::world::{State, World};

/// How long nothing may change until the system counts as settled: longer than any delay after a
/// failure, and a pass.
const QUIET: Duration = Duration::from_mins(12);
/// How long settling may take.
const LIMIT: Duration = Duration::from_hours(4);
/// What is said of an invitation that ended otherwise than by an acceptance that anybody saw.
const OVER: &[&str] = &["InvitationWithdrawn", "ResendLimitReached", "Expired"];
/// The same where get-invite says that it is pending, until it expires.
const PENDING_TO_GET: &[&str] = &[
    "Invited",
    "InvitationWithdrawn",
    "ResendLimitReached",
    "Expired",
];

/// Waits until the system has settled, and judges what it settled on.
pub async fn judge(world: &Arc<World>) {
    let begun = Instant::now();
    let mut last = activity(world);
    let mut since = Instant::now();
    while since.elapsed() < QUIET || world.with(|state| state.is_underway()) {
        tokio::time::sleep(Duration::from_secs(30)).await;
        world.with(State::expire);
        if world.violation().is_some() {
            return;
        }
        let now = activity(world);
        if now != last {
            last = now;
            since = Instant::now();
        }
        if begun.elapsed() > LIMIT {
            world.with(|state| state.violate("it does not settle"));
            return;
        }
    }
    world.with(|state| {
        state.log("settled");
        for problem in state.problems() {
            state.violate(problem);
        }
    });
}

/// What grows whenever something changes.
fn activity(world: &World) -> (usize, usize, u32, u32) {
    world.with(|state| {
        (
            state.astro.over(),
            state.api.place(),
            state.network.sent(Call::Post),
            state.network.sent(Call::Delete),
        )
    })
}

/// Status and reason of a condition.
pub fn reason<'a>(object: &'a OrgInvite, kind: &str) -> Option<(&'a str, &'a str)> {
    let status = object.status.as_ref()?;
    let condition = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)?;
    Some((&condition.status, &condition.reason))
}

impl State {
    /// Whether an object says that something comes by itself.
    fn is_underway(&self) -> bool {
        self.api.all().any(|object| {
            reason(object, "Reconciling").is_some() || is_deleting(object) || open(object).is_some()
        })
    }

    fn problems(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        let live: Vec<(String, String)> = self
            .astro
            .invitations
            .iter()
            .filter(|one| one.ours && one.standing == Standing::Live)
            .map(|one| (one.id.clone(), one.address.clone()))
            .collect();
        for (id, address) in live {
            let owned = self.api.all().any(|object| recorded(object) == Some(&id));
            if !owned && !self.ledger.account(&address).retained {
                problems.push(format!("{id} is pending and no object has it"));
            }
        }
        for object in self.api.all() {
            if let Some(problem) = self.lie(object) {
                let status = serde_json::to_string(&object.status).unwrap();
                problems.push(format!("{}: {problem}: {status}", object.name_any()));
            }
        }
        problems
    }

    /// What is wrong with what an object says.
    fn lie(&self, object: &OrgInvite) -> Option<String> {
        let status = object.status.as_ref()?;
        let address = address_of(object);
        let Some((ready, reason)) = reason(object, "Ready") else {
            return Some("says nothing".to_owned());
        };
        if status.observed_generation != object.metadata.generation.unwrap() {
            return Some("speaks of an older spec".to_owned());
        }
        let wrong = |truth: &str| Some(format!("says {ready} {reason}, where {truth}"));
        let permitted = ALLOWED.contains(&object.spec.role);
        let rivals = self
            .api
            .for_address(&address)
            .any(|other| other.uid() != object.uid());
        if reason == "Conflict" {
            return if rivals {
                None
            } else {
                wrong("there is no other object")
            };
        }
        if let Some(role) = self.astro.member(&address) {
            let expected = match (permitted, role == object.spec.role) {
                (true, true) => ["Accepted", "AlreadyMember"].as_slice(),
                (true, false) => ["RoleDiffers"].as_slice(),
                (false, _) => ["RoleDiffers", "NotPermitted"].as_slice(),
            };
            let known = status.user_id == Some(Organization::user_id(&address));
            return if expected.contains(&reason) && (known || !permitted) {
                None
            } else {
                wrong("the person is a member")
            };
        }
        let Some(invitation) = recorded(object).and_then(|id| self.astro.invitation(id)) else {
            return match reason {
                "NotPermitted" if !permitted => None,
                "MemberRemoved" if status.user_id.is_some() => None,
                "NotPermitted" if self.astro.live(&address).any(|one| !one.ours) => None,
                _ => wrong("nothing is recorded"),
            };
        };
        if reason == "NotPermitted" {
            return if permitted {
                wrong("the role is allowed")
            } else {
                None
            };
        }
        let resends = status.resends < object.spec.max_resends;
        let expected: &[&str] = match invitation.standing {
            Standing::Live => {
                if invitation.role != object.spec.role {
                    return wrong("the invitation has another role");
                }
                let told = status.expires_at.as_ref().map(|time| time.0.as_second());
                if told != Some(invitation.expires_at.as_second()) {
                    return wrong("the invitation expires at another time");
                }
                &["Invited"]
            }
            Standing::Expired if !invitation.expired_early => match object.spec.resend_when {
                ResendWhen::Never => &["Expired"],
                _ if resends => &[],
                _ => &["ResendLimitReached"],
            },
            Standing::Expired | Standing::Declined | Standing::Withdrawn => {
                match object.spec.resend_when {
                    // Astro says that it is pending, until it expires.
                    _ if self.astro.habits.ended == Ended::OldBody => PENDING_TO_GET,
                    ResendWhen::Gone if resends => &[],
                    _ => OVER,
                }
            }
            // Removed before any pass showed the member: nobody can tell it from one that was declined.
            Standing::Accepted if status.user_id.is_none() => match self.astro.habits.ended {
                Ended::OldBody => PENDING_TO_GET,
                _ => OVER,
            },
            Standing::Accepted => &["MemberRemoved"],
            // Only an heir may have taken over what was revoked meanwhile, in an earlier term.
            Standing::Revoked
                if self.ledger.sent_for(&invitation.id) != object.uid().as_deref() =>
            {
                match self.astro.habits.ended {
                    Ended::OldBody => &["InvitationWithdrawn", "Invited"],
                    _ => &["InvitationWithdrawn"],
                }
            }
            Standing::Revoked => &[],
        };
        if expected.contains(&reason) {
            None
        } else {
            wrong(&format!("{} is {:?}", invitation.id, invitation.standing))
        }
    }
}
