//! For each rule of the one-e-mail protocol, the run that goes wrong without it.
//!
//! The runs are those that an explicit-state model of the protocol found; the numbers are those of the
//! rules in "Exactly one e-mail" of `docs/design.md`.

use std::time::Duration;

use orginvite_operator::resources::org_invite::DeletionPolicy;

use crate::LISTING_DELAY;
use crate::network::{Answer, Call, Fate};
use crate::organization::{Habits, Standing};
use crate::process::Process;
use crate::stage::{ADMIN, EMAIL, MEMBER, late, play, seconds, unheard};
use crate::users::named;

/// Rule 3. An attempt that is old when its e-mail is sent: its POST is on its way when the next leader
/// looks, and settling counts from that leader's own beginning.
#[test]
fn settling_does_not_count_from_the_age_of_the_attempt() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.network.weather.listing_lag = LISTING_DELAY);
        let first = Process::start(&world, "P0");
        let _second = Process::start(&world, "P1");
        seconds(1).await;
        world.next(
            Call::PatchAttempt,
            Fate {
                effect: Some(Duration::from_millis(5)),
                answer: Answer::After(Duration::from_secs(200)),
            },
        );
        world.next(Call::Post, late(Duration::from_millis(14_900)));
        world.create("jane", MEMBER);
        // The last renewal is at most 8 seconds old.
        seconds(185).await;
        world.with(|state| state.lease.cut_off(Some("P0")));
        world.sent(Call::Post, 1).await;
        assert!(first.leads());
        world.has("jane", "x1").await;
        assert_eq!(world.emails(), 1);
    });
}

/// Rule 6. A leader whose patch is answered in its next term does not send what the last one planned.
#[test]
fn a_plan_ends_with_its_term() {
    play(Habits::PLAIN, async |world| {
        let first = Process::start(&world, "P0");
        seconds(1).await;
        let second = Process::start(&world, "P1");
        world.next(
            Call::PatchAttempt,
            Fate {
                effect: Some(Duration::from_millis(5)),
                answer: Answer::After(Duration::from_secs(400)),
            },
        );
        world.create("jane", MEMBER);
        world.sent(Call::PatchAttempt, 1).await;
        world.with(|state| state.lease.cut_off(Some("P0")));
        world.has("jane", "x1").await;
        world.with(|state| state.lease.cut_off(None));
        second.end();
        seconds(60).await;
        assert!(first.leads());
        seconds(400).await;
        assert_eq!(world.emails(), 1);
    });
}

/// Rule 6. What a leader knew of the people before another one led says nothing any more.
#[test]
fn a_directory_ends_with_its_term() {
    play(Habits::PLAIN, async |world| {
        let first = Process::start(&world, "P0");
        seconds(1).await;
        let second = Process::start(&world, "P1");
        assert!(first.leads());
        world.with(|state| state.lease.cut_off(Some("P0")));
        seconds(40).await;
        assert!(second.leads());
        world.create("jane", MEMBER);
        world.has("jane", "x1").await;
        world.end("x1", Standing::Accepted);
        world.delete("jane");
        world.gone("jane").await;
        world.with(|state| state.lease.cut_off(None));
        second.end();
        seconds(40).await;
        assert!(first.leads());
        // Its last pass is from before all that.
        world.create("doe", MEMBER);
        world.says("doe", "AlreadyMember").await;
        assert_eq!(world.emails(), 1);
    });
}

/// Rule 1. The attempt says as what it was sent: a role that is edited meanwhile is not taken for it.
#[test]
fn an_attempt_says_as_what_it_was_sent() {
    let habits = Habits {
        lists_roles: false,
        ..Habits::PLAIN
    };
    play(habits, async |world| {
        let _operator = Process::start(&world, "P0");
        seconds(1).await;
        world.next(Call::Post, unheard());
        world.create("jane", MEMBER);
        world.sent(Call::Post, 1).await;
        seconds(1).await;
        world.edit("jane", |spec| spec.role = ADMIN);
        world.has("jane", "x2").await;
        assert_eq!(world.standing("x1"), Standing::Revoked);
        assert_eq!(world.emails(), 2);
    });
}

/// Rule 1. The patch comes before the DELETE: a crash between DELETE and POST loses no invitation.
#[test]
fn the_attempt_is_recorded_before_the_old_invitation_is_deleted() {
    play(Habits::PLAIN, async |world| {
        let mut operator = Process::start(&world, "P0");
        world.create("jane", MEMBER);
        world.has("jane", "x1").await;
        seconds(200).await;
        world.edit("jane", |spec| spec.role = ADMIN);
        world
            .until("the DELETE", Duration::from_mins(10), |state| {
                state.astro.invitation("x1").unwrap().standing == Standing::Revoked
            })
            .await;
        operator.crash();
        world.has("jane", "x2").await;
        assert_eq!(world.emails(), 2);
    });
}

/// Rule 4. A DELETE that answers 404 may mean that the person has just accepted.
#[test]
fn there_is_a_look_between_delete_and_post() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.network.weather.listing_lag = LISTING_DELAY);
        let _operator = Process::start(&world, "P0");
        world.create("jane", MEMBER);
        world.has("jane", "x1").await;
        seconds(200).await;
        world.next(Call::Delete, late(Duration::from_secs(1)));
        world.edit("jane", |spec| spec.role = ADMIN);
        world.sent(Call::Delete, 1).await;
        world.end("x1", Standing::Accepted);
        world.says("jane", "RoleDiffers").await;
        assert_eq!(world.with(|state| state.counted("DELETE 404")), 1);
        assert_eq!(world.emails(), 1);
    });
}

/// Rule 7. A status write that arrives when everything is over changes nothing.
#[test]
fn a_late_status_write_does_not_open_an_attempt_again() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.next(
            Call::PatchStatus,
            Fate {
                effect: Some(Duration::from_mins(5)),
                answer: Answer::Cut(Duration::from_millis(100)),
            },
        );
        world.create("jane", MEMBER);
        world.has("jane", "x1").await;
        world.edit("jane", |spec| spec.role = ADMIN);
        world.has("jane", "x2").await;
        world.end("x2", Standing::Declined);
        world
            .until("the late write", Duration::from_mins(10), |state| {
                state.counted("write 409") == 1
            })
            .await;
        world.says("jane", "InvitationWithdrawn").await;
        assert_eq!(world.emails(), 2);
    });
}

/// Rule 9. Who takes an invitation over holds on to it first: deleted right then, it takes it back.
#[test]
fn an_heir_sets_its_finalizer_before_the_record() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.create("jane", MEMBER);
        world.has("jane", "x1").await;
        world.create("doe", MEMBER);
        world.says("doe", "Conflict").await;
        world.delete("jane");
        world.gone("jane").await;
        world.delete("doe");
        world.gone("doe").await;
        assert_eq!(world.standing("x1"), Standing::Revoked);
        assert_eq!(world.emails(), 1);
    });
}

/// Rule 9. The same for an invitation that is found.
#[test]
fn who_adopts_sets_its_finalizer_before_the_record() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.with(|state| state.invite_from_outside(EMAIL, MEMBER));
        seconds(200).await;
        world.create("jane", MEMBER);
        world.has("jane", "x1").await;
        world.delete("jane");
        world.gone("jane").await;
        assert_eq!(world.standing("x1"), Standing::Revoked);
        assert_eq!(world.emails(), 0);
    });
}

/// Claims. The heir records first and the holder goes afterwards: what was declined is not sent again.
#[test]
fn a_holder_goes_only_when_its_heir_has_the_record() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.create("jane", MEMBER);
        world.has("jane", "x1").await;
        world.create("doe", MEMBER);
        world.says("doe", "Conflict").await;
        world.end("x1", Standing::Declined);
        world.delete("jane");
        world.gone("jane").await;
        world.says("doe", "InvitationWithdrawn").await;
        assert_eq!(world.emails(), 1);
    });
}

/// Rule 7. A finalizer is removed only from the object that was planned from.
#[test]
fn a_release_that_was_planned_from_an_older_object_is_refused() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.create("jane", MEMBER);
        world.has("jane", "x1").await;
        world.edit("jane", |spec| spec.deletion_policy = DeletionPolicy::Retain);
        seconds(60).await;
        world.next(Call::PatchRelease, late(Duration::from_secs(1)));
        world.delete("jane");
        world.sent(Call::PatchRelease, 1).await;
        world.edit("jane", |spec| spec.deletion_policy = DeletionPolicy::Delete);
        world.gone("jane").await;
        assert_eq!(world.standing("x1"), Standing::Revoked);
    });
}

/// Rule 10. After a 404 the object stays until a look shows what became of the person: the next leader
/// would look too early.
#[test]
fn a_release_after_a_404_waits_for_a_look() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.network.weather.listing_lag = LISTING_DELAY);
        let mut operator = Process::start(&world, "P0");
        world.create("jane", MEMBER);
        world.has("jane", "x1").await;
        seconds(60).await;
        world.end("x1", Standing::Accepted);
        world.delete("jane");
        world.gone("jane").await;
        operator.crash();
        world.create("doe", MEMBER);
        world.says("doe", "AlreadyMember").await;
        assert_eq!(world.with(|state| state.counted("DELETE 404")), 1);
        assert_eq!(world.emails(), 1);
        assert!(world.with(|state| state.api.get(&named("jane")).is_none()));
    });
}
