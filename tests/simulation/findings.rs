//! What random histories found, each as a schedule by hand.

use std::time::Duration;

use kube::ResourceExt;
use orginvite_operator::resources::org_invite::{ATTEMPT_ANNOTATION, DeletionPolicy};
use tokio::time::sleep;

use crate::network::{Answer, Call, Fate};
use crate::organization::{Ended, Habits, Standing};
use crate::process::Process;
use crate::stage::{
    ADMIN, EMAIL, MEMBER, OWNER, late, late_and_unheard, lost, play, refused, seconds, unheard,
};
use crate::users::{named, spec};
use crate::world::World;
use crate::{LISTING_DELAY, SETTLE, settled};

const LIFETIME: Duration = Duration::from_mins(15);

/// A person who declined is not written to once the invitation would have expired: not by the leader
/// that saw it, not after a restart, not by an heir.
#[test]
fn what_was_declined_does_not_expire() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.astro.lifetime = LIFETIME);
        let mut operator = Process::start(&world, "P0");
        world.invite_jane().await;
        world.end("x1", Standing::Declined);
        world.says("jane", "InvitationWithdrawn").await;
        seconds(1800).await;
        operator.crash();
        seconds(300).await;
        world.says("jane", "InvitationWithdrawn").await;
        world.create("sam", MEMBER);
        world.says("sam", "Conflict").await;
        world.delete("jane");
        world.gone("jane").await;
        seconds(600).await;
        operator.crash();
        world.says("sam", "InvitationWithdrawn").await;
        assert_eq!(world.emails(), 1);
    });
}

/// The same where get-invite goes on answering with an invitation that was declined, and only the list
/// does not show it any more.
#[test]
fn what_was_declined_and_can_still_be_got_does_not_expire() {
    let habits = Habits {
        ended: Ended::OldBody,
        ..Habits::PLAIN
    };
    play(habits, async |world| {
        world.with(|state| state.astro.lifetime = LIFETIME);
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        world.end("x1", Standing::Declined);
        world.says("jane", "InvitationWithdrawn").await;
        seconds(1800).await;
        world.says("jane", "InvitationWithdrawn").await;
        assert_eq!(world.emails(), 1);
    });
}

/// An invitation that Astro drops when it expires is not taken for one that was declined.
#[test]
fn what_disappears_at_its_expiry_has_expired() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.astro.lifetime = LIFETIME);
        let _operator = Process::start(&world, "P0");
        // So that a pass comes between the expiry and the end of its grace.
        seconds(100).await;
        world.invite_jane().await;
        world.with(|state| state.astro.lifetime = Duration::from_hours(24));
        world.has("jane", "x2").await;
        assert_eq!(world.emails(), 2);
    });
}

fn lists_the_expired() -> Habits {
    Habits {
        expired_is_listed: true,
        expired_is_404: true,
        accepted_is_400: true,
        ..Habits::PLAIN
    }
}

/// Astro goes on listing an invitation that expired: that hides nothing of what became of the next one.
#[test]
fn a_decline_is_seen_beside_an_expired_invitation_that_is_still_listed() {
    play(lists_the_expired(), async |world| {
        world.with(|state| state.astro.lifetime = LIFETIME);
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        world.with(|state| state.astro.lifetime = Duration::from_hours(24));
        world.has("jane", "x2").await;
        world.end("x2", Standing::Declined);
        world.says("jane", "InvitationWithdrawn").await;
        assert_eq!(world.emails(), 2);
    });
}

/// The same for a member who was removed.
#[test]
fn a_removal_is_seen_beside_an_expired_invitation_that_is_still_listed() {
    play(lists_the_expired(), async |world| {
        world.with(|state| state.astro.lifetime = LIFETIME);
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        world.with(|state| state.astro.lifetime = Duration::from_hours(24));
        world.has("jane", "x2").await;
        world.end("x2", Standing::Accepted);
        world.says("jane", "Accepted").await;
        world.with(|state| state.set_member(EMAIL, None));
        world.says("jane", "MemberRemoved").await;
        // Astro refuses to delete what was accepted; there is no need to.
        world.with(|state| state.ask(&named("jane"), "again"));
        world.has("jane", "x3").await;
        assert_eq!(world.emails(), 3);
    });
}

/// A replacement that was cut short, of an invitation that expired and is still listed: the object can be
/// deleted although Astro finds nothing to delete.
#[test]
fn an_expired_invitation_that_is_still_listed_holds_no_deletion_up() {
    play(lists_the_expired(), async |world| {
        world.with(|state| state.astro.lifetime = LIFETIME);
        let mut operator = Process::start(&world, "P0");
        world.invite_jane().await;
        // The patch of the resend, and no POST.
        world.sent(Call::Delete, 1).await;
        operator.crash();
        world.delete("jane");
        world.gone("jane").await;
        assert_eq!(world.emails(), 1);
    });
}

/// An expired invitation of somebody else that is still listed keeps nobody from being invited.
#[test]
fn an_expired_invitation_that_is_still_listed_is_not_adopted() {
    play(lists_the_expired(), async |world| {
        world.with(|state| state.astro.lifetime = LIFETIME);
        let _operator = Process::start(&world, "P0");
        world.with(|state| state.invite_from_outside(EMAIL, MEMBER));
        seconds(1800).await;
        world.with(|state| state.astro.lifetime = Duration::from_hours(24));
        world.create("jane", ADMIN);
        world.has("jane", "x2").await;
        assert_eq!(world.with(|state| state.network.sent(Call::PatchHold)), 0);
        assert_eq!(world.emails(), 1);
    });
}

/// An invitation that must not be touched stands in the way until it is over, and no longer.
#[test]
fn an_invitation_that_must_not_be_touched_ends() {
    let habits = Habits {
        lists_roles: false,
        ..lists_the_expired()
    };
    play(habits, async |world| {
        world.with(|state| state.astro.lifetime = LIFETIME);
        let _operator = Process::start(&world, "P0");
        seconds(1).await;
        world.with(|state| state.invite_from_outside(EMAIL, MEMBER));
        // The next pass shows it.
        seconds(400).await;
        world.with(|state| state.astro.lifetime = Duration::from_hours(24));
        world.create("jane", MEMBER);
        world.says("jane", "NotPermitted").await;
        // Five minutes after its expiry, and not only at the next pass.
        seconds(840).await;
        assert_eq!(world.emails(), 1);
        world.has("jane", "x2").await;
        assert_eq!(world.emails(), 1);
    });
}

/// A replacement is cut short, and then its role is not allowed any more: the old invitation is still the
/// object's own, and is taken back with it.
#[test]
fn what_is_not_replaced_after_all_keeps_its_owner() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        seconds(200).await;
        world.next(
            Call::Delete,
            Fate {
                effect: None,
                answer: Answer::Cut(Duration::from_secs(1)),
            },
        );
        world.edit("jane", |spec| spec.role = ADMIN);
        world.sent(Call::Delete, 1).await;
        world.edit("jane", |spec| spec.role = OWNER);
        world.says("jane", "NotPermitted").await;
        seconds(600).await;
        assert_eq!(world.standing("x1"), Standing::Live);
        world.delete("jane");
        world.gone("jane").await;
        assert_eq!(world.standing("x1"), Standing::Revoked);
        assert_eq!(world.emails(), 1);
    });
}

/// A leader whose first pass came too early to show an invitation learns from a later one that it was
/// declined.
#[test]
fn a_decline_of_what_no_pass_ever_showed_is_seen() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.network.weather.listing_lag = [LISTING_DELAY; 2]);
        let mut operator = Process::start(&world, "P0");
        world.invite_jane().await;
        operator.crash();
        seconds(60).await;
        world.end("x1", Standing::Declined);
        world.says("jane", "InvitationWithdrawn").await;
        assert_eq!(world.emails(), 1);
    });
}

/// A resend that Astro refuses for a while counts as the one that it was to be.
#[test]
fn a_resend_that_is_refused_at_first_counts() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.astro.lifetime = LIFETIME);
        let _operator = Process::start(&world, "P0");
        world.create("jane", MEMBER);
        world.edit("jane", |spec| spec.max_resends = 1);
        world.has("jane", "x1").await;
        world.next(Call::Post, refused(429));
        world.has("jane", "x2").await;
        world.says("jane", "ResendLimitReached").await;
        assert_eq!(world.emails(), 2);
    });
}

/// A DELETE that takes the replaced invitation and is never answered, while nobody can look: the person has a new
/// invitation once somebody can, and is not told to have declined.
#[test]
fn what_was_deleted_unheard_without_a_look_is_sent_again() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        world.with(|state| state.let_list(false));
        seconds(400).await;
        world.next(Call::Delete, unheard());
        world.edit("jane", |spec| spec.role = ADMIN);
        world.says("jane", "OutcomeUnknown").await;
        world.with(|state| state.let_list(true));
        world.has("jane", "x2").await;
        assert_eq!(world.emails(), 2);
    });
}

/// The same, and a person asks for an e-mail: that is the only one.
#[test]
fn what_was_deleted_unheard_without_a_look_is_sent_on_request() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        world.with(|state| state.let_list(false));
        seconds(400).await;
        world.next(Call::Delete, unheard());
        world.edit("jane", |spec| spec.role = ADMIN);
        world.says("jane", "OutcomeUnknown").await;
        world.with(|state| state.ask(&named("jane"), "again"));
        world.has("jane", "x2").await;
        world.with(|state| state.let_list(true));
        seconds(1000).await;
        assert_eq!(world.emails(), 2);
    });
}

/// An invitation that ends leaves its list at once, and the person shows among the members late.
const A_GAP: [Duration; 2] = [Duration::ZERO, LISTING_DELAY];

/// A person accepts what nobody recorded when somebody may look again: the first pass shows neither the invitation
/// any more nor the member yet, and no pass showed it before.
#[test]
fn the_first_pass_after_nobody_could_look_does_not_decide_alone() {
    for accepted in 0..20 {
        play(Habits::PLAIN, async |world| {
            world.with(|state| {
                state.network.weather.listing_lag = A_GAP;
                state.let_list(false);
            });
            let _operator = Process::start(&world, "P0");
            seconds(100).await;
            world.next(Call::Post, unheard());
            world.create("jane", MEMBER);
            world.says("jane", "OutcomeUnknown").await;
            world.with(|state| state.let_list(true));
            seconds(180 + accepted).await;
            world.end("x1", Standing::Accepted);
            world.says("jane", "AlreadyMember").await;
            assert_eq!(world.emails(), 1, "{accepted}");
        });
    }
}

/// The same where the organization is read again and again within a listing delay.
#[test]
fn neither_do_the_next_ones_within_a_listing_delay() {
    for before in 0..=LISTING_DELAY.as_secs() {
        play(Habits::PLAIN, async |world| {
            world.with(|state| {
                state.sync_interval = Duration::from_secs(2);
                state.network.weather.listing_lag = A_GAP;
                state.let_list(false);
            });
            let _operator = Process::start(&world, "P0");
            seconds(100).await;
            world.next(Call::Post, unheard());
            world.create("jane", MEMBER);
            world.says("jane", "OutcomeUnknown").await;
            seconds(100).await;
            world.end("x1", Standing::Accepted);
            seconds(before).await;
            world.with(|state| state.let_list(true));
            world.says("jane", "AlreadyMember").await;
            assert_eq!(world.emails(), 1, "{before}");
        });
    }
}

/// Passes within a listing delay do not agree with one another that there is nobody, either.
#[test]
fn two_passes_within_a_listing_delay_are_one() {
    for before in 1..=LISTING_DELAY.as_secs() + 2 {
        play(Habits::PLAIN, async |world| {
            world.with(|state| {
                state.sync_interval = Duration::from_secs(2);
                state.network.weather.listing_lag = A_GAP;
            });
            let _operator = Process::start(&world, "P0");
            seconds(200).await;
            world.next(Call::Post, unheard());
            world.create("jane", MEMBER);
            world.sent(Call::Post, 1).await;
            seconds(SETTLE.as_secs() - before).await;
            world.end("x1", Standing::Accepted);
            world.says("jane", "AlreadyMember").await;
            assert_eq!(world.emails(), 1, "{before}");
        });
    }
}

/// Retain leaves Astro alone, and a manifest that is renamed still sends nothing.
#[test]
fn what_is_retained_is_handed_over_as_well() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.create("jane", MEMBER);
        world.edit("jane", |spec| spec.deletion_policy = DeletionPolicy::Retain);
        world.has("jane", "x1").await;
        world.create("sam", MEMBER);
        world.says("sam", "Conflict").await;
        world.end("x1", Standing::Declined);
        world.says("jane", "InvitationWithdrawn").await;
        // Its own turn comes first, before that of its heir.
        seconds(1).await;
        world.delete("jane");
        world.gone("jane").await;
        world.says("sam", "InvitationWithdrawn").await;
        assert_eq!(world.emails(), 1);
    });
}

/// An invitation that was taken back, though no answer said so, is nothing to hand over to an object that comes
/// after that.
#[test]
fn what_may_have_been_taken_back_is_not_handed_over() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.create("jane", MEMBER);
        world.has("jane", "x1").await;
        seconds(60).await;
        world.next(Call::Delete, unheard());
        world.delete("jane");
        world.sent(Call::Delete, 1).await;
        seconds(1).await;
        world.create("sam", MEMBER);
        world.has("sam", "x2").await;
        world.gone("jane").await;
        assert_eq!(world.emails(), 2);
    });
}

/// What was sent to an address is remembered until a pass shows what came of it, however rarely one comes.
#[test]
fn a_pass_from_before_the_last_e_mail_never_decides() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        seconds(1).await;
        world.create("jane", MEMBER);
        world.edit("jane", |spec| spec.deletion_policy = DeletionPolicy::Retain);
        world.has("jane", "x1").await;
        world.delete("jane");
        world.gone("jane").await;
        // Longer than it takes to settle, and shorter than until the next pass.
        seconds(150).await;
        world.create("sam", OWNER);
        world.says("sam", "NotPermitted").await;
        seconds(1).await;
        world.edit("sam", |spec| spec.role = MEMBER);
        world.has("sam", "x1").await;
        assert_eq!(world.with(|state| state.network.sent(Call::Post)), 1);
    });
}

/// A manifest that is renamed takes along that its person is a member, where nobody can look again: whether the
/// operator's own invitation was accepted or the person was there before.
#[test]
fn a_rename_takes_the_member_along() {
    for (before, reason) in [(false, "Accepted"), (true, "AlreadyMember")] {
        play(Habits::PLAIN, async |world| {
            if before {
                world.with(|state| state.invite_from_outside(EMAIL, MEMBER));
                world.end("x1", Standing::Accepted);
            }
            let _operator = Process::start(&world, "P0");
            world.create("jane", MEMBER);
            if !before {
                world.has("jane", "x1").await;
                seconds(60).await;
                world.end("x1", Standing::Accepted);
            }
            world.says("jane", reason).await;
            world.with(|state| state.let_list(false));
            seconds(600).await;
            world.create("sam", MEMBER);
            world.says("sam", "Conflict").await;
            world.delete("jane");
            world.gone("jane").await;
            world.says("sam", reason).await;
            let posts = world.with(|state| state.network.sent(Call::Post));
            assert_eq!(posts, u32::from(!before), "{reason}");
        });
    }
}

/// Nor is somebody who was removed from the organization invited again because a manifest is renamed.
#[test]
fn a_rename_invites_nobody_who_was_removed() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.invite_from_outside(EMAIL, MEMBER));
        world.end("x1", Standing::Accepted);
        let _operator = Process::start(&world, "P0");
        world.create("jane", MEMBER);
        world.says("jane", "AlreadyMember").await;
        world.with(|state| state.set_member(EMAIL, None));
        world.says("jane", "MemberRemoved").await;
        world.create("sam", MEMBER);
        world.says("sam", "Conflict").await;
        world.delete("jane");
        world.gone("jane").await;
        world.says("sam", "MemberRemoved").await;
        assert_eq!(world.with(|state| state.network.sent(Call::Post)), 0);
    });
}

/// An heir deletes what it took over for another invitation in its place, and that one is refused. The object that
/// handed it over is still there, and has nothing to hand over any more.
#[test]
fn what_an_heir_replaced_is_not_taken_over_again() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.create("jane", MEMBER);
        world.with(|state| state.add_finalizer(&named("jane"), "example.com/theirs"));
        world.has("jane", "x1").await;
        seconds(700).await;
        world.create("doe", ADMIN);
        world.says("doe", "Conflict").await;
        world.next(Call::Post, refused(429));
        world.delete("jane");
        world.says("doe", "RateLimited").await;
        world.edit("doe", |spec| spec.role = MEMBER);
        seconds(60).await;
        world.with(|state| state.remove_by_force(&named("jane")));
        world.has("doe", "x2").await;
        assert_eq!(world.emails(), 2);
    });
}

/// A token that may not invite is tried again after an hour, though nothing that anybody sees has changed.
#[test]
fn a_token_that_may_not_invite_is_tried_again() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.next(Call::Post, refused(403));
        world.create("jane", MEMBER);
        world.says("jane", "TokenNotAllowed").await;
        seconds(3500).await;
        assert_eq!(world.with(|state| state.network.sent(Call::Post)), 1);
        world.has("jane", "x1").await;
    });
}

/// A webhook that drops the finalizer keeps nothing else of what is asked for from being done.
#[test]
fn an_object_that_cannot_keep_its_finalizer_is_looked_after() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.api.drops_finalizer = true);
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        world.edit("jane", |spec| spec.role = ADMIN);
        world.has("jane", "x2").await;
        assert_eq!(world.emails(), 2);
    });
}

/// A namespace whose labels are not known yet may do nothing, and is not told that it may not.
#[test]
fn an_object_waits_for_the_labels_of_its_namespace() {
    play(Habits::PLAIN, async |world| {
        let operator = Process::start(&world, "P0");
        world.create("other/jane", MEMBER);
        seconds(30).await;
        world.with(|state| {
            let object = state.api.get(&named("other/jane")).unwrap();
            assert_eq!(settled::reason(object, "Ready"), None);
            assert_eq!(state.network.sent(Call::Post), 0);
        });
        operator.knows("other");
        world.has("other/jane", "x1").await;
    });
}

/// Nor is an invitation taken back meanwhile that an object there may be the heir to.
#[test]
fn a_holder_waits_for_the_labels_of_its_heirs_namespace() {
    play(Habits::PLAIN, async |world| {
        let operator = Process::start(&world, "P0");
        world.invite_jane().await;
        world.create("other/sam", MEMBER);
        world.delete("jane");
        seconds(30).await;
        operator.knows("other");
        world.has("other/sam", "x1").await;
        world.gone("jane").await;
        assert_eq!(world.with(|state| state.network.sent(Call::Delete)), 0);
        assert_eq!(world.emails(), 1);
    });
}

/// A manifest comes with a wish for an e-mail, as into a cluster that is built anew from Git: what it adopts shows that
/// the wish was seen to.
#[test]
fn a_wish_from_before_an_adoption_sends_nothing() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.invite_from_outside(EMAIL, MEMBER));
        let mut operator = Process::start(&world, "P0");
        world.with(|state| {
            state.create(&named("jane"), spec(EMAIL, MEMBER));
            state.ask(&named("jane"), "old");
        });
        world.has("jane", "x1").await;
        seconds(600).await;
        operator.crash();
        seconds(600).await;
        assert_eq!(world.emails(), 0);
        world.with(|state| state.ask(&named("jane"), "new"));
        world.has("jane", "x2").await;
        assert_eq!(world.emails(), 1);
    });
}

/// Nobody can look, and the answer to the patch of an attempt is lost: who did not send its e-mail needs no look.
#[test]
fn what_was_not_sent_is_sent_without_a_look() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.let_list(false));
        let _operator = Process::start(&world, "P0");
        world.next(Call::PatchAttempt, unheard());
        world.create("jane", MEMBER);
        world.has("jane", "x1").await;
        let trace = world.trace();
        assert!(!trace.contains("OutcomeUnknown"), "\n{trace}");
        assert_eq!(world.emails(), 1);
    });
}

/// An invitation that one pass and get-invite miss and the next pass shows is there: when a pass misses it once more, a
/// second one has to agree again.
#[test]
fn what_was_missed_and_shown_again_is_not_gone() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| {
            state.sync_interval = Duration::from_secs(5);
            state.network.weather.listing_lag = A_GAP;
        });
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        seconds(60).await;
        world.next(Call::Get, refused(404));
        world.with(|state| state.hide("x1"));
        world.sent(Call::Get, 1).await;
        world.with(|state| state.people_changed(EMAIL));
        seconds(60).await;
        world.end("x1", Standing::Accepted);
        world.says("jane", "Accepted").await;
        let trace = world.trace();
        assert!(!trace.contains("InvitationWithdrawn"), "\n{trace}");
        assert_eq!(world.emails(), 1);
    });
}

/// Whoever replaces an object drops the annotation of an attempt that nobody knows the outcome of: no second e-mail.
#[test]
fn a_replaced_object_knows_of_an_attempt_that_nobody_can_look_after() {
    play(Habits::PLAIN, async |world| {
        world.with(|state| state.let_list(false));
        let mut operator = Process::start(&world, "P0");
        world.next(Call::Post, unheard());
        world.create("jane", MEMBER);
        world.says("jane", "OutcomeUnknown").await;
        world.with(|state| state.replace(&named("jane")));
        seconds(600).await;
        operator.crash();
        seconds(600).await;
        world.says("jane", "OutcomeUnknown").await;
        assert_eq!(world.emails(), 1);
        world.with(|state| state.let_list(true));
        world.has("jane", "x1").await;
        assert_eq!(world.emails(), 1);
    });
}

/// The same while the POST is on its way: whether its answer comes, or not.
#[test]
fn an_object_that_is_replaced_under_an_attempt_records_what_came_of_it() {
    for fate in [late(Duration::from_secs(5)), late_and_unheard()] {
        play(Habits::PLAIN, async |world| {
            let _operator = Process::start(&world, "P0");
            world.next(Call::Post, fate);
            world.create("jane", MEMBER);
            world.sent(Call::Post, 1).await;
            world.with(|state| state.replace(&named("jane")));
            world.has("jane", "x1").await;
            world.delete("jane");
            world.gone("jane").await;
            assert_eq!(world.standing("x1"), Standing::Revoked);
            assert_eq!(world.emails(), 1);
        });
    }
}

/// The same between a DELETE and the POST behind it: the person is not told as one who declined.
#[test]
fn an_object_that_is_replaced_under_a_replacement_goes_on_with_it() {
    for fate in [late(Duration::from_secs(1)), unheard()] {
        play(Habits::PLAIN, async |world| {
            let _operator = Process::start(&world, "P0");
            world.invite_jane().await;
            world.next(Call::Delete, fate);
            world.edit("jane", |spec| spec.role = ADMIN);
            world.sent(Call::Delete, 1).await;
            world.with(|state| state.replace(&named("jane")));
            world.has("jane", "x2").await;
            let trace = world.trace();
            assert!(!trace.contains("InvitationWithdrawn"), "\n{trace}");
            assert_eq!(world.emails(), 2);
        });
    }
}

/// What an earlier attempt may have deleted is not told as declined, either, when the Organization is suspended while
/// the next one is written.
#[test]
fn what_was_deleted_before_a_suspension_is_replaced_after_it() {
    play(Habits::PLAIN, async |world| {
        let operator = Process::start(&world, "P0");
        world.invite_jane().await;
        world.next(Call::Delete, unheard());
        world.edit("jane", |spec| spec.role = ADMIN);
        world.sent(Call::PatchAttempt, 2).await;
        world.next(Call::PatchAttempt, late(Duration::from_secs(5)));
        world.sent(Call::PatchAttempt, 3).await;
        operator.suspend(true);
        world.says("jane", "Suspended").await;
        seconds(600).await;
        operator.suspend(false);
        world.has("jane", "x2").await;
        let trace = world.trace();
        assert!(!trace.contains("InvitationWithdrawn"), "\n{trace}");
        assert_eq!(world.emails(), 2);
    });
}

/// Manifests that were read from the cluster hold an attempt of then: applied again, they open nothing.
#[test]
fn an_old_attempt_that_is_written_back_sends_nothing() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        let first = world.with(|state| {
            let object = state.api.get(&named("jane")).unwrap();
            object.annotations()[ATTEMPT_ANNOTATION].clone()
        });
        world.with(|state| state.ask(&named("jane"), "again"));
        world.has("jane", "x2").await;
        world.with(|state| state.write_back(&named("jane"), &first));
        seconds(1200).await;
        assert_eq!(world.emails(), 2);
        world.end("x2", Standing::Declined);
        world.says("jane", "InvitationWithdrawn").await;
        world.with(|state| state.write_back(&named("jane"), &first));
        seconds(1200).await;
        world.says("jane", "InvitationWithdrawn").await;
        assert_eq!(world.emails(), 2);
    });
}

/// Between the DELETE of an invitation and the POST in its place, the object does not say that it is out, whatever
/// keeps it from going on.
#[test]
fn an_invitation_that_is_being_replaced_is_not_told_as_out() {
    play(Habits::PLAIN, async |world| {
        let operator = Process::start(&world, "P0");
        world.invite_jane().await;
        world.with(|state| state.ask(&named("jane"), "again"));
        world.says("jane", "Replacing").await;
        operator.suspend(true);
        world.says("jane", "Suspended").await;
        world.with(|state| {
            let object = state.api.get(&named("jane")).unwrap();
            let ready = settled::reason(object, "Ready").unwrap();
            assert_eq!(ready.0, "False");
        });
        operator.suspend(false);
        world.has("jane", "x2").await;
        assert_eq!(world.emails(), 2);
    });
}

/// What is said while an attempt is being written counts for it.
#[test]
fn nothing_is_sent_after_a_suspension_that_came_while_the_attempt_was_written() {
    play(Habits::PLAIN, async |world| {
        let operator = Process::start(&world, "P0");
        world.next(Call::PatchAttempt, late(Duration::from_secs(5)));
        world.create("jane", MEMBER);
        world.sent(Call::PatchAttempt, 1).await;
        operator.suspend(true);
        world.says("jane", "Suspended").await;
        seconds(300).await;
        assert_eq!(world.with(|state| state.network.sent(Call::Post)), 0);
        operator.suspend(false);
        world.has("jane", "x1").await;
        assert_eq!(world.emails(), 1);
    });
}

/// What was sent for an object that is gone is taken back although others keep Astro's limit on DELETE busy for a while.
#[test]
fn what_was_sent_for_an_object_that_is_gone_waits_for_its_place() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        for number in 0..150 {
            let (name, email) = (format!("o{number}"), format!("o{number}@example.com"));
            world.with(|state| state.create(&named(&name), spec(&email, MEMBER)));
        }
        world
            .until("150 e-mails", Duration::from_mins(5), |state| {
                state.counted("e-mails") == 150
            })
            .await;
        seconds(60).await;
        world.next(Call::Post, late(Duration::from_secs(1)));
        world.create("jane", MEMBER);
        world.sent(Call::Post, 151).await;
        for number in 0..150 {
            world.delete(&format!("o{number}"));
        }
        world.with(|state| state.remove_by_force(&named("jane")));
        seconds(120).await;
        assert_eq!(world.standing("x151"), Standing::Revoked);
    });
}

/// Where nobody can look, a 400 to the DELETE lets nothing go before it is answered again after a pass that Astro itself
/// refused, though get-invite says as well that there is nothing.
#[test]
fn one_400_lets_nothing_go_where_nobody_can_look() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        world.with(|state| state.let_list(false));
        seconds(400).await;
        world.next(Call::Delete, refused(400));
        world.next(Call::Get, refused(404));
        world.next(Call::Get, refused(404));
        world.delete("jane");
        world.gone("jane").await;
        assert_eq!(world.with(|state| state.counted("DELETE 204")), 1);
    });
}

/// An answer to a DELETE that a list disproved is none: it does not make a second one of the next.
#[test]
fn a_404_that_a_list_disproved_counts_for_nothing() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        seconds(60).await;
        world.next(Call::Delete, refused(404));
        world.next(Call::Delete, refused(429));
        world.delete("jane");
        world.sent(Call::Delete, 2).await;
        world.with(|state| state.let_list(false));
        world.next(Call::Delete, refused(404));
        world.gone("jane").await;
        assert_eq!(world.with(|state| state.counted("DELETE 204")), 1);
    });
}

/// A 429 to the DELETE of what was to be replaced holds every DELETE of the token.
#[test]
fn a_429_to_the_delete_of_what_is_left_over_holds_the_others_too() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        world.with(|state| state.create(&named("joe"), spec("joe@example.com", MEMBER)));
        world.has("joe", "x2").await;
        world.next(Call::Delete, lost());
        world.next(Call::Delete, refused(429));
        world.edit("jane", |spec| spec.role = ADMIN);
        world.sent(Call::Delete, 1).await;
        world.delete("jane");
        world.sent(Call::Delete, 2).await;
        sleep(Duration::from_millis(20)).await;
        world.delete("joe");
        sleep(Duration::from_millis(900)).await;
        assert_eq!(world.with(|state| state.network.sent(Call::Delete)), 2);
        world.gone("joe").await;
        world.gone("jane").await;
        assert_eq!(world.emails(), 2);
    });
}

/// Who declined, where get-invite goes on answering with the invitation, is not said to be invited when the token may
/// not list users any more, nor written to when it may again.
#[test]
fn what_was_declined_is_not_told_as_out_where_nobody_can_look() {
    let habits = Habits {
        ended: Ended::OldBody,
        ..Habits::PLAIN
    };
    play(habits, async |world| {
        world.with(|state| state.astro.lifetime = LIFETIME);
        let mut operator = Process::start(&world, "P0");
        world.invite_jane().await;
        world.end("x1", Standing::Declined);
        world.says("jane", "InvitationWithdrawn").await;
        world.with(|state| state.let_list(false));
        world.says("jane", "InvitationEnded").await;
        seconds(600).await;
        operator.crash();
        world.with(|state| state.let_list(true));
        world.says("jane", "InvitationWithdrawn").await;
        seconds(1200).await;
        assert_eq!(world.emails(), 1);
    });
}

/// Jane's object, whose e-mail may be on its way, is deleted with Retain where nobody can look, and stays until the other
/// one for the address goes.
async fn stays_until_sam_goes(world: &World, emails: u32) {
    world.with(|state| state.let_list(false));
    world.edit("jane", |spec| {
        spec.deletion_policy = DeletionPolicy::Retain;
    });
    world.delete("jane");
    world.says("jane", "OutcomeUnknown").await;
    seconds(1200).await;
    assert_eq!(world.emails(), emails);
    world.delete("sam");
    world.gone("sam").await;
    world.gone("jane").await;
}

/// Whose e-mail may be on its way stays while another object for the address waits, also while Astro cannot be read:
/// nobody may be able to look afterwards.
#[test]
fn what_is_retained_waits_for_a_look_while_another_one_waits() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.next(Call::Post, unheard());
        world.create("jane", MEMBER);
        world.sent(Call::Post, 1).await;
        world.create("sam", MEMBER);
        world.says("sam", "Conflict").await;
        for _ in 0..12 {
            world.next(Call::List, refused(503));
        }
        stays_until_sam_goes(&world, 1).await;
    });
}

/// Also when that one may not take over what is recorded, since it was taken back for the e-mail.
#[test]
fn what_is_retained_waits_for_who_would_send_and_is_no_heir() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        world.create("sam", MEMBER);
        world.says("sam", "Conflict").await;
        world.next(Call::Post, unheard());
        world.edit("jane", |spec| spec.role = ADMIN);
        world.sent(Call::Post, 2).await;
        stays_until_sam_goes(&world, 2).await;
    });
}

/// A wish for an e-mail from before anybody was told that an outcome is unknown does not answer that, and is seen to
/// once it is known.
#[test]
fn a_wish_from_before_an_unknown_outcome_is_no_answer_to_it() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.next(Call::Post, unheard());
        world.create("jane", MEMBER);
        world.says("jane", "Settling").await;
        world.with(|state| {
            state.ask(&named("jane"), "soon");
            state.let_list(false);
        });
        world.says("jane", "OutcomeUnknown").await;
        seconds(1200).await;
        assert_eq!(world.emails(), 1);
        world.with(|state| state.let_list(true));
        world.has("jane", "x2").await;
        assert_eq!(world.emails(), 2);
    });
}

/// Nor does an e-mail that somebody asks for then follow within the distance of the one whose outcome is unknown. The wish
/// outlives the leader that it waits with.
#[test]
fn an_unknown_outcome_counts_for_the_distance_where_nobody_can_look_any_more() {
    for crashes in [false, true] {
        play(Habits::PLAIN, async |world| {
            let mut operator = Process::start(&world, "P0");
            world.next(Call::Post, lost());
            world.create("jane", MEMBER);
            world.says("jane", "Settling").await;
            world.with(|state| state.let_list(false));
            world.says("jane", "OutcomeUnknown").await;
            world.with(|state| state.ask(&named("jane"), "now"));
            world.says("jane", "Spacing").await;
            if crashes {
                operator.crash();
            }
            world.has("jane", "x1").await;
            assert_eq!(world.emails(), 1);
        });
    }
}

/// That an invitation was said to be gone before a time in which nobody could look does not count afterwards.
#[test]
fn what_was_said_once_before_nobody_could_look_is_asked_again() {
    play(Habits::PLAIN, async |world| {
        let _operator = Process::start(&world, "P0");
        world.invite_jane().await;
        seconds(60).await;
        world.next(Call::Get, refused(404));
        world.with(|state| state.hide("x1"));
        world.sent(Call::Get, 1).await;
        world.with(|state| state.let_list(false));
        seconds(600).await;
        world.with(|state| state.let_list(true));
        seconds(600).await;
        world.says("jane", "Invited").await;
        let status = world.with(|state| state.api.get(&named("jane")).unwrap().status.clone());
        assert!(status.unwrap().gone_since.is_none());
        world.with(|state| state.people_changed(EMAIL));
        seconds(600).await;
    });
}
