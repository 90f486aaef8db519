//! What holds of every plan, whatever the facts: no table of rows, but arbitrary combinations of them,
//! also of those that never meet.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orginvite_operator::astro::is_over;
use orginvite_operator::claims::Heir;
use orginvite_operator::plan::{Lookup, Sight, State, Step};
use orginvite_operator::reconcile::report;
use orginvite_operator::resources::org_invite::{Attempt, ResendWhen};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::arbitrary::{case, extreme, truth};
use crate::case::{Case, OWNER, SHARED};
use crate::quiet_world::Run;

impl Case {
    /// Nobody can look, and this term did not send the POST of the open attempt.
    fn is_unsent(&self) -> bool {
        let unsent = |open: &Attempt| self.own.unsent.as_ref() == Some(&open.id);
        self.sight == Sight::Blind && self.open.as_ref().is_some_and(unsent)
    }

    /// The same, and what it was to replace is the object's own and can still be accepted.
    fn is_unsent_and_replaceable(&self) -> bool {
        let replaced = self.open.as_ref().and_then(|open| open.replaces.as_ref());
        let expires_at = self.record.expires_at.as_ref().map(|time| time.0);
        self.is_unsent()
            && replaced == self.record.invite_id.as_ref()
            && self.lookup == Lookup::Exists
            && !is_over(expires_at, self.now)
    }

    fn shows_live(&self, id: &str) -> bool {
        let recorded = if self.record.invite_id.as_deref() == Some(id) {
            self.record.expires_at.as_ref().map(|time| time.0)
        } else {
            None
        };
        matches!(&self.sight, Sight::Pending(found)
            if found.iter().any(|one| one.id == id && !is_over(one.expires_at.or(recorded), self.now)))
    }
}

/// `PROPTEST_CASES` and `PROPTEST_RNG_SEED` from the environment look further.
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
        prop_assert!(case.doubt.is_none(), "what is seen is doubted");
        prop_assert!(case.role != OWNER, "the policy does not allow the role");
        prop_assert!(!case.held, "another object holds the address");
        match &case.sight {
            Sight::Absent | Sight::Pending(_) => {}
            Sight::Blind => prop_assert!(
                case.open.is_none() || case.request().is_some() || case.is_unsent_and_replaceable(),
                "an attempt is open and nobody can look"
            ),
            other => prop_assert!(false, "{other:?} is nobody to write to"),
        }
        if let Some(attempt) = &case.open
            && case.sight != Sight::Blind
        {
            let underway = case.own.underway.as_ref() == Some(&attempt.id);
            let looked = underway && case.term_settled;
            let settled = step != Step::Post && case.settled;
            prop_assert!(looked || settled, "the attempt is not settled");
            let replaced = attempt.replaces.as_deref().is_some_and(|id| case.shows_live(id));
            prop_assert!(step != Step::Post || !replaced, "what is replaced can still be accepted");
            let another = matches!(&case.sight, Sight::Pending(found)
                if found.iter().any(|one| Some(&one.id) != attempt.replaces.as_ref()));
            prop_assert!(!another, "what the attempt sent is there");
        }
        if let Step::Send { replaces: Some(replaced), unseen, resends, request } = &step {
            let seen = case.open.is_none() || case.shows_live(replaced);
            prop_assert_eq!(*unseen, !seen, "an earlier attempt may have deleted it");
            let recorded = case.record.invite_id.as_ref() == Some(replaced);
            prop_assert!(recorded, "an invitation of somebody else is replaced");
            if case.open.is_none() {
                let by_itself = *resends > case.record.resends;
                prop_assert!(!by_itself || *resends <= case.max_resends, "more than maxResends");
                prop_assert!(!by_itself || case.resend_when != ResendWhen::Never, "resendWhen is Never");
                prop_assert_eq!(request.is_some() && request.as_deref() == case.asked,
                    case.request().is_some() || (case.asked.is_some() && case.asked == case.record.last_resend_request.as_deref()));
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
                let unsent = case.is_unsent() || case.own.underway.is_some();
                prop_assert!(case.open.is_none() || unsent, "an attempt is open");
                prop_assert_eq!(case.record.invite_id.as_ref(), Some(&id));
                prop_assert!(!(case.shared && id == SHARED), "another object records it");
                prop_assert!(case.heir == Heir::None || (case.heir == Heir::Waiting && case.open.is_some()));
                let member = matches!(case.sight, Sight::Member { .. });
                prop_assert!(!member, "the person is a member");
            }
            Step::Drop(id) => {
                prop_assert!(!(case.deleting && case.retain));
                prop_assert!(case.settled, "the attempt is not settled");
                prop_assert!(!(case.shared && id == SHARED), "another object records it");
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
        if case.open.is_some() && !case.is_unsent() {
            prop_assert!(case.settled || case.own.underway.is_some());
            let pending = matches!(&case.sight, Sight::Pending(found)
                if found.iter().any(|one| case.open.as_ref().unwrap().replaces.as_ref() != Some(&one.id)));
            prop_assert!(!pending, "what the attempt sent is pending");
            let hidden = matches!(case.sight, Sight::Unidentified | Sight::Barred);
            let told = case.record.invite_id.is_some() || case.role != OWNER;
            prop_assert!(!hidden || !told || case.own.underway.is_some(), "it may be");
            let replaced = case.record.invite_id.is_some() && hidden;
            let proven = case.own.revoke_answered_absent || case.own.revoke_refused;
            let handed_over = case.heir == Heir::Recorded || case.shared;
            prop_assert!(!replaced || proven || handed_over, "so may what it was to replace");
            return Ok(());
        }
        let Some(id) = &case.record.invite_id else { return Ok(()) };
        let unknown = matches!(case.sight, Sight::NotYet | Sight::Unreadable(_));
        prop_assert!(!unknown, "nobody knows");
        let member = matches!(case.sight, Sight::Member { .. });
        let handed_over = case.heir == Heir::Recorded || (case.shared && id == SHARED);
        let answered = case.own.revoke_answered_absent || case.own.revoke_refused;
        let looked = answered && !case.shows_live(id);
        // Who was seen to accept, before the token lost the right to look.
        let accepted = case.sight == Sight::Blind && case.record.user_id.is_some();
        prop_assert!(
            member || accepted || handed_over || looked
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
        if let Sight::Pending(found) = &mut case.sight {
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
