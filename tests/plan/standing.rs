//! One address, one claim, row by row.

use std::sync::Arc;

use kube::ResourceExt;
use orginvite_operator::astro::Role;
use orginvite_operator::claims::{Heir, is_open, standing};
use orginvite_operator::resources::OrgInvite;
use orginvite_operator::resources::org_invite::{ATTEMPT_ANNOTATION, Attempt, ResendWhen};
use serde_json::json;

/// An object that was created at that second and has nothing.
fn object(name: &str, second: u32) -> OrgInvite {
    serde_json::from_value(json!({
        "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "OrgInvite",
        "metadata": {
            "name": name, "namespace": "team", "uid": name,
            "creationTimestamp": format!("2026-11-24T12:00:{second:02}Z"),
        },
        "spec": {"email": "jane@example.com", "role": "ORGANIZATION_MEMBER"},
        "status": {},
    }))
    .unwrap()
}

fn deleting(mut object: OrgInvite) -> OrgInvite {
    object.metadata.deletion_timestamp = object.metadata.creation_timestamp.clone();
    object
}

fn with_invite(mut object: OrgInvite, id: &str) -> OrgInvite {
    let status = object.status.get_or_insert_default();
    (status.invite_id, status.role) = (Some(id.to_owned()), Some(Role::OrganizationMember));
    object
}

fn member(mut object: OrgInvite) -> OrgInvite {
    object.status.get_or_insert_default().user_id = Some("u".to_owned());
    object
}

fn annotated(mut object: OrgInvite, attempt: &str) -> OrgInvite {
    let annotations = object.annotations_mut();
    annotations.insert(ATTEMPT_ANNOTATION.to_owned(), attempt.to_owned());
    object
}

/// With an attempt of the object of that UID.
fn sent_by(object: OrgInvite, uid: &str) -> OrgInvite {
    let attempt = json!({
        "id": "a1", "uid": uid, "email": "jane@example.com", "role": "ORGANIZATION_MEMBER",
        "resends": 0,
    });
    annotated(object, &attempt.to_string())
}

fn open(object: OrgInvite) -> OrgInvite {
    let uid = object.uid().unwrap();
    sent_by(object, &uid)
}

/// Who holds the address, who inherits from whom, who is the heir, and what is shared, where the objects of
/// the names `barred` may give no role.
fn place(
    own: &OrgInvite,
    others: &[&OrgInvite],
    barred: &[&str],
) -> (String, String, Heir, String) {
    let others: Vec<Arc<OrgInvite>> = others
        .iter()
        .map(|&other| Arc::new(other.clone()))
        .collect();
    let permits = |object: &OrgInvite, _| !barred.contains(&object.name_any().as_str());
    let standing = standing(own, &others, permits, Some("x0"));
    let name = |object: Option<&OrgInvite>| object.map_or_else(String::new, ResourceExt::name_any);
    (
        name(standing.held_by),
        name(standing.inherits),
        standing.heir,
        standing.shared.join(" "),
    )
}

/// What `own` finds among `others`.
#[track_caller]
fn finds(
    own: &OrgInvite,
    others: &[&OrgInvite],
    (held_by, inherits, heir, shared): (&str, &str, Heir, &str),
) {
    let expected = (
        held_by.to_owned(),
        inherits.to_owned(),
        heir,
        shared.to_owned(),
    );
    assert_eq!(place(own, others, &[]), expected);
}

#[test]
fn who_holds_an_address() {
    let (old, young) = (object("b", 1), object("c", 2));
    finds(&old, &[], ("", "", Heir::None, ""));
    // Of those with nothing the oldest, then the first by name.
    finds(&young, &[&old], ("b", "", Heir::None, ""));
    finds(&old, &[&young], ("", "", Heir::None, ""));
    finds(&object("d", 1), &[&old], ("b", "", Heir::None, ""));
    finds(&object("a", 1), &[&old], ("", "", Heir::None, ""));
    // Whoever has something, however young.
    let holder = with_invite(young.clone(), "x1");
    finds(&old, &[&holder], ("c", "", Heir::None, "x1"));
    finds(&old, &[&member(young.clone())], ("c", "", Heir::None, ""));
    finds(&old, &[&open(young.clone())], ("c", "", Heir::None, ""));
    finds(&holder, &[&old], ("", "", Heir::None, ""));
    // Of several that have something, the oldest that stays.
    let older = with_invite(old.clone(), "x2");
    finds(&holder, &[&older], ("b", "", Heir::None, "x2"));
    finds(&older, &[&holder], ("", "", Heir::None, "x1"));
    finds(&holder, &[&deleting(older)], ("", "", Heir::None, ""));
    // One that goes and has nothing is in nobody's way.
    finds(&young, &[&deleting(old)], ("", "", Heir::None, ""));
}

#[test]
fn who_takes_over() {
    let going = deleting(with_invite(object("b", 1), "x1"));
    let (heir, later) = (object("c", 2), object("d", 3));
    finds(&heir, &[&going], ("b", "b", Heir::None, ""));
    finds(&heir, &[&going, &later], ("b", "b", Heir::None, ""));
    finds(&later, &[&going, &heir], ("b", "", Heir::None, ""));
    assert_eq!(place(&heir, &[&going], &["c"]).1, "");
    // A member that is recorded, like an invite.
    finds(
        &heir,
        &[&deleting(member(object("b", 1)))],
        ("b", "b", Heir::None, ""),
    );
    // Nobody takes over what is not settled, is not recorded, or stays.
    finds(&heir, &[&open(going.clone())], ("b", "", Heir::None, ""));
    finds(
        &heir,
        &[&with_invite(object("b", 1), "x1")],
        ("b", "", Heir::None, "x1"),
    );
    // Nor does one that has something, or goes itself.
    finds(&member(heir.clone()), &[&going], ("", "", Heir::None, ""));
    finds(&deleting(heir), &[&going], ("b", "", Heir::None, ""));
}

#[test]
fn who_is_waited_for() {
    let going = deleting(with_invite(object("b", 1), "x1"));
    let heir = object("c", 2);
    let waits = |others: &[&OrgInvite]| place(&going, others, &[]).2;
    assert_eq!(waits(&[]), Heir::None);
    assert_eq!(waits(&[&heir]), Heir::Waiting);
    assert_eq!(waits(&[&deleting(heir.clone())]), Heir::None);
    assert_eq!(waits(&[&member(heir.clone())]), Heir::None);
    assert_eq!(waits(&[&with_invite(heir.clone(), "x2")]), Heir::None);
    assert_eq!(waits(&[&with_invite(heir.clone(), "x1")]), Heir::Recorded);
    assert_eq!(
        waits(&[&deleting(with_invite(heir.clone(), "x1"))]),
        Heir::None
    );
    // What comes of an open attempt is not known yet, whether it may take over or not.
    assert_eq!(
        waits(&[&open(with_invite(heir.clone(), "x1"))]),
        Heir::Waiting
    );
    let annotated_by_hand = annotated(heir.clone(), "{");
    assert_eq!(waits(&[&annotated_by_hand]), Heir::None, "never settles");
    let barred = |other| place(&going, &[other], &["c"]).2;
    assert_eq!(barred(&open(heir.clone())), Heir::None, "may be forged");
    assert_eq!(place(&going, &[&heir], &["c"]).2, Heir::None);
    let going = deleting(member(object("b", 1)));
    let waits = |others: &[&OrgInvite]| place(&going, others, &[]).2;
    assert_eq!(waits(&[]), Heir::None);
    assert_eq!(waits(&[&heir]), Heir::Waiting);
    assert_eq!(waits(&[&member(heir.clone())]), Heir::Recorded);
    // Who stays, or has nothing, hands nothing over.
    assert_eq!(
        place(&with_invite(object("b", 1), "x1"), &[&heir], &[]).2,
        Heir::None
    );
    assert_eq!(
        place(&deleting(object("b", 1)), &[&heir], &[]).2,
        Heir::None
    );
}

/// Of what was taken back nobody is the heir, and who waits sends all the same.
#[test]
fn who_would_send() {
    let going = deleting(with_invite(object("b", 1), "x0"));
    let waits = object("c", 2);
    let sends = |own: &OrgInvite, other: &OrgInvite, barred: &[&str]| {
        let others = [Arc::new(other.clone())];
        let permits = |object: &OrgInvite, _| !barred.contains(&object.name_any().as_str());
        let standing = standing(own, &others, permits, Some("x0"));
        (standing.heir, standing.would_send)
    };
    assert_eq!(sends(&going, &waits, &[]), (Heir::None, true));
    assert_eq!(
        sends(&going, &open(waits.clone()), &[]),
        (Heir::Waiting, true)
    );
    assert_eq!(sends(&going, &waits, &["c"]), (Heir::None, false));
    assert_eq!(
        sends(&going, &deleting(waits.clone()), &[]),
        (Heir::None, false)
    );
    let shared = with_invite(waits.clone(), "x0");
    assert_eq!(sends(&going, &shared, &[]), (Heir::Recorded, false));
    let stays = with_invite(object("b", 1), "x0");
    assert_eq!(sends(&stays, &waits, &[]), (Heir::None, false));
}

/// Whoever may not give its role stands in nobody's way, however old.
#[test]
fn who_may_not_invite_is_in_nobodys_way() {
    let (barred, next) = (object("b", 1), object("c", 2));
    assert_eq!(place(&next, &[&barred], &["b"]).0, "");
    let going = deleting(with_invite(object("a", 0), "x1"));
    let (held_by, inherits, ..) = place(&next, &[&going, &barred], &["b"]);
    assert_eq!((held_by.as_str(), inherits.as_str()), ("a", "a"));
    assert_eq!(place(&going, &[&barred, &next], &["b"]).2, Heir::Waiting);
    assert_eq!(place(&going, &[&barred], &["b"]).2, Heir::None);
    // Nor with an annotation that this operator did not write.
    let elsewhere = {
        let mut object = open(barred.clone());
        object.spec.email = "joe@example.com".to_owned();
        object
    };
    for forged in [annotated(barred.clone(), "{"), elsewhere] {
        for own in [next.clone(), with_invite(next.clone(), "x1")] {
            assert_eq!(place(&own, &[&forged], &["b"]).0, "");
        }
        assert_eq!(place(&next, &[&forged], &[]).0, "b", "if it may invite");
    }
    // But it may have sent something when it might.
    assert_eq!(place(&next, &[&open(barred.clone())], &["b"]).0, "b");
    assert_eq!(place(&next, &[&with_invite(barred, "x2")], &["b"]).0, "b");
}

/// The policy has to allow the role of the invite as well; and what was taken back is nothing to take over.
#[test]
fn what_is_handed_over() {
    let heir = object("c", 2);
    let unknown = {
        let mut object = deleting(with_invite(object("b", 1), "x1"));
        object.status.get_or_insert_default().role = None;
        object
    };
    let taken_back = deleting(with_invite(object("b", 1), "x0"));
    for going in [unknown, taken_back] {
        assert_eq!(place(&heir, &[&going], &[]).1, "");
        assert_eq!(place(&going, &[&heir], &[]).2, Heir::None);
        // Who is a member cannot be touched by it any more.
        let going = member(going);
        assert_eq!(place(&heir, &[&going], &[]).1, "b");
        assert_eq!(place(&going, &[&heir], &[]).2, Heir::Waiting);
    }
}

#[test]
fn what_somebody_else_records_is_shared() {
    let others = [
        with_invite(object("b", 1), "x1"),
        deleting(with_invite(object("c", 2), "x2")),
        with_invite(object("d", 3), "x3"),
    ];
    assert_eq!(place(&object("e", 4), &others.each_ref(), &[]).3, "x1 x3");
}

#[test]
fn which_attempts_are_open() {
    let own = object("b", 1);
    assert!(!is_open(&own));
    assert!(is_open(&open(own.clone())));
    assert!(is_open(&annotated(own.clone(), "{")), "nobody can tell");
    assert!(!is_open(&sent_by(own.clone(), "another")), "a copy");
    let known = |object: &OrgInvite, closed: Option<&str>| {
        let mut object = object.clone();
        let status = object.status.get_or_insert_default();
        status.attempt_id = closed.map(str::to_owned);
        status.open_attempt = Some(Box::new(Attempt {
            id: "a2".to_owned(),
            after: Some("a1".to_owned()),
            uid: own.uid(),
            email: "jane@example.com".to_owned(),
            role: Role::OrganizationMember,
            replaces: None,
            resends: 0,
            request: None,
            named: None,
            told: None,
        }));
        object
    };
    assert!(
        is_open(&known(&own, Some("a1"))),
        "its annotation was removed"
    );
    let copied = known(&sent_by(own.clone(), "another"), Some("a1"));
    assert!(is_open(&copied), "or a manifest of another place");
    let old = known(&open(own.clone()), Some("a1"));
    assert!(is_open(&old), "or an old one was written back");
    for closed in ["a2", "a3"] {
        assert!(!is_open(&known(&own, Some(closed))), "{closed} is known");
    }
    let written = known(&own, None).status.unwrap().open_attempt.unwrap();
    let mut again = annotated(own.clone(), &serde_json::to_string(&written).unwrap());
    for (closed, is) in [(Some("a1"), true), (Some("a2"), false), (Some("a3"), false)] {
        again.status.get_or_insert_default().attempt_id = closed.map(str::to_owned);
        assert_eq!(
            is_open(&again),
            is,
            "the second one while {closed:?} is known"
        );
    }
    let mut closed = open(own);
    closed.status.get_or_insert_default().attempt_id = Some("a1".to_owned());
    assert!(!is_open(&closed));
    closed.status.get_or_insert_default().attempt_id = Some("a0".to_owned());
    assert!(is_open(&closed));
}

/// What only a later version understands does nothing, and keeps nobody waiting.
#[test]
fn who_is_not_understood_is_not_in_line() {
    let mut odd = object("b", 1);
    odd.spec.resend_when = ResendWhen::Unknown;
    finds(&object("c", 2), &[&odd], ("", "", Heir::None, ""));
    let holder = deleting(with_invite(object("a", 0), "x1"));
    finds(&holder, &[&odd], ("", "", Heir::None, ""));
    finds(&holder, &[&object("c", 2)], ("", "", Heir::Waiting, ""));
    // What it records is its own.
    assert_eq!(
        place(&object("c", 2), &[&with_invite(odd, "x2")], &[]).0,
        "b"
    );
}
