//! Schedules by hand: everything takes the same short time, and only what a test says goes wrong.

use std::sync::Arc;
use std::time::Duration;

use orginvite_operator::astro::Role;
use orginvite_operator::resources::OrgInviteSpec;
use tokio::time::sleep;

use crate::ledger::recorded;
use crate::network::{Answer, Call, Fate, Weather};
use crate::organization::{Habits, Standing};
use crate::settled;
use crate::users::{named, spec};
use crate::world::World;

pub const MEMBER: Role = Role::OrganizationMember;
pub const ADMIN: Role = Role::OrganizationBillingAdmin;
/// A role that the policy does not allow.
pub const OWNER: Role = Role::OrganizationOwner;
/// Who is invited.
pub const EMAIL: &str = "jane@example.com";

/// How long anything that a test waits for may take.
const LIMIT: Duration = Duration::from_mins(30);

/// Plays a schedule in a calm world, waits until it has settled, and fails when a promise was broken.
pub fn play(habits: Habits, schedule: impl AsyncFnOnce(Arc<World>)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new(0, Weather::CALM, habits);
        world.with(|state| state.astro.lifetime = Duration::from_hours(24));
        schedule(Arc::clone(&world)).await;
        settled::judge(&world).await;
        assert_eq!(world.violation(), None, "\n{}", world.trace());
    });
}

pub async fn seconds(time: u64) {
    sleep(Duration::from_secs(time)).await;
}

/// The fate of a request that takes effect at once and whose answer is never heard.
pub fn unheard() -> Fate {
    Fate {
        effect: Some(Duration::from_millis(5)),
        answer: Answer::Cut(Duration::from_millis(20)),
    }
}

/// The fate of a request that is lost on its way.
pub fn lost() -> Fate {
    Fate {
        effect: None,
        answer: Answer::Cut(Duration::from_millis(20)),
    }
}

/// The fate of a request to Astro that is refused.
pub fn refused(status: u16) -> Fate {
    Fate {
        effect: None,
        answer: Answer::Status(status, Duration::from_millis(10)),
    }
}

/// The fate of a request that takes effect almost at its deadline, long after its sender gave it up.
pub fn late_and_unheard() -> Fate {
    Fate {
        effect: Some(Duration::from_secs(14)),
        answer: Answer::Cut(Duration::from_millis(100)),
    }
}

/// The fate of a request that takes effect late; its answer comes right behind.
pub fn late(effect: Duration) -> Fate {
    Fate {
        effect: Some(effect),
        answer: Answer::After(Duration::from_millis(5)),
    }
}

impl World {
    /// A user creates an object with every default.
    pub fn create(&self, name: &str, role: Role) {
        self.with(|state| state.create(&named(name), spec(EMAIL, role)));
    }

    /// A user creates the object named jane, and its invitation is the first of all.
    pub async fn invite_jane(&self) {
        self.create("jane", MEMBER);
        self.has("jane", "x1").await;
    }

    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut OrgInviteSpec)) {
        self.with(|state| state.edit(&named(name), edit));
    }

    pub fn delete(&self, name: &str) {
        self.with(|state| state.delete(&named(name)));
    }

    /// A person ends an invitation that can still be answered.
    pub fn end(&self, invite: &str, standing: Standing) {
        assert!(self.with(|state| state.end(invite, standing)));
    }

    /// The next request of that kind has that fate.
    pub fn next(&self, call: Call, fate: Fate) {
        self.with(|state| state.network.next(call, fate));
    }

    /// How many e-mails went out.
    pub fn emails(&self) -> u32 {
        self.with(|state| state.counted("e-mails"))
    }

    /// Waits until the status of an object has that invite.
    pub async fn has(&self, name: &str, invite: &str) {
        self.until(&format!("{name} with {invite}"), LIMIT, |state| {
            let object = state.api.get(&named(name));
            object.is_some_and(|object| recorded(object) == Some(invite))
        })
        .await;
    }

    /// Waits until the Ready condition of an object has that reason.
    pub async fn says(&self, name: &str, reason: &str) {
        self.until(&format!("{name}: {reason}"), LIMIT, |state| {
            let object = state.api.get(&named(name));
            object.is_some_and(|object| {
                settled::reason(object, "Ready").is_some_and(|(_, said)| said == reason)
            })
        })
        .await;
    }

    /// Waits until an object is gone.
    pub async fn gone(&self, name: &str) {
        self.until(&format!("{name} gone"), LIMIT, |state| {
            state.api.get(&named(name)).is_none()
        })
        .await;
    }

    /// Waits until so many requests of that kind were sent.
    pub async fn sent(&self, call: Call, times: u32) {
        self.until(&format!("{times} {call:?}"), LIMIT, |state| {
            state.network.sent(call) >= times
        })
        .await;
    }

    /// What became of an invitation.
    pub fn standing(&self, invite: &str) -> Standing {
        self.with(|state| state.astro.invitation(invite).unwrap().standing)
    }
}
