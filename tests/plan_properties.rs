//! What holds of every plan, whatever the facts: no table of rows, but arbitrary combinations of them,
//! also of those that never meet.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::struct_excessive_bools,
    reason = "a case is as wide as the facts"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orginvite_operator::astro::{Role, is_over};
use orginvite_operator::claims::{Heir, Standing};
use orginvite_operator::plan::{
    Doubt, Facts, Found, Lookup, Named, Observation, Own, Plan, Saying, Sight, State, Step, plan,
};
use orginvite_operator::reconcile::report;
use orginvite_operator::resources::org_invite::{Attempt, ResendWhen};
use orginvite_operator::resources::{OrgInvite, OrgInviteStatus, Reason};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

const MEMBER: Role = Role::OrganizationMember;
const ADMIN: Role = Role::OrganizationBillingAdmin;
/// The role that the policy does not allow.
const OWNER: Role = Role::OrganizationOwner;
const SPACING: Duration = Duration::from_mins(10);

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

/// All facts but the functions.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Case {
    deleting: bool,
    retain: bool,
    closing: bool,
    role: Role,
    resend_when: ResendWhen,
    max_resends: u32,
    asked: Option<String>,
    open: Option<Attempt>,
    record: OrgInviteStatus,
    held: bool,
    inherits: bool,
    heir: Heir,
    shared: bool,
    own_invite: bool,
    copied: bool,
    observed: Observation,
    own: Own,
    now: Timestamp,
}

impl Case {
    fn request(&self) -> Option<&str> {
        let asked = self.asked.as_deref()?;
        (self.record.last_resend_request.as_deref() != Some(asked)).then_some(asked)
    }

    fn plan(&self) -> Plan {
        let other: OrgInvite = serde_json::from_value(serde_json::json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "OrgInvite",
            "metadata": {"name": "other", "namespace": "elsewhere"},
            "spec": {"email": "jane@example.com", "role": "ORGANIZATION_MEMBER"},
        }))
        .unwrap();
        let standing = Standing {
            held_by: self.held.then_some(&other),
            heir: self.heir,
            inherits: self.inherits.then_some(&other),
            shared: if self.shared { vec!["x1"] } else { Vec::new() },
        };
        plan(&Facts {
            deleting: self.deleting,
            retain: self.retain,
            closing: self.closing,
            role: self.role,
            resend_when: self.resend_when,
            max_resends: self.max_resends,
            request: self.request(),
            spacing: SPACING,
            copied: self.copied,
            open: self.open.as_ref(),
            record: &self.record,
            permits: &|role| role != OWNER,
            own_invite: &|_| self.own_invite,
            standing: &standing,
            observed: &self.observed,
            own: &self.own,
            now: self.now,
            namespace: "here",
        })
    }

    fn shows_live(&self, id: &str) -> bool {
        matches!(&self.observed.sight, Sight::Pending(found)
            if found.iter().any(|one| one.id == id && !is_over(one.expires_at, self.now)))
    }

    fn shows(&self, id: &str) -> bool {
        matches!(&self.observed.sight, Sight::Pending(found) if found.iter().any(|one| one.id == id))
    }
}

fn role() -> impl Strategy<Value = Role> {
    select(vec![MEMBER, MEMBER, ADMIN, ADMIN, OWNER])
}

/// A moment around now, on both sides of every limit that counts.
fn moment() -> impl Strategy<Value = Timestamp> {
    select(vec![-3000, -20, -4, -1, 1, 4, 20, 3000]).prop_map(|minutes| now() + minutes.minutes())
}

fn extreme() -> impl Strategy<Value = Timestamp> {
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

fn text() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(select(vec!["once", "twice"]).prop_map(str::to_owned))
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
        3 => proptest::collection::vec(found(), 1..3).prop_map(Sight::Pending),
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
            last_resend_request,
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
            request,
            uid: None,
        }
    }
}

prop_compose! {
    fn own()(
        underway in any::<bool>(),
        revoke_answered_absent in any::<bool>(),
        revoke_refused in any::<bool>(),
        refused in proptest::bool::weighted(0.1),
        settles_at in proptest::option::of(moment()),
        not_before in proptest::option::of(moment()),
        unlisted in proptest::bool::weighted(0.1),
    ) -> Own {
        Own {
            underway: underway.then(|| "a2".to_owned()),
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
    ) -> (Role, ResendWhen, u32, Option<String>, bool, bool, bool) {
        (role, resend_when, max_resends, asked, deleting, retain, closing)
    }
}

fn flags() -> impl Strategy<Value = (bool, bool, bool, bool)> {
    let rarely = || proptest::bool::weighted(0.15);
    (rarely(), rarely(), rarely(), rarely())
}

prop_compose! {
    fn case()(
        spec in spec(),
        open in proptest::option::of(attempt()),
        forged in proptest::bool::weighted(0.3),
        record in record(),
        (held, inherits, shared, copied) in flags(),
        own_invite in any::<bool>(),
        heir in select(vec![Heir::None, Heir::Waiting, Heir::Recorded]),
        observed in observation(),
        own in own(),
    ) -> Case {
        let (role, resend_when, max_resends, asked, deleting, retain, closing) = spec;
        let open = open.map(|open: Attempt| Attempt {
            // Whoever may edit the object may write another ID there.
            replaces: open.replaces.and_then(|id| if forged { Some(id) } else { record.invite_id.clone() }),
            ..open
        });
        Case {
            deleting, retain, closing, role, resend_when, max_resends, asked, open, record, held,
            inherits, heir, shared, own_invite, copied, observed, own, now: now(),
        }
    }
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// The properties below are about steps that the cases reach often.
#[test]
fn every_step_is_reached() {
    let mut runner = TestRunner::deterministic();
    let mut reached: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..4_000 {
        let case = case().new_tree(&mut runner).unwrap().current();
        let step = format!("{:?}", case.plan().step);
        let name = step.split([' ', '(']).next().unwrap().to_owned();
        *reached.entry(name).or_default() += 1;
    }
    for step in [
        "Rest",
        "AwaitPass",
        "AwaitTime",
        "Send",
        "Post",
        "Adopt",
        "Inherit",
        "Close",
        "Drop",
        "Revoke",
        "Release",
    ] {
        let count = reached.get(step).copied().unwrap_or_default();
        assert!(count >= 10, "{step}: {count} in {reached:?}");
    }
}

proptest! {
    #![proptest_config(config())]

    /// An e-mail is planned only for somebody who may get one, now.
    #[test]
    fn an_e_mail_has_every_condition_fulfilled(case in case()) {
        let step = case.plan().step;
        if !matches!(step, Step::Send { .. } | Step::Post) {
            return Ok(());
        }
        prop_assert!(!case.deleting, "the object is being deleted");
        prop_assert!(!case.closing, "the Organization is being deleted");
        prop_assert!(case.observed.doubt.is_none(), "what is seen is doubted");
        prop_assert!(case.role != OWNER, "the policy does not allow the role");
        prop_assert!(!case.held, "another object holds the address");
        match &case.observed.sight {
            Sight::Absent | Sight::Pending(_) => {}
            Sight::Blind => prop_assert!(
                case.open.is_none() || case.request().is_some(),
                "an attempt is open and nobody can look"
            ),
            other => prop_assert!(false, "{other:?} is nobody to write to"),
        }
        if let Some(attempt) = &case.open
            && case.observed.sight != Sight::Blind
        {
            let underway = case.own.underway.as_ref() == Some(&attempt.id);
            let looked = underway && case.observed.term_settled;
            let settled = step != Step::Post && case.observed.settled;
            prop_assert!(looked || settled, "the attempt is not settled");
            let replaced = attempt.replaces.as_deref().is_some_and(|id| case.shows_live(id));
            prop_assert!(step != Step::Post || !replaced, "what is replaced can still be accepted");
            let another = matches!(&case.observed.sight, Sight::Pending(found)
                if found.iter().any(|one| Some(&one.id) != attempt.replaces.as_ref()));
            prop_assert!(!another, "what the attempt sent is there");
        }
        if let Step::Send { replaces: Some(replaced), unseen, resends, request } = &step {
            let seen = case.open.is_none() || case.shows_live(replaced);
            let blind = case.observed.sight == Sight::Blind;
            prop_assert_eq!(*unseen, !seen && !blind, "an earlier attempt may have deleted it");
            let recorded = case.record.invite_id.as_ref() == Some(replaced);
            prop_assert!(recorded, "an invitation of somebody else is replaced");
            if case.open.is_none() {
                let by_itself = *resends > case.record.resends;
                prop_assert!(!by_itself || *resends <= case.max_resends, "more than maxResends");
                prop_assert!(!by_itself || case.resend_when != ResendWhen::Never, "resendWhen is Never");
                prop_assert_eq!(request.is_some() && *request == case.asked,
                    case.request().is_some() || (case.asked.is_some() && case.asked == case.record.last_resend_request));
            }
        }
        let again = case.request().is_some();
        prop_assert!(case.open.is_some() || !case.copied || again, "another object sent one");
        if case.open.is_none() {
            prop_assert!(case.own.refused.is_none(), "Astro refused just that");
            prop_assert!(case.own.not_before.is_none_or(|time| time <= case.now), "too soon");
        }
    }

    /// What is deleted in Astro is the object's own, and there is a reason for it.
    #[test]
    fn a_delete_has_a_reason(case in case()) {
        match case.plan().step {
            Step::Revoke(id) => {
                prop_assert!(case.deleting && !case.retain);
                prop_assert!(case.open.is_none(), "an attempt is open");
                prop_assert_eq!(case.record.invite_id.as_ref(), Some(&id));
                prop_assert!(!(case.shared && id == "x1"), "another object records it");
                prop_assert_eq!(case.heir, Heir::None);
                let member = matches!(case.observed.sight, Sight::Member { .. });
                prop_assert!(!member, "the person is a member");
            }
            Step::Drop(id) => {
                prop_assert!(!(case.deleting && case.retain));
                prop_assert!(case.observed.settled, "the attempt is not settled");
                prop_assert!(!(case.shared && id == "x1"), "another object records it");
                prop_assert_eq!(case.open.and_then(|open| open.replaces), Some(id.clone()));
                prop_assert_eq!(case.record.invite_id, Some(id), "it is somebody else's");
            }
            _ => {}
        }
    }

    /// Nothing is let go that may be pending.
    #[test]
    fn a_release_leaves_nothing_behind(case in case()) {
        if case.plan().step != Step::Release {
            return Ok(());
        }
        prop_assert!(case.deleting);
        if case.retain {
            let over = case.own.settles_at.is_none_or(|time| time <= case.now);
            prop_assert!(case.open.is_none() || over, "an e-mail may be on its way");
            return Ok(());
        }
        if case.open.is_some() {
            prop_assert!(case.observed.settled || case.own.underway.is_some());
            let pending = matches!(&case.observed.sight, Sight::Pending(found)
                if found.iter().any(|one| case.open.as_ref().unwrap().replaces.as_ref() != Some(&one.id)));
            prop_assert!(!pending, "what the attempt sent is pending");
            return Ok(());
        }
        let Some(id) = &case.record.invite_id else { return Ok(()) };
        let unknown = matches!(case.observed.sight, Sight::NotYet | Sight::Unreadable(_));
        prop_assert!(!unknown, "nobody knows");
        let member = matches!(case.observed.sight, Sight::Member { .. });
        let handed_over = case.heir == Heir::Recorded || (case.shared && id == "x1");
        let looked = case.own.revoke_refused && !case.shows(id);
        // Who was seen to accept, before the token lost the right to look.
        let accepted = case.observed.sight == Sight::Blind && case.record.user_id.is_some();
        prop_assert!(
            member || accepted || handed_over || case.own.revoke_answered_absent || looked
        );
    }

    /// No plan waits for a moment that is over, and none names an object of another namespace.
    #[test]
    fn a_plan_waits_for_what_is_to_come(case in case()) {
        let plan = case.plan();
        if let Step::AwaitTime(time) = plan.step {
            prop_assert!(time >= case.now, "{time}");
        }
        if let State::Progressing(saying) | State::Stalled(saying) | State::Gone(saying)
            | State::Obscured(saying) | State::Member { saying, .. } = plan.state
        {
            prop_assert!(!saying.message.contains("elsewhere"));
        }
    }

    /// No moment that a status, Astro or a clock may name is too far away.
    #[test]
    fn no_moment_is_too_far_away(
        case in case(),
        (now, expiry, sent, gone) in (extreme(), extreme(), extreme(), extreme()),
    ) {
        let mut case = case;
        case.now = now;
        case.record.expires_at = Some(Time(expiry));
        case.record.invited_at = Some(Time(sent));
        case.record.gone_since = case.record.gone_since.map(|_| Time(gone));
        if let Sight::Pending(found) = &mut case.observed.sight {
            found[0].expires_at = Some(expiry);
        }
        let plan = case.plan();
        for blind in [true, false] {
            let _ = report::status(&case.record, &plan.state, blind, 1, now);
        }
    }

    /// Following its own steps in a world that does what they ask and else stands still, a plan comes to
    /// rest, with one invitation at most, which is the recorded one.
    #[test]
    fn plans_come_to_rest(case in case(), truth in truth()) {
        let mut run = Run::new(case, truth);
        let mut steps = Vec::new();
        while let Some(step) = run.next() {
            steps.push(step);
            prop_assert!(steps.len() < 60, "{steps:#?}");
        }
        run.judge()?;
    }
}

/// What is so in Astro.
#[derive(Clone, Debug)]
struct Truth {
    member: Option<Role>,
    live: Vec<Found>,
}

fn truth() -> impl Strategy<Value = Truth> {
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

/// One object alone in a quiet world.
struct Run {
    case: Case,
    truth: Truth,
    sent: u32,
    released: bool,
}

impl Run {
    fn new(mut case: Case, truth: Truth) -> Self {
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
        case.observed = Observation {
            lookup: if recorded.is_some() && !shown(&self.truth.live) {
                Lookup::Gone
            } else {
                Lookup::NotAsked
            },
            sight: match self.truth.member {
                Some(role) => Sight::Member {
                    user_id: "u".to_owned(),
                    role: Some(role),
                },
                None if self.truth.live.is_empty() => Sight::Absent,
                None => Sight::Pending(self.truth.live.clone()),
            },
            settled: true,
            term_settled: true,
            named: None,
            next_look: None,
            doubt: None,
        };
    }

    /// Takes the next step; `None` at rest.
    fn next(&mut self) -> Option<Step> {
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

    fn judge(&self) -> Result<(), TestCaseError> {
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
