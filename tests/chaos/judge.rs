//! The verdict: what everybody did, against the e-mails that went out and what there is in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use orginvite_operator::plan;
use orginvite_operator::resources::{Address, OrgInvite};
use parking_lot::Mutex;
use support::fake_astro::{Call, InviteState, Mail, Operation, SECRET_PREFIX, UserStatus};

use crate::faults::{TOO_LONG, TURN};
use crate::people::{Account, Person};
use crate::stage::{REQUEST_DEADLINE, ROLES, SETTLE, SPACING, Stage, Window};

/// Astro's clock is known to a second, and an e-mail's moment to the time of a call.
const CLOCK: Duration = Duration::from_millis(1500);

pub struct Judge<'a> {
    stage: &'a Stage,
    people: &'a [Arc<Person>],
    /// Who was excused from what, since the last look at what there is.
    excused: Mutex<BTreeMap<&'static str, BTreeSet<String>>>,
}

/// An e-mail to one address.
struct Sent {
    mail: Mail,
    /// When it was asked for.
    at: Instant,
    /// Whether nobody could look then, or a list might not show what there was.
    unlooked: bool,
}

impl<'a> Judge<'a> {
    pub fn new(stage: &'a Stage, people: &'a [Arc<Person>]) -> Self {
        Self {
            stage,
            people,
            excused: Mutex::default(),
        }
    }

    /// Tells `is`, and remembers whom it excuses.
    fn excuse(&self, person: &Person, from: &'static str, is: bool) -> bool {
        if is {
            let mut excused = self.excused.lock();
            excused
                .entry(from)
                .or_default()
                .insert(person.email.clone());
        }
        is
    }

    /// How many people were excused from what.
    pub fn excused(&self) -> String {
        let excused = self.excused.lock();
        let counts = excused
            .iter()
            .map(|(from, people)| format!("{} from {from}", people.len()));
        counts.collect::<Vec<_>>().join(", ")
    }

    // --- what happened

    /// E-mails without a cause, beside another invitation, to members, and too close to each other.
    pub fn emails(&self) -> Vec<String> {
        let (mut by_address, calls) = self.sent();
        let mut wrong = self.during_suspension(&calls);
        for person in self.people {
            let account = person.account();
            let mails = by_address.remove(&person.email).unwrap_or_default();
            let mut problem = |what: String| {
                wrong.push(format!(
                    "{}: {what}; {:?}",
                    person.email,
                    self.story(person)
                ));
            };
            for what in self.without_cause(person, &mails, &calls) {
                problem(what);
            }
            for (n, Sent { mail, at, unlooked }) in mails.iter().enumerate() {
                let (at, unlooked) = (*at, *unlooked);
                let forced = account
                    .forced
                    .iter()
                    .any(|forced| *forced <= at && at.duration_since(*forced) < SETTLE);
                if mail.besides > 0
                    && !self.excuse(person, "an e-mail beside another, unlooked", unlooked)
                    // Its sender's object may have been removed by force while it was on its way.
                    && !self.excuse(person, "an e-mail beside another, by force", forced)
                {
                    problem(format!(
                        "e-mail {} while there was another invitation",
                        n + 1
                    ));
                }
                if mail.to_member
                    && !self.excuse(person, "an e-mail to a member, unlooked", unlooked)
                {
                    problem(format!("e-mail {} to a member", n + 1));
                }
                if self.is_forbidden(&account, mail, at) {
                    problem(format!("e-mail {} which the policy forbids", n + 1));
                }
            }
            for pair in mails.windows(2) {
                let owners = pair
                    .iter()
                    .map(|sent| self.stage.witness.first_owner(&sent.mail.invite_id));
                let owners: Vec<Option<String>> = owners.collect();
                let (from, to) = (pair[0].at, pair[1].at);
                let jumped = self
                    .stage
                    .jumps
                    .lock()
                    .iter()
                    .any(|jump| (from..to).contains(jump));
                if owners[0].is_some()
                    && owners[0] == owners[1]
                    && !jumped
                    && to - from + CLOCK < SPACING
                {
                    problem(format!("two e-mails within {:?}", to - from));
                }
            }
        }
        wrong.extend(
            by_address
                .keys()
                .map(|address| format!("{address}: nobody wanted that")),
        );
        wrong
    }

    /// The e-mails by address, in the order of their effect, and all calls.
    fn sent(&self) -> (BTreeMap<String, Vec<Sent>>, Vec<Call>) {
        // In this order: each e-mail's call is among the calls.
        let mails = self.stage.astro.mails();
        let calls = self.stage.astro.calls();
        let mut by_address: BTreeMap<String, Vec<Sent>> = BTreeMap::new();
        for mail in mails {
            let at = calls[usize::try_from(mail.call).unwrap() - 1].at;
            let before = by_address.entry(mail.address.clone()).or_default();
            // One that was asked for later may have overtaken it.
            let overtaken = before
                .iter()
                .any(|one| one.unlooked && one.mail.call > mail.call);
            let unlooked = overtaken || self.is_unlooked(at);
            before.push(Sent { mail, at, unlooked });
        }
        (by_address, calls)
    }

    /// E-mails of which there were more than causes: since the beginning, and since each deletion of an object. What was
    /// owed for that one is owed no more.
    fn without_cause(&self, person: &Person, mails: &[Sent], calls: &[Call]) -> Vec<String> {
        let account = person.account();
        let mut wrong = Vec::new();
        for (n, Sent { mail, at, .. }) in mails.iter().enumerate() {
            let repeated = self.made_unseen(person, mail, calls);
            // Whoever was to take over and could not has one e-mail of its own.
            let untaken = mails[..n]
                .iter()
                .filter(|before| {
                    self.slipped(&account, before, calls)
                        || self.had_barred_heir(&account, &before.mail, calls)
                })
                .count()
                .min(account.replaced.len());
            let ended = account.ended.iter().filter(|end| **end + SETTLE < *at);
            for since in iter::once(None).chain(ended.map(Some)) {
                let causes = account
                    .causes
                    .iter()
                    .filter(|(cause, _)| cause <= at && since.is_none_or(|end| cause > end))
                    .count();
                let count = mails[..=n]
                    .iter()
                    .filter(|one| since.is_none_or(|end| one.at > *end + SETTLE))
                    .count();
                let late = "a cause, since lists lagged";
                let barred = "a cause, since nothing could be taken over";
                if count > causes
                    && !self.excuse(person, late, count <= causes + repeated)
                    && !self.excuse(person, barred, count <= causes + repeated + untaken)
                {
                    let when = since.map_or("", |_| " since an object was deleted");
                    wrong.push(format!(
                        "e-mail {} where there were {causes} causes{when}",
                        n + 1
                    ));
                }
            }
        }
        wrong
    }

    /// Calls that changed Astro while the Organization was suspended.
    fn during_suspension(&self, calls: &[Call]) -> Vec<String> {
        let suspensions = self.stage.suspensions.lock();
        let calls = calls.iter();
        calls
            .filter(|call| call.operation.changes_something() && during(&suspensions, call.at))
            .filter(|call| !self.is_resumed(call.at))
            .map(|call| format!("{:?} of {:?} while suspended", call.operation, call.email))
            .collect()
    }

    /// Whether the only namespace that ever had an object for the address might not give the role of the e-mail.
    fn is_forbidden(&self, account: &Account, mail: &Mail, sent: Instant) -> bool {
        let forbidden = self.stage.forbidden.lock();
        forbidden.iter().any(|policy| {
            account.teams.iter().eq([&policy.team])
                && mail.role == ROLES[policy.role]
                && during(policy.known.as_slice(), sent)
                && !self.is_resumed(sent)
        })
    }

    /// Whether a process went on just then that was stopped, perhaps between its last look and its call.
    fn is_resumed(&self, at: Instant) -> bool {
        let resumes = self.stage.resumes.lock();
        resumes
            .iter()
            .any(|resume| (*resume..*resume + TURN).contains(&at))
    }

    /// Whether the invitation of the e-mail was taken back while another object was there to take it over, whose namespace
    /// might not do so: that one has an e-mail of its own once it may.
    fn had_barred_heir(&self, account: &Account, mail: &Mail, calls: &[Call]) -> bool {
        let forbidden = self.stage.forbidden.lock();
        let barred: Vec<Window> = forbidden
            .iter()
            .filter(|policy| account.teams.contains(&policy.team))
            .map(|policy| policy.at_all)
            .collect();
        deletes(calls, &mail.invite_id).any(|call| {
            during(&barred, call.at) && account.replaced.iter().any(|at| *at <= call.at + CLOCK)
        })
    }

    /// Kubernetes may remove an object though a finalizer was set while its deletion was under way. What was sent for
    /// it and recorded nowhere is taken back, and whoever was to take over has an e-mail of its own.
    fn slipped(&self, account: &Account, sent: &Sent, calls: &[Call]) -> bool {
        let invite = &sent.mail.invite_id;
        if self.stage.witness.first_owner(invite).is_some() {
            return false;
        }
        let Some(revoked) = deletes(calls, invite).next() else {
            return false;
        };
        let mut replaced = account.replaced.iter();
        replaced.any(|at| sent.at <= *at + SETTLE && *at <= revoked.at + CLOCK)
    }

    /// Whether a list that lagged by more than the operator reckons with may not have shown what was done then.
    fn is_hidden(&self, at: Instant) -> bool {
        let lags = self.stage.lags.lock();
        lags.iter()
            .any(|(from, to)| at + TOO_LONG >= *from && at <= *to)
    }

    /// How many calls on the address were made before the e-mail that a list may have hidden: each may be made again.
    fn made_unseen(&self, person: &Person, mail: &Mail, calls: &[Call]) -> usize {
        calls
            .iter()
            .filter(|call| call.sequence < mail.call)
            .filter(|call| call.email.as_deref() == Some(&person.email))
            .filter(|call| {
                matches!(
                    call.operation,
                    Operation::CreateInvite | Operation::DeleteInvite
                )
            })
            .filter(|call| self.is_hidden(call.at))
            .count()
    }

    /// Whether what was sent then went out without a look at whether there was an invitation or a member, or by what a
    /// late list showed. Whatever was on its way is there within the settle time.
    fn is_unlooked(&self, at: Instant) -> bool {
        let (blindness, lags) = (self.stage.blindness.lock(), self.stage.lags.lock());
        let mut windows = blindness.iter().chain(lags.iter());
        windows.any(|(from, to)| (*from..*to + SETTLE).contains(&at))
    }

    /// Whether the person's invitation expired, earlier than it had said, before nobody could look or meanwhile. Without a
    /// look that is an invitation that was withdrawn.
    fn expired_unlooked(&self, person: &Person, sent: Instant) -> bool {
        let blindness = self.stage.blindness.lock();
        let answers = person.account().answers;
        let mut expiries = answers
            .iter()
            .filter(|(at, what)| *what == "it expires" && *at >= sent);
        expiries.any(|(at, _)| blindness.iter().any(|(_, to)| at < to))
    }

    // --- what there is

    /// What is not as it has to be once everything is quiet.
    pub async fn present(&self) -> kube::Result<Vec<String>> {
        self.excused.lock().clear();
        let all: Api<OrgInvite> = Api::all(self.stage.client.clone());
        let mut objects: BTreeMap<String, Vec<OrgInvite>> = BTreeMap::new();
        for object in all.list(&ListParams::default()).await? {
            let address = Address::parse(&object.spec.email)
                .unwrap()
                .as_str()
                .to_owned();
            objects.entry(address).or_default().push(object);
        }
        let (sent, calls) = self.sent();
        let mut wrong = Vec::new();
        for person in self.people {
            let sent = sent.get(&person.email).map_or(&[][..], Vec::as_slice);
            let theirs = objects.remove(&person.email).unwrap_or_default();
            let expected = person.object().await;
            for object in &theirs {
                let here = expected.as_ref().is_some_and(|(team, name)| {
                    object.namespace().as_deref() == Some(team) && object.name_any() == *name
                });
                let problem = if here {
                    self.lie(person, object, sent, &calls)
                } else {
                    Some("was deleted and is there".to_owned())
                };
                if let Some(problem) = problem {
                    let status = serde_json::to_string(&object.status).unwrap();
                    wrong.push(format!("{}: {problem}: {status}", object.name_any()));
                }
            }
            if let Some((_, name)) = &expected
                && !theirs.iter().any(|object| object.name_any() == *name)
            {
                wrong.push(format!("{name} is missing"));
            }
            wrong.extend(self.without_owner(person, &theirs, sent));
        }
        wrong.extend(
            objects
                .keys()
                .map(|address| format!("{address}: an object of nobody")),
        );
        let organization = self.stage.organization().await;
        if Stage::is_suspicious(&organization) {
            wrong.push("the Organization does not believe what it reads".to_owned());
        }
        let conditions = organization
            .status
            .map(|status| status.conditions)
            .unwrap_or_default();
        if !conditions
            .iter()
            .any(|one| one.type_ == "Ready" && one.status == "True")
        {
            wrong.push(format!("the Organization is not ready: {conditions:?}"));
        }
        Ok(wrong)
    }

    /// Invitations that can be accepted and that no object records. One may stay behind when its object was deleted
    /// with the policy Retain, or lost its finalizer before what was sent for it was recorded and taken back; or when
    /// another one went out beside it without a look, or itself to a member.
    fn without_owner(&self, person: &Person, objects: &[OrgInvite], sent: &[Sent]) -> Vec<String> {
        let account = person.account();
        let may_stay = |invite: &str| {
            let Some(n) = sent.iter().position(|sent| sent.mail.invite_id == invite) else {
                return false;
            };
            let at = sent[n].at;
            let let_go = account
                .let_go
                .iter()
                .any(|let_go| at <= *let_go + REQUEST_DEADLINE);
            let beside = sent[n..]
                .iter()
                .any(|one| one.unlooked && (one.mail.besides > 0 || one.mail.to_member));
            self.excuse(person, "an owner, since it was let go", let_go)
                || self.excuse(person, "an owner, unlooked", beside)
                || self.excuse(person, "an owner, since lists lagged", self.is_hidden(at))
        };
        let live = self.stage.astro.live_invites(&person.email);
        live.iter()
            .filter(|invite| {
                !objects
                    .iter()
                    .any(|object| recorded(object) == Some(&invite.id))
            })
            .filter(|invite| !may_stay(&invite.id))
            .map(|invite| {
                format!(
                    "{} has {} and no object does; {:?}",
                    person.email,
                    invite.id,
                    self.story(person)
                )
            })
            .collect()
    }

    /// What is wrong with what an object says.
    fn lie(
        &self,
        person: &Person,
        object: &OrgInvite,
        sent: &[Sent],
        calls: &[Call],
    ) -> Option<String> {
        let astro = &self.stage.astro;
        let status = object.status.as_ref()?;
        let condition = |kind: &str| status.conditions.iter().find(|one| one.type_ == kind);
        let Some(ready) = condition("Ready") else {
            return Some("says nothing".to_owned());
        };
        let wrong = |truth: &str| {
            Some(format!(
                "says {} {}, where {truth}",
                ready.status, ready.reason
            ))
        };
        if Some(status.observed_generation) != object.metadata.generation {
            return wrong("the spec is newer");
        }
        if condition("Reconciling").is_some() {
            return wrong("nothing comes any more");
        }
        let member = astro
            .user(&person.email)
            .filter(|user| user.status == UserStatus::Active);
        let wanted = plan::name(object.spec.role);
        if let Some(member) = member {
            let expected: &[&str] = if wanted == member.role {
                &["Accepted", "AlreadyMember"]
            } else {
                &["RoleDiffers"]
            };
            let known = status.user_id.as_deref() == Some(&member.id);
            return if expected.contains(&ready.reason.as_str()) && ready.status == "True" && known {
                None
            } else {
                wrong(&format!("the person is a member as {}", member.role))
            };
        }
        let id = recorded(object);
        let live = astro.live_invites(&person.email);
        if !live.is_empty() {
            let Some(invite) = live.iter().find(|invite| Some(invite.id.as_str()) == id) else {
                return wrong("the person has another invitation");
            };
            let expires_at = status.expires_at.as_ref().map(|time| time.0.as_second());
            let same = wanted == invite.role && expires_at == Some(invite.expires_at.as_second());
            return if same && ready.reason == "Invited" && ready.status == "True" {
                None
            } else {
                wrong(&format!("{invite:?} is pending"))
            };
        }
        let Some(invite) = id.and_then(|id| astro.invite(id)) else {
            return wrong("nobody is invited");
        };
        let uid = object.uid();
        let taken_over = self.stage.witness.first_owner(&invite.id) != uid;
        let withdrawn = ready.reason == "InvitationWithdrawn";
        let sent = sent.iter().find(|sent| sent.mail.invite_id == invite.id);
        let expired = sent.is_some_and(|sent| self.expired_unlooked(person, sent.at));
        let mut deletes = deletes(calls, &invite.id);
        let expected: &[&str] = match invite.state {
            InviteState::Rejected => &["InvitationWithdrawn"],
            // An heir may have taken over what a member who was removed meanwhile had accepted.
            InviteState::Accepted if taken_over => &["InvitationWithdrawn", "MemberRemoved"],
            // An heir may have taken over what was deleted meanwhile.
            InviteState::Deleted if taken_over => &["InvitationWithdrawn"],
            // A late list may have shown what was gone.
            InviteState::Deleted if deletes.any(|call| self.is_hidden(call.at)) => {
                self.excuse(person, "a withdrawal, since lists lagged", withdrawn);
                &["InvitationWithdrawn"]
            }
            InviteState::Pending
                if self.excuse(person, "an expiry, unlooked", expired && withdrawn) =>
            {
                &["InvitationWithdrawn"]
            }
            InviteState::Pending if status.resends >= object.spec.max_resends => {
                &["ResendLimitReached"]
            }
            _ => &[],
        };
        if expected.contains(&ready.reason.as_str()) {
            None
        } else {
            wrong(&format!("{invite:?} ended; {:?}", self.story(person)))
        }
    }

    /// Whether objects wait for the platform team, since Astro refused something.
    pub async fn refused(&self) -> kube::Result<usize> {
        let all: Api<OrgInvite> = Api::all(self.stage.client.clone());
        let objects = all.list(&ListParams::default()).await?;
        let refused = |object: &OrgInvite| {
            let conditions = object
                .status
                .as_ref()
                .map(|status| status.conditions.as_slice());
            conditions.unwrap_or_default().iter().any(|one| {
                one.type_ == "Stalled"
                    && matches!(one.reason.as_str(), "Refused" | "TokenNotAllowed")
            })
        };
        Ok(objects.iter().filter(|object| refused(object)).count())
    }

    // --- what must never be told

    /// Panics, and secrets or addresses where they do not belong.
    pub async fn told(&self) -> kube::Result<Vec<String>> {
        let mut wrong = Vec::new();
        let mut look = |place: &str, text: &str, addresses: bool| {
            wrong.extend(tells(place, text, addresses));
        };
        for (pod, log) in self.stage.logs() {
            look(&format!("the log of {pod}"), &log, true);
        }
        for metrics in self.stage.metrics.lock().iter() {
            look("the metrics", metrics, true);
        }
        let client = &self.stage.client;
        let everything = ListParams::default();
        let objects = serde_json::json!([
            Api::<OrgInvite>::all(client.clone())
                .list(&everything)
                .await?
                .items,
            self.stage.organizations().list(&everything).await?.items,
            Api::<Lease>::all(client.clone())
                .list(&everything)
                .await?
                .items,
            Api::<Event>::all(client.clone())
                .list(&everything)
                .await?
                .items,
        ]);
        for object in self.stage.witness.told() {
            look("an object as it was", &object, false);
        }
        look(
            "an object",
            &serde_json::to_string_pretty(&objects).unwrap(),
            false,
        );
        wrong.truncate(20);
        Ok(wrong)
    }

    // --- for who reads the verdict

    /// What happened to a person, with the seconds since the first thing that did.
    fn story(&self, person: &Person) -> Vec<String> {
        let account = person.account();
        let mut story: Vec<(Instant, String)> = account
            .causes
            .iter()
            .map(|(at, what)| (*at, format!("cause: {what}")))
            .collect();
        story.extend(account.let_go.iter().map(|at| (*at, "let go".to_owned())));
        story.extend(
            account
                .answers
                .iter()
                .map(|(at, what)| (*at, (*what).to_owned())),
        );
        for call in self.stage.astro.calls() {
            if call.email.as_deref() == Some(&person.email) && call.operation.changes_something() {
                story.push((
                    call.at,
                    format!(
                        "{:?} {:?} {:?}",
                        call.operation, call.invite_id, call.outcome
                    ),
                ));
            }
        }
        story.sort();
        let begun = story.first().map(|(at, _)| *at);
        story
            .into_iter()
            .map(|(at, what)| format!("{:.2} s {what}", (at - begun.unwrap()).as_secs_f64()))
            .collect()
    }
}

/// Secrets and panics in a text, and addresses where none belongs.
pub fn tells(place: &str, text: &str, addresses: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for line in text.lines() {
        let mut problem = |what: &str| wrong.push(format!("{what} in {place}: {line}"));
        if line.contains(SECRET_PREFIX) {
            problem("a secret");
        }
        if addresses && line.to_lowercase().contains("people.example") {
            problem("an address");
        }
        if line.contains("panicked at") {
            problem("a panic");
        }
    }
    wrong
}

fn during(windows: &[Window], at: Instant) -> bool {
    windows.iter().any(|(from, to)| (*from..*to).contains(&at))
}

/// The calls that were to delete the invite.
fn deletes<'a>(calls: &'a [Call], invite: &str) -> impl Iterator<Item = &'a Call> {
    calls.iter().filter(move |call| {
        call.operation == Operation::DeleteInvite && call.invite_id.as_deref() == Some(invite)
    })
}

fn recorded(object: &OrgInvite) -> Option<&str> {
    object.status.as_ref()?.invite_id.as_deref()
}
