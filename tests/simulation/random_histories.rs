//! Thousands of random histories.

use std::collections::BTreeMap;

use orginvite_operator::resources::org_invite::ResendWhen::{Expired, Gone, Never};

use crate::history::Act::{
    Accept, Ask, ChangeMember, Crash, Create, Decline, Delete, EditResends, EditRole, Jump, Pause,
    ToggleLists, ToggleRetain, Withdraw,
};
use crate::history::{Scenario, run};

const ONE: &[(&str, &str)] = &[("jane", "jane@example.com")];
const TWO: &[(&str, &str)] = &[("jane", "jane@example.com"), ("doe", "Jane@Example.com")];

const ONE_OBJECT: Scenario = Scenario {
    objects: ONE,
    resend_when: &[Expired],
    acts: &[
        Create,
        Delete,
        EditRole,
        Ask,
        Accept,
        Decline,
        Withdraw,
        Jump,
        ChangeMember,
        Crash,
        Crash,
        Pause,
        Pause,
    ],
};

const TWO_OBJECTS: Scenario = Scenario {
    objects: TWO,
    resend_when: &[Expired],
    acts: &[
        Create,
        Create,
        Create,
        Delete,
        Delete,
        Accept,
        Decline,
        EditRole,
        ChangeMember,
        Jump,
        Crash,
        Pause,
    ],
};

const ROLE_EDITS: Scenario = Scenario {
    objects: ONE,
    resend_when: &[Expired],
    acts: &[
        EditRole, EditRole, EditRole, Accept, Decline, Delete, Create, Crash, Pause,
    ],
};

const RESENDS: Scenario = Scenario {
    objects: ONE,
    resend_when: &[Expired, Gone, Gone, Never],
    acts: &[
        Jump,
        Jump,
        Jump,
        Decline,
        Decline,
        Withdraw,
        Ask,
        Accept,
        EditResends,
        Crash,
        Pause,
    ],
};

const RETAIN: Scenario = Scenario {
    objects: TWO,
    resend_when: &[Expired],
    acts: &[
        ToggleRetain,
        ToggleRetain,
        Delete,
        Delete,
        Create,
        Create,
        Accept,
        EditRole,
        Crash,
        Pause,
    ],
};

/// Nobody asks for an e-mail and nobody is invited twice: without a look, either may write to a member.
const WITHOUT_LOOKING: Scenario = Scenario {
    objects: ONE,
    resend_when: &[Expired],
    acts: &[
        ToggleLists,
        ToggleLists,
        ToggleLists,
        EditRole,
        EditRole,
        EditRole,
        Accept,
        Decline,
        Withdraw,
        Delete,
        Jump,
        Crash,
        Pause,
    ],
};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// How many histories of each scenario are run.
const RUNS: u64 = 200;

/// Runs histories of a scenario; each of `kinds` must have happened, or they show nothing.
fn runs(scenario: &Scenario, kinds: &[&str]) {
    if let Some(seed) = number("SIMULATION_SEED") {
        let outcome = run(scenario, seed);
        println!("{}", outcome.trace);
        assert_eq!(outcome.violation, None, "seed {seed}");
        return;
    }
    let runs = number("SIMULATION_RUNS").unwrap_or(RUNS);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..runs {
        let outcome = run(scenario, seed);
        if let Some(violation) = outcome.violation {
            panic!("{}\nSIMULATION_SEED={seed}: {violation}", outcome.trace);
        }
        for (kind, count) in outcome.counts {
            *counts.entry(kind).or_default() += count;
        }
    }
    println!("{counts:#?}");
    for kind in kinds {
        let count = counts.get(*kind).copied().unwrap_or_default();
        assert!(count > 0 || runs < RUNS, "never happened: {kind}");
    }
}

#[test]
fn one_object() {
    let kinds = [
        "e-mails",
        "replacing attempts",
        "PatchRelease",
        "DELETE 204",
        "DELETE 404",
        "write 409",
        "terms",
        "crashes",
        "pauses",
        "clock jumps",
        "requests",
        "Accepted",
        "Declined",
        "Withdrawn",
        "Expired",
    ];
    runs(&ONE_OBJECT, &kinds);
}

#[test]
fn two_objects_for_one_address() {
    // An heir that takes over sets its finalizer first.
    runs(
        &TWO_OBJECTS,
        &["e-mails", "PatchHold", "PatchRelease", "crashes", "pauses"],
    );
}

#[test]
fn edited_roles() {
    runs(
        &ROLE_EDITS,
        &[
            "e-mails",
            "replacing attempts",
            "DELETE 204",
            "DELETE 404",
            "write 409",
        ],
    );
}

#[test]
fn resent_invitations() {
    runs(
        &RESENDS,
        &[
            "e-mails",
            "replacing attempts",
            "Expired",
            "Declined",
            "Withdrawn",
            "requests",
        ],
    );
}

#[test]
fn retained_invitations() {
    runs(
        &RETAIN,
        &[
            "e-mails",
            "PatchHold",
            "PatchRelease",
            "deletions",
            "DELETE 204",
        ],
    );
}

#[test]
fn a_token_that_may_not_always_list_users() {
    runs(
        &WITHOUT_LOOKING,
        &[
            "e-mails",
            "replacing attempts",
            "DELETE 204",
            "DELETE 404",
            "rights changed",
        ],
    );
}

#[test]
fn the_same_seed_is_the_same_run() {
    for scenario in [
        &ONE_OBJECT,
        &TWO_OBJECTS,
        &ROLE_EDITS,
        &RESENDS,
        &RETAIN,
        &WITHOUT_LOOKING,
    ] {
        for seed in 0..5 {
            assert_eq!(run(scenario, seed).trace, run(scenario, seed).trace);
        }
    }
}
