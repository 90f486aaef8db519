//! Arbitrary facts, also those that never meet.

use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orginvite_operator::astro::Role;
use orginvite_operator::claims::Heir;
use orginvite_operator::plan::{Doubt, Found, Lookup, Named, Observation, Own, Saying, Sight};
use orginvite_operator::resources::org_invite::{Attempt, ResendWhen};
use orginvite_operator::resources::{OrgInviteStatus, Reason};
use proptest::prelude::*;
use proptest::sample::select;

use crate::case::{ADMIN, Case, MEMBER, OWNER, now};
use crate::quiet_world::Truth;

fn role() -> impl Strategy<Value = Role> {
    select(vec![MEMBER, MEMBER, ADMIN, ADMIN, OWNER])
}

/// A moment around now, on both sides of every limit that counts.
fn moment() -> impl Strategy<Value = Timestamp> {
    select(vec![-3000, -20, -4, -1, 1, 4, 20, 3000]).prop_map(|minutes| now() + minutes.minutes())
}

pub fn extreme() -> impl Strategy<Value = Timestamp> {
    let around = [Timestamp::MIN, Timestamp::UNIX_EPOCH, now(), Timestamp::MAX];
    let near = select(vec![-400_i64, -301, -1, 0, 1, 299, 400]);
    (select(around.to_vec()), near).prop_map(|(time, seconds)| {
        let seconds = jiff::SignedDuration::from_secs(seconds);
        time.saturating_add(seconds).unwrap()
    })
}

fn later() -> impl Strategy<Value = Timestamp> {
    select(vec![1, 90, 900]).prop_map(|seconds| now() + seconds.seconds())
}

fn invite() -> impl Strategy<Value = String> {
    select(vec!["x1", "x2", "x3"]).prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = Option<&'static str>> {
    proptest::option::of(select(vec!["once", "twice"]))
}

prop_compose! {
    fn found()(
        id in invite(),
        role in proptest::option::of(role()),
        expires_at in proptest::option::of(moment()),
    ) -> Found {
        Found { id, role, expires_at, inviter: None }
    }
}

fn sight() -> impl Strategy<Value = Sight> {
    prop_oneof![
        1 => Just(Sight::NotYet),
        1 => Just(Sight::Unreadable("503".to_owned())),
        2 => Just(Sight::Blind),
        3 => Just(Sight::Absent),
        3 => proptest::collection::vec(found(), 1..3).prop_map(|mut found| {
            // No invite contradicts itself.
            found.dedup_by(|a, b| a.id == b.id);
            Sight::Pending(found)
        }),
        2 => proptest::option::of(role()).prop_map(|role| Sight::Member {
            user_id: "u".to_owned(),
            role,
        }),
        1 => Just(Sight::Barred),
        1 => Just(Sight::Unidentified),
    ]
}

fn lookup() -> impl Strategy<Value = Lookup> {
    prop_oneof![
        Just(Lookup::NotAsked),
        later().prop_map(Lookup::InLine),
        Just(Lookup::Exists),
        Just(Lookup::Gone),
        Just(Lookup::GoneOnce),
        Just(Lookup::Unknown("503".to_owned())),
    ]
}

fn named() -> impl Strategy<Value = Option<Named>> {
    proptest::option::of(prop_oneof![
        later().prop_map(Named::InLine),
        found().prop_map(Named::Found),
        Just(Named::Refused("404".to_owned())),
    ])
}

prop_compose! {
    fn observation()(
        sight in sight(),
        settled in proptest::bool::weighted(0.7),
        term_settled in proptest::bool::weighted(0.7),
        lookup in lookup(),
        named in named(),
        next_look in proptest::option::of(later()),
        doubt in proptest::option::weighted(0.1, select(vec![Doubt::Missing, Doubt::Unread])),
    ) -> Observation {
        Observation { sight, settled, term_settled, lookup, named, next_look, doubt }
    }
}

prop_compose! {
    fn record()(
        invite_id in proptest::option::of(invite()),
        attempt in any::<bool>(),
        role in proptest::option::of(role()),
        invited_at in proptest::option::of(moment()),
        expires_at in proptest::option::of(moment()),
        resends in 0_u32..5,
        last_resend_request in text(),
        member in any::<bool>(),
        gone in any::<bool>(),
    ) -> OrgInviteStatus {
        OrgInviteStatus {
            invite_id,
            attempt_id: attempt.then(|| "a1".to_owned()),
            role,
            invited_at: invited_at.map(Time),
            expires_at: expires_at.map(Time),
            resends,
            last_resend_request: last_resend_request.map(str::to_owned),
            user_id: member.then(|| "u".to_owned()),
            gone_since: gone.then(|| Time(now() - 1.hour())),
            ..OrgInviteStatus::default()
        }
    }
}

prop_compose! {
    fn attempt()(
        role in role(),
        replaces in proptest::option::of(invite()),
        resends in 0_u32..5,
        request in text(),
    ) -> Attempt {
        Attempt {
            id: "a2".to_owned(),
            email: "jane@example.com".to_owned(),
            role,
            replaces,
            resends,
            request: request.map(str::to_owned),
            uid: None,
            after: None,
            named: None,
            told: None,
        }
    }
}

prop_compose! {
    fn own()(
        underway in any::<bool>(),
        unsent in any::<bool>(),
        revoke_answered_absent in any::<bool>(),
        revoke_refused in any::<bool>(),
        refused in proptest::bool::weighted(0.1),
        settles_at in proptest::option::of(moment()),
        not_before in proptest::option::of(moment()),
        unlisted in proptest::bool::weighted(0.1),
    ) -> Own {
        Own {
            underway: underway.then(|| "a2".to_owned()),
            unsent: (underway || unsent).then(|| "a2".to_owned()),
            revoke_answered_absent,
            revoke_refused,
            refused: refused.then(|| Saying {
                reason: Reason::Refused,
                message: String::new(),
            }),
            settles_at,
            not_before,
            unlisted,
        }
    }
}

prop_compose! {
    fn spec()(
        role in role(),
        resend_when in select(vec![ResendWhen::Expired, ResendWhen::Gone, ResendWhen::Never]),
        max_resends in 0_u32..4,
        asked in text(),
        deleting in proptest::bool::weighted(0.4),
        retain in proptest::bool::weighted(0.3),
        closing in proptest::bool::weighted(0.1),
    ) -> (Role, ResendWhen, u32, Option<&'static str>, bool, bool, bool) {
        (role, resend_when, max_resends, asked, deleting, retain, closing)
    }
}

fn flags() -> impl Strategy<Value = (bool, bool, bool, bool)> {
    let rarely = || proptest::bool::weighted(0.15);
    (rarely(), rarely(), rarely(), rarely())
}

prop_compose! {
    pub fn case()(
        spec in spec(),
        open in proptest::option::of(attempt()),
        forged in proptest::bool::weighted(0.3),
        record in record(),
        (held, inherits, shared, copied) in flags(),
        from_retain in any::<bool>(),
        own_invite in any::<bool>(),
        (heir, would_send) in select(vec![
            (Heir::None, false), (Heir::None, true), (Heir::Waiting, true), (Heir::Recorded, false),
        ]),
        observed in observation(),
        own in own(),
    ) -> Case {
        let (role, resend_when, max_resends, asked, deleting, retain, closing) = spec;
        let open = open.map(|open: Attempt| Attempt {
            // Whoever may edit the object may write another ID there.
            replaces: open.replaces.and_then(|id| if forged { Some(id) } else { record.invite_id.clone() }),
            ..open
        });
        let Observation { sight, settled, term_settled, lookup, named, next_look, doubt } = observed;
        Case {
            deleting, retain, closing, role, resend_when, max_resends, asked, open, copied, record,
            own_invite, held, inherits, from_retain, heir, would_send, shared, sight, settled, term_settled, lookup,
            named, next_look, doubt, own, now: now(), namespace: "here",
        }
    }
}

pub fn truth() -> impl Strategy<Value = Truth> {
    let live = proptest::collection::vec(
        (invite(), select(vec![MEMBER, ADMIN])).prop_map(|(id, role)| Found {
            id,
            role: Some(role),
            expires_at: Some(now() + 20.minutes()),
            inviter: None,
        }),
        0..3,
    );
    prop_oneof![
        live.prop_map(|mut live| {
            live.dedup_by(|a, b| a.id == b.id);
            Truth { member: None, live }
        }),
        role().prop_map(|role| Truth {
            member: Some(role),
            live: Vec::new(),
        }),
    ]
}
