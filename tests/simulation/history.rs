//! Random histories: what people do, what breaks, and when, all from one seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use orginvite_operator::astro::Role;
use orginvite_operator::resources::org_invite::{DeletionPolicy, ResendWhen};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;

use crate::api_server::Key;
use crate::network::{Call, Weather};
use crate::organization::{Again, Ended, Habits, Standing};
use crate::process::Process;
use crate::settled;
use crate::users::{named, spec};
use crate::world::{State, World};

/// What may happen next.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    Create,
    Delete,
    EditRole,
    EditResends,
    ToggleRetain,
    Ask,
    Accept,
    Decline,
    Withdraw,
    /// Somebody removes a member, or gives another role.
    ChangeMember,
    /// Astro's clock jumps.
    Jump,
    /// The token loses the right to list users, or gets it back.
    ToggleLists,
    Crash,
    Pause,
}

/// A kind of history.
pub struct Scenario {
    /// The objects that may exist: name, and address as it is written.
    pub objects: &'static [(&'static str, &'static str)],
    /// When invitations are sent again.
    pub resend_when: &'static [ResendWhen],
    /// What may happen, each as often as it is likely.
    pub acts: &'static [Act],
}

/// What became of a run.
pub struct Outcome {
    pub violation: Option<String>,
    pub trace: String,
    pub counts: BTreeMap<String, u32>,
}

/// Runs the history that `seed` makes of a scenario.
pub fn run(scenario: &Scenario, seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new(seed, Weather::CALM, Habits::PLAIN);
        world.with(|state| {
            state.network.weather = weather(state);
            state.astro.habits = habits(state);
        });
        play(&world, scenario).await;
        Outcome {
            violation: world.violation(),
            trace: world.trace(),
            counts: world.with(|state| state.counts.clone()),
        }
    })
}

fn weather(state: &mut State) -> Weather {
    let dice = &mut state.dice;
    let weather = Weather {
        latency: Duration::from_millis(*[20, 400, 2000].choose(dice).unwrap()),
        trouble: *[0.0, 0.05, 0.15, 0.3].choose(dice).unwrap(),
        watch_lag: Duration::from_millis(*[20, 500, 4000].choose(dice).unwrap()),
        listing_lag: [*[Duration::ZERO, Duration::from_secs(3), crate::LISTING_DELAY]
            .choose(dice)
            .unwrap(); 2],
        exact: false,
    };
    state.log(format!("{weather:?}"));
    weather
}

fn habits(state: &mut State) -> Habits {
    let dice = &mut state.dice;
    let habits = Habits {
        again: *[Again::Second, Again::Second, Again::Same, Again::Refused]
            .choose(dice)
            .unwrap(),
        ended: *[
            Ended::NotFound,
            Ended::NotFound,
            Ended::BadRequest,
            Ended::OldBody,
        ]
        .choose(dice)
        .unwrap(),
        accepted_is_400: dice.random(),
        expired_is_404: dice.random(),
        everybody_has_pending: dice.random(),
        expired_is_listed: dice.random(),
        lists_roles: dice.random_bool(0.8),
    };
    state.log(format!("{habits:?}"));
    habits
}

async fn play(world: &Arc<World>, scenario: &Scenario) {
    let (processes, rounds) = world.with(|state| {
        (
            state.dice.random_range(1..=2),
            state.dice.random_range(3..=14),
        )
    });
    let mut processes: Vec<Process> = (0..processes)
        .map(|number| Process::start(world, &format!("P{number}")))
        .collect();
    world.with(|state| create(state, scenario, 0));
    for _ in 0..rounds {
        wait(world).await;
        if world.violation().is_some() {
            return;
        }
        let act = world.with(|state| *scenario.acts.choose(&mut state.dice).unwrap());
        match act {
            Act::Crash => {
                let at = world.with(|state| state.dice.random_range(0..processes.len()));
                processes[at].crash();
            }
            Act::Pause => {
                let (at, time) = world.with(|state| {
                    let at = state.dice.random_range(0..processes.len());
                    (at, state.some(Duration::from_secs(90)))
                });
                processes[at].pause_for(time);
            }
            act => world.with(|state| perform(state, scenario, act)),
        }
    }
    world.with(|state| {
        state.log("no more trouble");
        state.network.weather.trouble = 0.0;
        if !state.astro.may_list {
            state.let_list(true);
        }
        // Or they would expire for ever.
        state.astro.lifetime = Duration::from_hours(24);
    });
    settled::judge(world).await;
}

/// Waits a while, or for the next request of a kind, to come between it and what follows.
async fn wait(world: &Arc<World>) {
    const AMBUSHES: [Call; 6] = [
        Call::PatchAttempt,
        Call::WriteStatus,
        Call::PatchHold,
        Call::PatchRelease,
        Call::Post,
        Call::Delete,
    ];
    let (ambush, gap, patience) = world.with(|state| {
        let ambush = state.dice.random_bool(0.5);
        let call = *AMBUSHES.choose(&mut state.dice).unwrap();
        let longest = *[200, 1000, 20_000, 180_000, 1_200_000]
            .choose(&mut state.dice)
            .unwrap();
        let gap = state.some(Duration::from_millis(longest));
        let short = state.some(Duration::from_millis(500));
        if ambush {
            (Some((call, state.network.sent(call))), short, gap)
        } else {
            (None, gap, gap)
        }
    });
    if let Some((call, before)) = ambush {
        let sent = world.when(|state| state.network.sent(call) > before);
        tokio::time::timeout(patience.max(Duration::from_mins(3)), sent)
            .await
            .ok();
    }
    tokio::time::sleep(gap).await;
}

fn create(state: &mut State, scenario: &Scenario, at: usize) {
    let (name, email) = scenario.objects[at];
    let mut spec = spec(email, role(state));
    spec.resend_when = *scenario.resend_when.choose(&mut state.dice).unwrap();
    spec.max_resends = state.dice.random_range(0..=3);
    state.create(&named(name), spec);
}

fn role(state: &mut State) -> Role {
    *[
        Role::OrganizationMember,
        Role::OrganizationMember,
        Role::OrganizationMember,
        Role::OrganizationBillingAdmin,
        Role::OrganizationBillingAdmin,
        Role::OrganizationOwner,
    ]
    .choose(&mut state.dice)
    .unwrap()
}

fn some_key(state: &mut State, scenario: &Scenario) -> (usize, Key) {
    let at = state.dice.random_range(0..scenario.objects.len());
    (at, named(scenario.objects[at].0))
}

fn perform(state: &mut State, scenario: &Scenario, act: Act) {
    let (at, key) = some_key(state, scenario);
    match act {
        Act::Create => create(state, scenario, at),
        Act::Delete => state.delete(&key),
        Act::EditRole => {
            let role = role(state);
            state.edit(&key, |spec| spec.role = role);
        }
        Act::EditResends => {
            let when = *[ResendWhen::Expired, ResendWhen::Gone, ResendWhen::Never]
                .choose(&mut state.dice)
                .unwrap();
            state.edit(&key, |spec| spec.resend_when = when);
        }
        Act::ToggleRetain => state.edit(&key, |spec| {
            spec.deletion_policy = match spec.deletion_policy {
                DeletionPolicy::Delete => DeletionPolicy::Retain,
                DeletionPolicy::Retain | DeletionPolicy::Unknown => DeletionPolicy::Delete,
            };
        }),
        Act::Ask => {
            let value = state.counted("requests").to_string();
            state.ask(&key, &value);
        }
        Act::Accept => end(state, Standing::Accepted),
        Act::Decline => end(state, Standing::Declined),
        Act::Withdraw => end(state, Standing::Withdrawn),
        Act::ChangeMember => {
            let address = scenario.objects[at].1.to_lowercase();
            let role = state
                .dice
                .random::<bool>()
                .then_some(Role::OrganizationBillingAdmin);
            state.set_member(&address, role);
        }
        Act::Jump => {
            let by = *[-60, 30, 200].choose(&mut state.dice).unwrap();
            state.jump(SignedDuration::from_secs(by));
        }
        Act::ToggleLists => state.let_list(!state.astro.may_list),
        Act::Crash | Act::Pause => {}
    }
}

/// The latest invitation that can still be answered ends so.
fn end(state: &mut State, standing: Standing) {
    let live = state
        .astro
        .invitations
        .iter()
        .rfind(|one| one.standing == Standing::Live)
        .map(|one| one.id.clone());
    if let Some(id) = live {
        state.end(&id, standing);
    }
}
