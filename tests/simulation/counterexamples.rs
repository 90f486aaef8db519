//! For each rule of the one-e-mail protocol, the run that goes wrong without it.
//!
//! The runs are those that an explicit-state model of the protocol found; the numbers are those of the
//! rules in "Exactly one e-mail" of `docs/design.md`.
//!
//! A test that passes without its rule shows nothing: whoever writes one takes the rule out and sees it
//! fail. No run is known that needs rule 8, or of rule 4 the settle time after the term's beginning:
//! resource versions (rule 7) and settling (rule 3) hold where they would go wrong.

use std::time::Duration;

use kube::ResourceExt;
use orginvite_operator::resources::org_invite::{DeletionPolicy, FINALIZER};

use crate::ledger::recorded;
use crate::network::{Answer, Call, Fate};
use crate::organization::{Again, Habits, Standing, Undone};
use crate::process::Process;
use crate::stage::{
    ADMIN, EMAIL, MEMBER, late, late_and_unheard, lost, play, refused, seconds, unheard,
};
use crate::users::{named, spec};
use crate::{LISTING_DELAY, SETTLE};

/// Both lists show a change as late as they may.
const SLOW_LISTS: [Duration; 2] = [LISTING_DELAY; 2];
/// An invitation that ends leaves its list at once, and the person shows among the members late: in
/// between there is neither.
const A_GAP: [Duration; 2] = [Duration::ZERO, LISTING_DELAY];

/// Rule 1. One turn at a time for an address, and it remembers what the last one did: an invitation that
/// was just taken back is not adopted for the next object.
#[test]
fn what_was_just_taken_back_is_not_adopted() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        // Until a pass has shown it.
        seconds(310).await;
        world.delete("jane");
        world.gone("jane").await;
        world.create("sam", MEMBER);
        world.has("sam", "x2").await;
        assert_eq!(world.emails(), 2);
    });
}

/// Rules 1 and 7. An object that somebody else writes while the attempt's patch is on its way is planned
/// afresh: that was no attempt.
#[test]
fn a_conflict_on_the_patch_is_no_attempt() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.next(Call::PatchAttempt, late(Duration::from_secs(1)));
        world.create("jane", MEMBER);
        world.sent(Call::PatchAttempt, 1).await;
        world.edit("jane", |spec| spec.role = ADMIN);
        world.has("jane", "x1").await;
        assert_eq!(world.with(|state| state.counted("write 409")), 1);
        assert_eq!(world.emails(), 1);
    });
}

/// Rule 2. While an attempt is open nothing is sent for the address: not for another object either, when
/// the one with the attempt is being deleted.
#[test]
fn an_open_attempt_holds_the_address() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        seconds(200).await;
        world.next(Call::Post, late_and_unheard());
        world.create("jane", MEMBER);
        world.sent(Call::Post, 1).await;
        world.create("sam", MEMBER);
        world.delete("jane");
        world.gone("jane").await;
        world.has("sam", "x1").await;
        assert_eq!(world.emails(), 1);
    });
}

/// Rule 2. A refusal proves that nothing happened: the next try need not wait until that has settled.
#[test]
fn a_refusal_closes_the_attempt() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.next(Call::Post, refused(429));
        world.create("jane", MEMBER);
        world
            .until("an invitation", SETTLE / 2, |state| {
                state.counted("e-mails") == 1
            })
            .await;
        world.has("jane", "x1").await;
    });
}

/// Rule 3. An attempt that is old when its e-mail is sent: its POST is on its way when the next leader
/// looks, and settling counts from that leader's own beginning.
#[test]
fn settling_does_not_count_from_the_age_of_the_attempt() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.network.weather.listing_lag = SLOW_LISTS);
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

/// Rule 3. However long the term has lasted, settling counts from the end of our own last call: its
/// e-mail may go out long after that.
#[test]
fn settling_counts_from_the_last_call() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        seconds(200).await;
        world.next(Call::Post, late_and_unheard());
        world.invite_jane().await;
        assert_eq!(world.emails(), 1);
    });
}

/// The same for an object that leaves Astro alone when it is deleted: it stays until then.
#[test]
fn what_is_retained_settles_first() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        seconds(200).await;
        world.next(Call::Post, late_and_unheard());
        world.create("jane", MEMBER);
        world.edit("jane", |spec| spec.deletion_policy = DeletionPolicy::Retain);
        world.sent(Call::Post, 1).await;
        world.delete("jane");
        world.gone("jane").await;
        world.create("sam", MEMBER);
        world.has("sam", "x1").await;
        assert_eq!(world.emails(), 1);
    });
}

/// The same without its Organization: nobody can look, and what is on its way has to arrive all the same.
#[test]
fn what_is_retained_settles_first_without_its_organization() {
    play(Habits::PLAIN, async |world| {
        let operator = Process::start(&world, "P0");
        seconds(200).await;
        world.next(Call::Post, late_and_unheard());
        world.create("jane", MEMBER);
        world.edit("jane", |spec| spec.deletion_policy = DeletionPolicy::Retain);
        world.sent(Call::Post, 1).await;
        operator.disconnect();
        world.delete("jane");
        world.gone("jane").await;
        operator.reconnect();
        world.create("sam", MEMBER);
        world.has("sam", "x1").await;
        assert_eq!(world.emails(), 1);
    });
}

/// Rule 5. Nothing is sent before a pass of the term, however long it takes.
#[test]
fn a_first_e_mail_waits_for_a_pass() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.invite_from_outside(EMAIL, MEMBER));
        world.end("x1", Standing::Accepted);
        world.next(Call::List, late(Duration::from_secs(5)));
        world.create("jane", MEMBER);
        let _operator = Process::start(&world, "P0");
        world.says("jane", "AlreadyMember").await;
        assert_eq!(world.emails(), 0);
    });
}

/// Rule 5. Nor is anything sent by what a pass showed long ago: the person may have come in by another way since.
#[test]
fn a_first_e_mail_waits_for_a_young_pass() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.sync_interval = Duration::from_hours(1));
        let _operator = Process::start(&world, "P0");
        seconds(400).await;
        world.with(|state| state.invite_from_outside(EMAIL, MEMBER));
        world.end("x1", Standing::Accepted);
        world.create("jane", MEMBER);
        world.says("jane", "AlreadyMember").await;
        assert_eq!(world.emails(), 0);
    });
}

/// Rule 5. The same for an e-mail that is sent again, which something held up after its attempt had settled.
#[test]
fn an_e_mail_that_is_sent_again_waits_for_a_young_pass() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.sync_interval = Duration::from_hours(1));
        let operator = Process::start(&world, "P0");
        world.next(Call::Post, lost());
        world.create("jane", MEMBER);
        world.sent(Call::Post, 1).await;
        operator.suspend(true);
        // A pass has shown nobody.
        world.says("jane", "Suspended").await;
        world.with(|state| state.invite_from_outside(EMAIL, MEMBER));
        world.end("x1", Standing::Accepted);
        seconds(400).await;
        operator.suspend(false);
        world.says("jane", "AlreadyMember").await;
        assert_eq!(world.emails(), 0);
    });
}

/// Rule 5. Nor does an older pass count than one after our last call on the address: the person may have
/// accepted before that.
#[test]
fn a_first_e_mail_waits_for_a_pass_after_the_last_call() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.network.weather.listing_lag = A_GAP);
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        // The last pass is from before the invitation, and the e-mail no longer too young for another.
        seconds(150).await;
        world.end("x1", Standing::Accepted);
        world.delete("jane");
        world
            .until("a 404", Duration::from_secs(1), |state| {
                state.counted("DELETE 404") == 1
            })
            .await;
        seconds(1).await;
        // Planned again before the next pass.
        world.edit("jane", |spec| spec.max_resends = 1);
        world.gone("jane").await;
        world.create("sam", MEMBER);
        world.says("sam", "AlreadyMember").await;
        assert_eq!(world.emails(), 1);
    });
}

/// Rule 6. A new leader plans from nothing that is older than what its predecessor did: it would take
/// back an invitation that was handed over meanwhile.
#[test]
fn a_new_leader_catches_up_first() {
    play(Habits::PLAIN, async |world| {
        let first = Process::start(&world, "P0");
        seconds(1).await;
        let behind = Process::start(&world, "P1");
        world.invite_jane().await;
        first.end();
        world.delete("jane");
        seconds(1).await;
        // The last that it sees for a while.
        behind.pause_for(Duration::from_secs(100));
        world.create("sam", MEMBER);
        let between = Process::start(&world, "P2");
        world.has("sam", "x1").await;
        world.gone("jane").await;
        between.end();
        world.with(|state| state.network.weather.watch_lag = Duration::from_mins(1));
        seconds(600).await;
        assert!(behind.leads());
        assert_eq!(world.standing("x1"), Standing::Live);
        assert_eq!(world.emails(), 1);
    });
}

/// Rule 6. A leader whose patch is answered in its next term does not send what the last one planned.
/// The check before the POST sees to that, and so does the fence around Astro: one of them is enough.
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
        world.invite_jane().await;
        world.end("x1", Standing::Accepted);
        world.delete("jane");
        world.gone("jane").await;
        world.with(|state| state.lease.cut_off(None));
        second.end();
        seconds(40).await;
        assert!(first.leads());
        // Its last pass is from before all that.
        world.create("sam", MEMBER);
        world.says("sam", "AlreadyMember").await;
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
        world.invite_jane().await;
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
        world.with(|state| state.network.weather.listing_lag = A_GAP);
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
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

/// Rule 4. Whatever its DELETE answered, an invitation that is still listed did not end: no other goes out
/// beside it.
#[test]
fn what_is_listed_after_its_delete_is_still_there() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        seconds(200).await;
        world.with(|state| state.astro.undone = Some(Undone::Everywhere));
        world.edit("jane", |spec| spec.role = ADMIN);
        world.has("jane", "x2").await;
        assert_eq!(world.standing("x1"), Standing::Revoked);
        assert_eq!(world.emails(), 2);
    });
}

/// Rule 4. A POST that answers with the replaced invitation, which is not listed and had not ended yet, sent
/// nothing: that one is no record of it.
#[test]
fn a_post_that_answers_with_the_replaced_invitation_sent_nothing() {
    let habits = Habits {
        again: Again::Same,
        ..Habits::PLAIN
    };
    play(habits, async |world| {
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        seconds(200).await;
        world.with(|state| state.astro.undone = Some(Undone::ButForTheLists));
        world.edit("jane", |spec| spec.role = ADMIN);
        world
            .until("a POST", Duration::from_mins(5), |state| {
                state.counted("POST while pending") == 1
            })
            .await;
        world.end("x1", Standing::Revoked);
        world.has("jane", "x2").await;
        assert_eq!(world.emails(), 2);
    });
}

/// Rule 3. A person accepts an invitation whose answer was lost just before the attempt has settled: one pass
/// shows neither the invitation any more nor the member yet.
#[test]
fn that_there_is_nobody_takes_two_passes() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.network.weather.listing_lag = A_GAP);
        let _operator = Process::start(&world, "P0");
        seconds(200).await;
        world.next(Call::Post, unheard());
        world.create("jane", MEMBER);
        world.sent(Call::Post, 1).await;
        seconds(SETTLE.as_secs() - 1).await;
        world.end("x1", Standing::Accepted);
        world.says("jane", "AlreadyMember").await;
        assert_eq!(world.emails(), 1);
    });
}

/// Rule 7. A status write that arrives when everything is over changes nothing.
#[test]
fn a_late_status_write_does_not_open_an_attempt_again() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.next(
            Call::WriteStatus,
            Fate {
                effect: Some(Duration::from_mins(5)),
                answer: Answer::Cut(Duration::from_millis(100)),
            },
        );
        world.invite_jane().await;
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

/// Rule 7. Somebody writes the object while its e-mail goes out: its record is written all the same.
#[test]
fn the_record_is_written_again_after_a_conflict() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.next(Call::Post, late(Duration::from_secs(1)));
        world.create("jane", MEMBER);
        world.sent(Call::Post, 1).await;
        world.edit("jane", |spec| spec.max_resends = 1);
        world
            .until("the record", SETTLE / 2, |state| {
                state.api.get(&named("jane")).and_then(recorded) == Some("x1")
            })
            .await;
        assert_eq!(world.with(|state| state.counted("write 409")), 1);
    });
}

/// Rule 7. A record is not written again over that of a later attempt.
#[test]
fn a_record_is_not_written_over_a_later_attempt() {
    play(Habits::PLAIN, async |world| {
        let _first = Process::start(&world, "P0");
        seconds(1).await;
        let second = Process::start(&world, "P1");
        world.next(Call::WriteStatus, late(Duration::from_mins(10)));
        world.create("jane", MEMBER);
        world.sent(Call::WriteStatus, 1).await;
        world.with(|state| state.lease.cut_off(Some("P0")));
        world.has("jane", "x1").await;
        assert!(second.leads());
        world.edit("jane", |spec| spec.role = ADMIN);
        world.has("jane", "x2").await;
        world.end("x2", Standing::Declined);
        world
            .until("the late write", Duration::from_mins(15), |state| {
                state.counted("write 409") == 1
            })
            .await;
        seconds(600).await;
        world.says("jane", "InvitationWithdrawn").await;
        assert_eq!(world.emails(), 2);
    });
}

/// Rule 7. Whose object is removed by force while its e-mail goes out has nobody to take the invitation
/// back: that is done at once.
#[test]
fn what_was_sent_for_an_object_that_is_gone_is_revoked() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.next(Call::Post, late(Duration::from_secs(1)));
        world.create("jane", MEMBER);
        world.sent(Call::Post, 1).await;
        world.with(|state| state.remove_by_force(&named("jane")));
        world
            .until("the revoke", SETTLE, |state| {
                state.counted("DELETE 204") == 1
            })
            .await;
        assert_eq!(world.standing("x1"), Standing::Revoked);
    });
}

/// The same when another object has its name by then.
#[test]
fn what_was_sent_for_an_object_that_was_created_again_is_revoked() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.next(Call::Post, late(Duration::from_secs(1)));
        world.create("jane", MEMBER);
        world.sent(Call::Post, 1).await;
        world.with(|state| {
            state.remove_by_force(&named("jane"));
            state.create(&named("jane"), spec("jane.doe@example.com", MEMBER));
        });
        world.has("jane", "x2").await;
        assert_eq!(world.standing("x1"), Standing::Revoked);
    });
}

/// Rule 7. Setting our own finalizer drops none that somebody else set meanwhile.
#[test]
fn a_finalizer_that_was_set_meanwhile_stays() {
    const THEIRS: &str = "example.com/theirs";
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.with(|state| state.invite_from_outside(EMAIL, MEMBER));
        seconds(400).await;
        world.next(Call::PatchHold, late(Duration::from_secs(1)));
        world.create("jane", MEMBER);
        world.sent(Call::PatchHold, 1).await;
        world.with(|state| state.add_finalizer(&named("jane"), THEIRS));
        world.has("jane", "x1").await;
        let held = world.with(|state| state.api.get(&named("jane")).unwrap().finalizers().to_vec());
        assert_eq!(held, [THEIRS, FINALIZER]);
    });
}

/// Rule 9. Who takes an invitation over holds on to it first: deleted right then, it takes it back.
/// That the finalizer comes before the record, and not after it, is seen in the next test only: here the
/// holder waits for the turn of its heir.
#[test]
fn an_heir_sets_its_finalizer_before_the_record() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        world.create("sam", MEMBER);
        world.says("sam", "Conflict").await;
        world.delete("jane");
        world.gone("jane").await;
        world.delete("sam");
        world.gone("sam").await;
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
        world.invite_jane().await;
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
        world.invite_jane().await;
        world.create("sam", MEMBER);
        world.says("sam", "Conflict").await;
        world.end("x1", Standing::Declined);
        world.delete("jane");
        world.gone("jane").await;
        world.says("sam", "InvitationWithdrawn").await;
        assert_eq!(world.emails(), 1);
    });
}

/// Rule 7. A finalizer is removed only from the object that was planned from.
#[test]
fn a_release_that_was_planned_from_an_older_object_is_refused() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
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
        world.with(|state| state.network.weather.listing_lag = A_GAP);
        let mut operator = Process::start(&world, "P0");
        world.invite_jane().await;
        seconds(60).await;
        world.end("x1", Standing::Accepted);
        world.delete("jane");
        world.gone("jane").await;
        operator.crash();
        world.create("sam", MEMBER);
        world.says("sam", "AlreadyMember").await;
        assert_eq!(world.with(|state| state.counted("DELETE 404")), 1);
        assert_eq!(world.emails(), 1);
        assert!(world.with(|state| state.api.get(&named("jane")).is_none()));
    });
}

/// Rule 10. The same after a 400, which tells no more.
#[test]
fn a_release_after_a_400_waits_for_a_look() {
    let habits = Habits {
        accepted_is_400: true,
        ..Habits::PLAIN
    };
    play(habits, async |world| {
        world.with(|state| state.network.weather.listing_lag = A_GAP);
        let mut operator = Process::start(&world, "P0");
        world.invite_jane().await;
        seconds(60).await;
        world.end("x1", Standing::Accepted);
        world.delete("jane");
        world.gone("jane").await;
        operator.crash();
        world.create("sam", MEMBER);
        world.says("sam", "AlreadyMember").await;
        assert_eq!(world.with(|state| state.counted("DELETE 400")), 1);
        assert_eq!(world.emails(), 1);
    });
}

/// Rule 10. The next leader asks again: its own look may be younger than the answer by less than Astro's
/// lists lag behind.
#[test]
fn a_404_ends_with_its_term() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.network.weather.listing_lag = A_GAP);
        let mut operator = Process::start(&world, "P0");
        world.invite_jane().await;
        seconds(60).await;
        world.end("x1", Standing::Accepted);
        world.delete("jane");
        world
            .until("a 404", Duration::from_secs(1), |state| {
                state.counted("DELETE 404") == 1
            })
            .await;
        seconds(1).await;
        operator.crash();
        world.gone("jane").await;
        world.create("sam", MEMBER);
        world.says("sam", "AlreadyMember").await;
        assert_eq!(world.with(|state| state.counted("DELETE 404")), 2);
        assert_eq!(world.emails(), 1);
    });
}
