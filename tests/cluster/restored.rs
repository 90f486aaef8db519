//! A cluster that was restored from an old backup writes to nobody who may have been written to since.

use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use kube::core::ObjectMeta;
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};
use orginvite_operator::resources::{OrgInvite, Organization};
use serde_json::json;
use support::fake_astro::Operation;

use crate::admin::Scrape;
use crate::world::{World, condition, invite_id, uid};

/// Deletes an object by force and creates it again from what a backup without statuses holds.
async fn restore(world: &World, name: &str) {
    let object = world.invites().get(name).await.unwrap();
    world.delete(name).await;
    let force = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world
        .invites()
        .patch(name, &PatchParams::default(), &force)
        .await
        .ok();
    world.deleted(name, &uid(&object)).await;
    let restored = OrgInvite {
        metadata: ObjectMeta {
            name: Some(object.name_any()),
            annotations: Some(object.annotations().clone()),
            finalizers: object.metadata.finalizers.clone(),
            ..ObjectMeta::default()
        },
        spec: object.spec.clone(),
        status: None,
    };
    world.create(&restored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_without_their_status_find_what_there_is_and_send_nothing() {
    let mut world = World::start().await;
    for name in ["pending", "member", "declined"] {
        world.apply(name, &format!("{name}@example.com")).await;
    }
    let pending = invite_id(&world.state("pending", "Invited").await);
    let member = invite_id(&world.state("member", "Invited").await);
    let declined = invite_id(&world.state("declined", "Invited").await);
    world.kill_operator();
    world.astro.accept(&member).unwrap();
    world.astro.reject(&declined).unwrap();
    for name in ["pending", "member", "declined"] {
        restore(&world, name).await;
    }
    world.start_operator();
    let object = world.state("pending", "Invited").await;
    assert_eq!(invite_id(&object), pending);
    world.state("member", "AlreadyMember").await;
    let object = world.state("declined", "Restored").await;
    assert_eq!(condition(&object, "Stalled").unwrap().status, "True");
    assert_eq!(world.astro.count(Operation::CreateInvite), 3);
    let of = world.organization.clone();
    let scrape = Scrape::of(&world).await;
    for cause in ["first", "resend", "replacement"] {
        let counted = scrape.value("emails_sent", &[&of, cause]);
        assert_eq!(counted, Some(0.0), "this process sent none: {cause}");
    }

    // A person decides.
    world
        .annotate("declined", "iam.astronomer.io/resend-requested-at", "now")
        .await;
    world.state("declined", "Invited").await;
    assert_eq!(world.astro.emails_to("declined@example.com"), 2);
    assert_eq!(world.astro.count(Operation::CreateInvite), 4);
}

/// As after the restore of an etcd snapshot: the statuses tell what was so a week ago, and nothing of
/// the invitation that was sent, accepted and followed by a departure since.
#[tokio::test(flavor = "multi_thread")]
async fn old_statuses_send_nothing_until_somebody_acknowledges_the_gap() {
    let mut world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let first = invite_id(&world.state("jane", "Invited").await);
    let noted = |object: Option<&Organization>| {
        object.is_some_and(|object| {
            let status = object.status.as_ref();
            status.is_some_and(|status| status.last_sync_time.is_some())
        })
    };
    let organizations: Api<Organization> = Api::all(world.client.clone());
    let wait = await_condition(organizations.clone(), &world.organization, noted);
    world.in_time("a reading is noted", wait).await.unwrap();
    world.kill_operator();
    note(&world, Timestamp::now()).await;
    world.astro.accept(&first).unwrap();
    world.astro.remove_member("jane@example.com").unwrap();
    world
        .astro
        .set_clock_offset(SignedDuration::from_hours(8 * 24));
    world.start_operator();
    world.state("jane", "LongUnread").await;
    // Who is declared afterwards was not written to by anybody.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    world.apply("new", "new@example.com").await;
    world.state("new", "Invited").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);

    // It is not forgotten at the next start.
    world.kill_operator();
    world.start_operator();
    world.seen("jane@example.com").await;
    world.state("jane", "LongUnread").await;
    let object = organizations.get(&world.organization).await.unwrap();
    let conditions = object.status.unwrap().conditions;
    assert!(
        conditions
            .iter()
            .any(|one| one.type_ == "Suspicious" && one.reason == "LongUnread")
    );
    let of = world.organization.clone();
    let long_unread = |scrape: &Scrape| scrape.value("long_unread", &[&of]);
    assert_eq!(long_unread(&Scrape::of(&world).await), Some(1.0));
    let acknowledge =
        json!({"metadata": {"annotations": {"iam.astronomer.io/acknowledge-loss": "restored"}}});
    world.edit_organization(acknowledge).await;
    world.state("jane", "Invited").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 2);
    assert_eq!(long_unread(&Scrape::of(&world).await), Some(0.0));
}

/// The noted time is a minute old at most: here it is to be not older than the objects.
async fn note(world: &World, time: Timestamp) {
    let time = json!({"status": {"lastSyncTime": whole_seconds(time)}});
    let api: Api<Organization> = Api::all(world.client.clone());
    api.patch_status(
        &world.organization,
        &PatchParams::default(),
        &Patch::Merge(time),
    )
    .await
    .unwrap();
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap()
}

/// A gap is told from an hour on, or from two intervals on where those are longer; and a reading that goes on is noted.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_told_from_an_hour_or_two_intervals_on() {
    for (interval, shorter, longer) in [("1s", None, 2), ("3h", Some(5), 12)] {
        let mut world = World::prepare(json!({"syncInterval": interval})).await;
        // What expires meanwhile is sent again where that is believed.
        let lifetime = std::time::Duration::from_mins(30);
        world.astro.set_invite_lifetime(lifetime);
        world.start_operator();
        world.organization_is("Connected").await;
        world.apply("jane", "jane@example.com").await;
        world.state("jane", "Invited").await;
        world.kill_operator();
        note(&world, Timestamp::now()).await;
        let mut emails = 1;
        if let Some(hours) = shorter {
            let offset = SignedDuration::from_hours(hours);
            world.astro.set_clock_offset(offset);
            world.start_operator();
            world
                .until("it is sent again", || {
                    world.astro.emails_to("jane@example.com") == 2
                })
                .await;
            world.state("jane", "Invited").await;
            noted_since(
                &world,
                Timestamp::now() + offset - SignedDuration::from_mins(1),
            )
            .await;
            emails = 2;
            world.kill_operator();
        }
        let offset = SignedDuration::from_hours(longer);
        world.astro.set_clock_offset(offset);
        world.start_operator();
        world.state("jane", "LongUnread").await;
        assert_eq!(world.astro.emails_to("jane@example.com"), emails);
    }
}

/// What is noted of the last reading goes on while nothing else happens.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_the_last_reading_goes_on() {
    let world = World::start().await;
    let offset = SignedDuration::from_mins(10);
    world.astro.set_clock_offset(offset);
    noted_since(&world, Timestamp::now() + SignedDuration::from_mins(9)).await;
}

async fn noted_since(world: &World, time: Timestamp) {
    let noted = move |object: Option<&Organization>| {
        let status = object.and_then(|object| object.status.as_ref());
        let last = status.and_then(|status| status.last_sync_time.as_ref());
        last.is_some_and(|last| last.0 >= time)
    };
    let api: Api<Organization> = Api::all(world.client.clone());
    let wait = await_condition(api, &world.organization, noted);
    world.in_time("the reading is noted", wait).await.unwrap();
}

/// The Secret is of then as well, and its token does not work any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_comes_after_the_restore_takes_no_doubt_away() {
    let mut world = World::start().await;
    let lifetime = std::time::Duration::from_mins(30);
    world.astro.set_invite_lifetime(lifetime);
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    world.kill_operator();
    note(&world, Timestamp::now()).await;
    world.astro.set_clock_offset(SignedDuration::from_hours(3));
    let token = world.astro.token();
    world.put_token("wrong").await;
    world.start_operator();
    world.organization_is("TokenRejected").await;
    world.put_token(&token).await;
    world.organization_is("Connected").await;
    world.state("jane", "LongUnread").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}
