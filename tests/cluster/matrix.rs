//! The life of an invitation under every answer that the documentation of the Astro API leaves open:
//! with the directory and without the right to list users. It prints what came out, which is
//! `docs/matrix.md`.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use jiff::SignedDuration;
use kube::api::ListParams;
use orginvite_operator::resources::OrgInvite;
use serde_json::json;
use support::fake_astro::{
    Api, Behaviour, DefaultList, DeleteAccepted, DeleteExpired, EmailCase, ExpiresAt, GetEnded,
    InviterKind, InvitesShown, ListUsers, Mark, Operation, PostMember, PostPending, RoleOfPending,
    RowAfterExpiry, RowAfterWithdrawal, Search, Shown,
};

use crate::world::{PATIENT, World, condition, invite_id, uid};

/// So many lives at once: they wait more than they compute.
const AT_ONCE: usize = 8;

const JANE: &str = "Jane@Example.com";
const DORA: &str = "Dora@Example.com";
const PAUL: &str = "Paul@Example.com";
const ANNA: &str = "Anna@Example.com";
const MAX: &str = "Max@Example.com";

/// Longer than an invitation is valid.
const EXPIRED: SignedDuration = SignedDuration::from_hours(7 * 24 + 1);

/// What the status says in the end, and how many e-mails the person got through the API.
type End = (&'static str, u32);

/// What comes out of one life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    /// Jane is invited, her role is edited, the invitation expires and is sent again, by itself or,
    /// where nobody can look, on request; she accepts, and much later the object is deleted.
    accepted: End,
    /// Dora declines; much later the object is deleted.
    declined: End,
    /// Paul's object is deleted while he is invited.
    taken_back: u32,
    /// Anna was invited on the web page before there is an object for her.
    adopted: End,
    /// Max was a member before there is an object for him.
    member: End,
    posts: usize,
    deletes: usize,
}

/// With the directory, under the first answer to each question.
const SEEING: Outcome = Outcome {
    accepted: ("Accepted", 3),
    declined: ("InvitationWithdrawn", 1),
    taken_back: 1,
    adopted: ("Invited", 0),
    member: ("AlreadyMember", 0),
    posts: 5,
    deletes: 5,
};

/// Without the right to list users, under the first answer to each question: Astro itself tells that
/// an address is invited or a member already, and nobody can tell why an invitation ended.
const BLIND: Outcome = Outcome {
    accepted: ("InvitationEnded", 3),
    declined: ("InvitationEnded", 1),
    taken_back: 1,
    adopted: ("Invited", 0),
    member: ("Refused", 0),
    posts: 7,
    deletes: 7,
};

/// What happens besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    Nothing,
    /// Jane is invited a second time, on the web page.
    SecondInvite,
    /// Somebody leaves while the pages of the first reading are read, and Max's row moves.
    RowsShift,
    /// The API answers nothing at the start, and again while everything is edited and deleted.
    SwitchedOff,
}

/// One answer to one question.
#[derive(Clone, Copy)]
struct Row {
    question: &'static str,
    answer: &'static str,
    behaviour: fn(&mut Behaviour),
    script: Script,
    seeing: Outcome,
    blind: Outcome,
    /// Why an outcome is another one than under the first answers.
    why: &'static str,
}

/// An answer under which everything ends as under the first ones.
const fn row(question: &'static str, answer: &'static str, behaviour: fn(&mut Behaviour)) -> Row {
    Row {
        question,
        answer,
        behaviour,
        script: Script::Nothing,
        seeing: SEEING,
        blind: BLIND,
        why: "",
    }
}

impl Row {
    const fn script(self, script: Script) -> Self {
        Self { script, ..self }
    }

    const fn seeing(self, seeing: Outcome, why: &'static str) -> Self {
        Self {
            seeing,
            why,
            ..self
        }
    }

    const fn blind(self, blind: Outcome, why: &'static str) -> Self {
        Self { blind, why, ..self }
    }
}

/// Every answer of the table *Unverified*, the others staying at their first.
#[allow(clippy::too_many_lines, reason = "a table is as long as its rows")]
fn rows() -> Vec<Row> {
    const POST_PENDING: &str = "POST for an address with a pending invite";
    const POST_MEMBER: &str = "POST for an active member";
    const GET: &str = "GET of an accepted, expired, rejected or deleted invite";
    const DELETE_ACCEPTED: &str = "DELETE after acceptance";
    const AFTER_EXPIRY: &str = "list users: an address's row after its invite expired";
    const AFTER_WITHDRAWAL: &str =
        "list users: an address's row after its invite was deleted or rejected";
    const ROLE: &str = "list users: the role of a pending row";
    const SEARCH: &str = "`search`, which is not used";
    const SWITCHED_OFF: &str =
        "v1alpha1 switched off, at the start and during every edit and deletion, and on again";
    let refused = Outcome {
        adopted: ("Refused", 0),
        deletes: 6,
        ..BLIND
    };
    let refused_why = "In fallback Anna's invitation is not adopted: Astro names no invite. It is hers still, and the object says why it does nothing.";
    vec![
        row("all of them", "the first answer to each", |_| {}),
        row(POST_PENDING, "200 with a new invite, a second e-mail", |b| {
            b.post_pending = PostPending::NewInvite;
        })
        .blind(
            Outcome {
                adopted: ("Invited", 1),
                ..BLIND
            },
            "In fallback nobody can see that Anna is invited already: she gets one e-mail more.",
        ),
        row(POST_PENDING, "400, already invited", |b| {
            b.post_pending = PostPending::BadRequest;
        })
        .blind(refused, refused_why),
        row(POST_PENDING, "409", |b| {
            b.post_pending = PostPending::Conflict;
        })
        .blind(refused, refused_why),
        row(POST_MEMBER, "409", |b| b.post_member = PostMember::Conflict),
        row(POST_MEMBER, "200 with an invite that never matters, an e-mail", |b| {
            b.post_member = PostMember::UselessInvite;
        })
        .blind(
            Outcome {
                member: ("Expired", 1),
                deletes: 8,
                ..BLIND
            },
            "In fallback nobody can see that Max is a member: he gets one e-mail, and no other.",
        ),
        row(GET, "200 with its old body", |b| {
            b.get_ended = GetEnded::OldBody;
        })
        .blind(
            Outcome {
                accepted: ("Expired", 3),
                declined: ("Expired", 1),
                deletes: 8,
                ..BLIND
            },
            "In fallback only the time tells that an invitation ended: until its expiry the object says Invited. The one that Jane asks to be sent again is deleted first, since it may be pending.",
        ),
        row(GET, "400", |b| b.get_ended = GetEnded::BadRequest),
        row(DELETE_ACCEPTED, "400, already accepted", |b| {
            b.delete_accepted = DeleteAccepted::BadRequest;
        }),
        row(DELETE_ACCEPTED, "204", |b| {
            b.delete_accepted = DeleteAccepted::NoContent;
        })
        .blind(
            Outcome {
                deletes: 6,
                ..BLIND
            },
            "In fallback a 204 counts at once, and that an invite is gone when it is said twice.",
        ),
        row("DELETE of an expired invite", "404", |b| {
            b.delete_expired = DeleteExpired::NotFound;
        }),
        row(AFTER_EXPIRY, "`PENDING` with no invites", |b| {
            b.row_after_expiry = RowAfterExpiry::WithoutInvites;
        }),
        row(AFTER_EXPIRY, "gone", |b| {
            b.row_after_expiry = RowAfterExpiry::Gone;
        }),
        row(AFTER_WITHDRAWAL, "still `PENDING` with no invites", |b| {
            b.row_after_withdrawal = RowAfterWithdrawal::WithoutInvites;
        }),
        row("e-mail case", "lower-cased", |b| {
            b.email_case = EmailCase::Lowered;
        }),
        row("role change of a `PENDING` user, which is not used", "404", |b| {
            b.role_of_pending = RoleOfPending::NotFound;
        }),
        row("list users without `hasInvites`", "without the pending people", |b| {
            b.default_list = DefaultList::WithoutPending;
        }),
        row(
            "an address with several invites: Jane is invited on the web page as well",
            "one row with several `invites`",
            |_| {},
        )
        .script(Script::SecondInvite)
        .seeing(
            Outcome {
                deletes: 6,
                ..SEEING
            },
            "With the directory the second invitation is found, adopted and replaced as well. In fallback Astro answers the edit with it, and nobody can see that it is older and has another role.",
        )
        .blind(
            Outcome {
                accepted: ("InvitationEnded", 2),
                ..BLIND
            },
            "With the directory the second invitation is found, adopted and replaced as well. In fallback Astro answers the edit with it, and nobody can see that it is older and has another role.",
        ),
        row(SEARCH, "substring", |b| b.search = Search::Substring),
        row(SEARCH, "misses `+`", |b| b.search = Search::MissesPlus),
        row(SEARCH, "misses pending people", |b| {
            b.search = Search::MissesPending;
        }),
        row(
            "people added or removed while pages are read",
            "rows shift: one is seen twice, one not at all",
            |_| {},
        )
        .script(Script::RowsShift),
        row(SWITCHED_OFF, "404 with an HTML body", |b| b.api = Api::NotFound)
            .script(Script::SwitchedOff),
        row(SWITCHED_OFF, "410", |b| b.api = Api::Gone).script(Script::SwitchedOff),
        row("list after a POST", "after a delay", |b| {
            b.list_delay = Duration::from_millis(250);
        }),
        row(ROLE, "only without `hasInvites`", |b| {
            b.pending_role_with_invites = Shown::No;
        }),
        row(ROLE, "never", |b| {
            (b.pending_role, b.pending_role_with_invites) = (Shown::No, Shown::No);
        }),
        row("list users: `invites` of a row", "only with `hasInvites`", |b| {
            b.invites_shown = InvitesShown::WithHasInvites;
        }),
        row("`inviter` of an invite", "`SERVICEKEY`", |b| {
            b.inviter = InviterKind::ServiceKey;
        })
        .blind(
            Outcome {
                adopted: ("NotPermitted", 0),
                deletes: 6,
                ..BLIND
            },
            "In fallback Astro answers for Anna with an invitation that somebody else sent, and nobody can see as what: it is not touched.",
        ),
        row("`expiresAt`", "in whole seconds", |b| {
            b.expires_at = ExpiresAt::WholeSeconds;
        }),
    ]
}

/// One life, in a world of its own.
struct Life {
    world: World,
    script: Script,
    blind: bool,
    /// Whether get-invite answers for an ended invite as it did before.
    old_body: bool,
    expected: Outcome,
}

impl Life {
    async fn prepare(row: &Row, blind: bool) -> Self {
        let mut behaviour = Behaviour::default();
        (row.behaviour)(&mut behaviour);
        if blind {
            behaviour.list_users = ListUsers::Forbidden;
        }
        let old_body = behaviour.get_ended == GetEnded::OldBody;
        let world = World::prepare(json!({})).await;
        let astro = &world.astro;
        // With rows that shift, Max is the first of the second page, and one before him leaves.
        let before_max = if row.script == Script::RowsShift {
            99
        } else {
            0
        };
        let member = |email: &str| astro.add_member(email, "ORGANIZATION_MEMBER").unwrap();
        for n in 0..before_max {
            member(&format!("p{n}@example.com"));
        }
        member(MAX);
        if row.script == Script::RowsShift {
            for n in 0..20 {
                member(&format!("q{n}@example.com"));
            }
            astro.after_list_pages(2, |astro| astro.remove_member("p0@example.com").unwrap());
        }
        astro
            .invite_on_web_page(ANNA, "ORGANIZATION_MEMBER")
            .unwrap();
        astro.set_behaviour(behaviour);
        Self {
            world,
            script: row.script,
            blind,
            old_body,
            expected: if blind { row.blind } else { row.seeing },
        }
    }

    /// Waits until a whole pass went by that began after now, or, where nobody can look, an interval.
    async fn whole_pass(&self) {
        let lists = if self.blind { 1 } else { 2 };
        let before = self.world.astro.count(Operation::ListUsers);
        self.world
            .until("a whole pass", || {
                self.world.astro.count(Operation::ListUsers) >= before + 2 * lists
            })
            .await;
    }

    /// Moves Astro's clock, and waits until the operator had an answer that tells it.
    async fn pass_time(&self, time: SignedDuration) {
        self.world.astro.set_clock_offset(time);
        let moved = self.world.astro.mark();
        self.world
            .until("the clock is read", || {
                let calls = self.world.astro.calls_since(moved);
                calls
                    .iter()
                    .any(|call| call.outcome != support::fake_astro::Outcome::Open)
            })
            .await;
    }

    /// Waits; meanwhile the object is planned again and again, as its timer would have it when time
    /// passes.
    async fn touching<T>(&self, name: &str, wait: impl Future<Output = T>) -> T {
        let mut wait = Box::pin(wait);
        loop {
            let moment = self.world.astro.calls().len().to_string();
            self.world.annotate(name, "test/touched", &moment).await;
            if let Ok(done) = tokio::time::timeout(Duration::from_millis(300), &mut wait).await {
                return done;
            }
        }
    }

    /// Waits until get-invite was asked for that address since then.
    async fn asked_for(&self, email: &str, since: Mark) {
        let address = support::fake_astro::canonical(email);
        self.world
            .until(&format!("{email} is looked at"), || {
                self.world.astro.calls_since(since).iter().any(|call| {
                    call.operation == Operation::GetInvite
                        && call.email.as_deref() == Some(&address)
                })
            })
            .await;
    }

    async fn switch(&self, behaviour: &Behaviour, on: bool) {
        let api = if on { Api::Served } else { behaviour.api };
        self.world.astro.change_behaviour(|b| b.api = api);
        let reason = match (on, self.blind) {
            (false, _) => "OrganizationUnknown",
            (true, false) => "Connected",
            (true, true) => "ListForbidden",
        };
        self.world.organization_is(reason).await;
    }

    async fn invited(&self, name: &str) -> String {
        invite_id(&self.world.state(name, "Invited").await)
    }

    /// Waits for an invitation that is not `before`.
    async fn invited_anew(&self, name: &str, before: &str) -> String {
        let known = before.to_owned();
        let api = self.world.invites();
        let another =
            kube::runtime::wait::await_condition(api, name, move |o: Option<&OrgInvite>| {
                o.and_then(|o| o.status.as_ref()?.invite_id.as_ref())
                    .is_some_and(|id| *id != known)
            });
        let what = format!("{name} has another invitation");
        self.world.in_time(&what, another).await.unwrap();
        self.invited(name).await
    }

    /// Every invitation that the API made and that can still be accepted has an object.
    async fn assert_owned(&self) {
        let api = self.world.invites();
        let recorded: HashSet<String> = api
            .list(&ListParams::default())
            .await
            .unwrap()
            .into_iter()
            .filter_map(|object| object.status?.invite_id)
            .collect();
        for mail in self.world.astro.mails() {
            let live = self.world.astro.live_invites(&mail.address);
            if live.iter().any(|invite| invite.id == mail.invite_id) {
                let id = &mail.invite_id;
                assert!(recorded.contains(id), "nobody owns {id}: {}", mail.address);
            }
        }
    }

    /// From the first e-mail to the last object's end.
    async fn live(mut self, behaviour: &Behaviour) -> Outcome {
        if self.script == Script::SwitchedOff {
            self.world.astro.change_behaviour(|b| b.api = behaviour.api);
        }
        for (name, email) in [("jane", JANE), ("dora", DORA), ("paul", PAUL), ("max", MAX)] {
            self.world.apply(name, email).await;
        }
        let options = [&PATIENT[..], &["--listing-delay", "300ms"]].concat();
        self.world.start_operator_with(&options);
        if self.script == Script::SwitchedOff {
            self.switch(behaviour, false).await;
            assert_eq!(self.world.astro.count(Operation::CreateInvite), 0);
            self.switch(behaviour, true).await;
        }

        let jane = self.invited("jane").await;
        let dora = self.invited("dora").await;
        self.invited("paul").await;
        self.at_creation("max", self.expected.member.0).await;
        self.world.apply("anna", ANNA).await;
        self.at_creation("anna", self.expected.adopted.0).await;
        self.assert_owned().await;

        let jane = self.changed(behaviour, &jane, &dora).await;
        let jane = Box::pin(self.sent_again(&jane)).await;
        self.accepted(&jane).await;
        self.long_after().await
    }

    /// How an object for somebody stands whom Astro knows already.
    async fn at_creation(&self, name: &str, reason: &str) {
        // That of an invitation is told once it is known to have ended.
        let reason = if reason == "Expired" {
            "Invited"
        } else {
            reason
        };
        self.world.state(name, reason).await;
    }

    /// Jane's role is edited, Dora declines, and the objects of Paul and Anna are deleted.
    async fn changed(&self, behaviour: &Behaviour, jane: &str, dora: &str) -> String {
        let world = &self.world;
        if self.script == Script::SecondInvite {
            world
                .astro
                .invite_on_web_page(JANE, "ORGANIZATION_MEMBER")
                .unwrap();
            self.whole_pass().await;
        }
        if self.script == Script::SwitchedOff {
            self.switch(behaviour, false).await;
        }
        let mark = world.astro.mark();
        let uids = [uid_of(world, "paul").await, uid_of(world, "anna").await];
        world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
        world.astro.reject(dora).unwrap();
        let declined = world.astro.mark();
        world.delete("paul").await;
        world.delete("anna").await;
        if self.script == Script::SwitchedOff {
            for name in ["paul", "anna"] {
                world.state(name, "AstroUnavailable").await;
            }
            assert_eq!(world.astro.count_since(mark, Operation::CreateInvite), 0);
            assert_eq!(world.astro.count_since(mark, Operation::DeleteInvite), 0);
            assert_eq!(world.astro.live_invites(PAUL).len(), 1);
            assert_eq!(world.astro.live_invites(JANE)[0].id, jane);
            self.switch(behaviour, true).await;
        }
        for (name, uid) in ["paul", "anna"].iter().zip(uids) {
            world.deleted(name, &uid).await;
        }
        assert!(world.astro.live_invites(PAUL).is_empty());
        if self.old_body {
            self.asked_for(DORA, declined).await;
            world.state("dora", "Invited").await;
        } else {
            world.state("dora", self.expected.declined.0).await;
        }
        let jane = self.invited_anew("jane", jane).await;
        self.assert_owned().await;
        jane
    }

    /// Time passes, and what is pending expires.
    async fn sent_again(&self, jane: &str) -> String {
        let world = &self.world;
        self.pass_time(EXPIRED).await;
        if self.blind {
            self.touching("jane", world.state("jane", "Expired")).await;
            assert_eq!(world.astro.live_invites(JANE), vec![], "not by itself");
            let request = "iam.astronomer.io/resend-requested-at";
            world.annotate("jane", request, "monday").await;
        }
        let sent = self.invited_anew("jane", jane);
        let jane = self.touching("jane", sent).await;
        self.assert_owned().await;
        jane
    }

    async fn accepted(&self, jane: &str) {
        let world = &self.world;
        world.astro.accept(jane).unwrap();
        let accepted = world.astro.mark();
        let object = if self.blind && self.old_body {
            self.asked_for(JANE, accepted).await;
            world.state("jane", "Invited").await
        } else {
            world.state("jane", self.expected.accepted.0).await
        };
        let expected = if self.blind { "Unknown" } else { "True" };
        assert_eq!(condition(&object, "Accepted").unwrap().status, expected);
    }

    /// Long after everything would have expired, all that is left is deleted.
    async fn long_after(self) -> Outcome {
        let world = &self.world;
        self.pass_time(EXPIRED * 2).await;
        let ends = [
            ("jane", self.expected.accepted.0),
            ("dora", self.expected.declined.0),
            ("max", self.expected.member.0),
        ];
        for (name, reason) in ends {
            self.touching(name, world.state(name, reason)).await;
        }
        // Whatever would be sent by itself now had time.
        self.whole_pass().await;
        self.assert_owned().await;
        let mut uids = Vec::new();
        for (name, reason) in ends {
            uids.push((name, uid(&world.state(name, reason).await)));
            world.delete(name).await;
        }
        for (name, uid) in uids {
            world.deleted(name, &uid).await;
        }
        for email in [JANE, MAX] {
            assert!(world.astro.is_member(email), "{email} is no member");
        }
        if self.script == Script::RowsShift && !self.blind {
            assert!(!world.astro.is_member("p0@example.com"), "no row moved");
        }
        let role = world.astro.user(JANE).unwrap().role;
        assert_eq!(role, "ORGANIZATION_BILLING_ADMIN", "Jane's role");
        for email in [JANE, DORA, PAUL, MAX] {
            assert_eq!(world.astro.live_invites(email), vec![]);
        }
        self.assert_owned().await;
        assert_eq!(world.astro.count(Operation::RemoveMember), 0);
        assert_eq!(world.astro.count(Operation::ChangeRole), 0);
        let emails = |email| world.astro.emails_to(email);
        Outcome {
            accepted: (self.expected.accepted.0, emails(JANE)),
            declined: (self.expected.declined.0, emails(DORA)),
            taken_back: emails(PAUL),
            adopted: (self.expected.adopted.0, emails(ANNA)),
            member: (self.expected.member.0, emails(MAX)),
            posts: world.astro.count(Operation::CreateInvite),
            deletes: world.astro.count(Operation::DeleteInvite),
        }
    }
}

async fn uid_of(world: &World, name: &str) -> String {
    uid(&world.invites().get(name).await.unwrap())
}

/// One cell: what came out, or why it did not come to that.
async fn cell(row: usize, blind: bool) -> Result<Outcome, String> {
    let life = tokio::spawn(async move {
        let row = &rows()[row];
        let mut behaviour = Behaviour::default();
        (row.behaviour)(&mut behaviour);
        let life = Life::prepare(row, blind).await;
        Box::pin(life.live(&behaviour)).await
    });
    life.await.map_err(|error| {
        let panic = error.into_panic();
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_to_every_question_ends_right() {
    let rows = rows();
    // For looking into single rows: CELL=0,6.
    let only = std::env::var("CELL").ok();
    let cells = (0..rows.len()).flat_map(|row| [(row, false), (row, true)]);
    let cells = cells.filter(|(row, _)| {
        only.as_ref()
            .is_none_or(|only| only.split(',').any(|one| one == row.to_string()))
    });
    let mut outcomes: Vec<_> = futures::stream::iter(cells)
        .map(|(row, blind)| async move { (row, blind, cell(row, blind).await) })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    outcomes.sort_by_key(|(row, blind, _)| (*row, *blind));
    let mut wrong = String::new();
    for (row, blind, outcome) in &outcomes {
        let row = &rows[*row];
        let expected = if *blind { row.blind } else { row.seeing };
        let column = if *blind {
            "in fallback"
        } else {
            "with the directory"
        };
        let place = format!("{}: {}, {column}", row.question, row.answer);
        match outcome {
            Ok(outcome) if *outcome == expected => {}
            Ok(outcome) => writeln!(wrong, "{place}: {outcome:?}, not {expected:?}").unwrap(),
            Err(why) => writeln!(wrong, "{place}: {why}").unwrap(),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    if only.is_some() {
        return;
    }
    let text = document(&rows, &outcomes);
    println!("{text}");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    std::fs::write(target.join("matrix.md"), &text).unwrap();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/matrix.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&kept, &text).unwrap();
    }
    let same = std::fs::read_to_string(&kept).is_ok_and(|kept| kept == text);
    assert!(same, "docs/matrix.md is stale: run this test with UPDATE=1");
}

/// The matrix, as the documentation has it.
fn document(rows: &[Row], outcomes: &[(usize, bool, Result<Outcome, String>)]) -> String {
    let mut text = String::from(HEAD);
    let mut first: Vec<Vec<String>> = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        write!(text, "| {} | {} ", row.question, row.answer).unwrap();
        for (_, blind, outcome) in outcomes.iter().filter(|(row, _, _)| *row == number) {
            let Ok(outcome) = outcome else { continue };
            let mut entries = entries(outcome);
            if number == 0 {
                first.push(entries.clone());
            }
            for (entry, usual) in entries.iter_mut().zip(&first[usize::from(*blind)]) {
                if entry != usual {
                    *entry = format!("**{entry}**");
                }
            }
            write!(text, "| {} ", entries.join(" · ")).unwrap();
        }
        text.push_str("|\n");
    }
    text.push_str("\nWhat is in bold differs from the first row:\n\n");
    for row in rows.iter().filter(|row| !row.why.is_empty()) {
        writeln!(text, "- *{}*, {}: {}", row.question, row.answer, row.why).unwrap();
    }
    text
}

fn entries(outcome: &Outcome) -> Vec<String> {
    let end = |(reason, emails): End| format!("{reason} {emails}");
    vec![
        end(outcome.accepted),
        end(outcome.declined),
        end(("gone", outcome.taken_back)),
        end(outcome.adopted),
        end(outcome.member),
        format!("{}/{}", outcome.posts, outcome.deletes),
    ]
}

const HEAD: &str = "\
# Right under every unknown

What the Astro API does in some situations is documented nowhere. Each row below is one answer that it may give, while
the others stay at their first. Under each of them five people live through the same on a real Kubernetes API
server and a fake of Astro that counts: once with a token that may list users, once in fallback, with one that may
not. The table is written by the test that does it (`tests/cluster/matrix.rs`), which fails when anything
in it changes.

A cell tells, in this order, the reason of the condition Ready before the object is deleted, and how many e-mails the
operator had Astro send:

1. *Jane* is invited; her role is edited, so that the invitation is replaced; that one expires and another one is
   sent, by itself or, in fallback, when somebody asks for it; she accepts, and is still a member when the object is
   deleted much later. Three e-mails are right.
2. *Dora* is invited and declines. Nobody writes to her again, also not when the invitation would have expired.
3. *Paul* is invited, and the object is deleted: the invitation is gone before the object is.
4. *Anna* was invited on the web page before there was an object for her.
5. *Max* was a member before there was an object for him.
6. How many calls there were that could change something: POST/DELETE.

In each cell also holds: whenever it is checked, each invitation that the operator sent and that can be accepted
has an object that records it; no member is removed or changed; no call breaks the documented contract; no token,
ticket or link is in the log.

| question | answer | with the directory | in fallback |
|---|---|---|---|
";
