//! What must hold at every moment: which e-mails and revokes there is a cause for, and who may be let go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::SignedDuration;
use kube::ResourceExt;
use orginvite_operator::astro::Role;
use orginvite_operator::claims;
use orginvite_operator::plan::name;
use orginvite_operator::resources::org_invite::{Attempt, DeletionPolicy, ResendWhen};
use orginvite_operator::resources::{Address, OrgInvite};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::SPACING;
use crate::api_server::{Key, Refusal, Write, is_deleting};
use crate::network::Call;
use crate::organization::{Invitation, Standing};
use crate::process::ALLOWED;
use crate::users::request;
use crate::world::State;

/// How long an edit may take to get around: a term's validity, a permit, and the lag of a watch.
const NEWS: Duration = Duration::from_secs(40);

/// What is owed to one address.
#[derive(Default)]
pub struct Account {
    /// E-mails so far.
    pub emails: u32,
    /// E-mails that a person caused: the first one, edits, requests.
    pub given: u32,
    /// Invitations that ended so that another one may be sent by itself.
    pub automatic: u32,
    /// How many of them at most: maxResends of each object, once more with each request.
    pub limit: u32,
    /// Whether an object was let go with its invitation, on purpose.
    pub retained: bool,
}

impl Account {
    fn allowed(&self) -> u32 {
        self.given + self.automatic.min(self.limit)
    }
}

/// What is remembered to judge by.
#[derive(Default)]
pub struct Ledger {
    accounts: BTreeMap<String, Account>,
    /// The object that each invitation was sent for, by UID.
    senders: BTreeMap<String, String>,
    /// The invitations that some object's status had.
    seen: BTreeSet<String>,
    /// When the policy of an object was changed to Retain, by UID.
    retained: BTreeMap<String, Instant>,
    /// Attempts whose object was removed by force.
    lost: BTreeSet<String>,
    /// The last e-mail for each object, by UID.
    last: BTreeMap<String, Email>,
}

/// One e-mail.
struct Email {
    invite: String,
    at: Instant,
    /// How far Astro's clock was ahead.
    offset: SignedDuration,
}

impl Ledger {
    pub fn account(&mut self, address: &str) -> &mut Account {
        self.accounts.entry(address.to_owned()).or_default()
    }

    /// The policy of an object was just changed to Retain.
    pub fn retains(&mut self, object: &OrgInvite) {
        self.retained.insert(object.uid().unwrap(), Instant::now());
    }

    /// An attempt is lost with its object.
    pub fn loses(&mut self, attempt: String) {
        self.lost.insert(attempt);
    }

    /// Whether that may not have got around yet.
    fn is_news(&self, object: &OrgInvite) -> bool {
        let since = object.uid().and_then(|uid| self.retained.get(&uid));
        since.is_some_and(|since| since.elapsed() < NEWS)
    }

    /// The UID of the object that an invitation was sent for.
    pub fn sent_for(&self, invite: &str) -> Option<&str> {
        self.senders.get(invite).map(String::as_str)
    }
}

/// The canonical address that an object is for.
pub fn address_of(object: &OrgInvite) -> String {
    Address::parse(&object.spec.email)
        .unwrap()
        .as_str()
        .to_owned()
}

/// The invite that the object's status has.
pub fn recorded(object: &OrgInvite) -> Option<&str> {
    object.status.as_ref()?.invite_id.as_deref()
}

/// The object's open attempt.
pub fn open(object: &OrgInvite) -> Option<Attempt> {
    if !claims::is_open(object) {
        return None;
    }
    claims::attempt(object)?.ok()
}

impl State {
    /// The UID of the object with that open attempt.
    fn attempting(&self, address: &str, id: &str) -> Option<String> {
        let mut objects = self.api.for_address(address);
        let found = objects.find(|object| open(object).is_some_and(|attempt| attempt.id == id));
        found.and_then(ResourceExt::uid)
    }

    /// A POST leaves the operator: it is for an open attempt. The attempt's ID.
    pub fn post_is_sent(&mut self, who: &str, email: &str, role: Role) -> String {
        self.log(format!("{who} sends POST for {email} as {}", name(role)));
        let address = email.to_lowercase();
        let objects = self.api.for_address(&address);
        // Maybe beside one whose patch came after its turn had given it up.
        let found = objects
            .filter_map(open)
            .find(|attempt| attempt.email == email && attempt.role == role);
        let Some(attempt) = found else {
            self.violate("a POST is sent without an open attempt with that address and role");
            return String::new();
        };
        attempt.id
    }

    /// A POST takes effect: its attempt is still open, and the person is no member.
    pub fn post_takes_effect(&mut self, address: &str, attempt: &str) {
        let lost = self.ledger.lost.contains(attempt);
        if !lost && self.attempting(address, attempt).is_none() {
            self.violate("a POST takes effect after its attempt was settled");
        }
        if self.astro.member(address).is_some() {
            self.violate("an e-mail to a member");
        }
    }

    /// An e-mail went out.
    pub fn email_went_out(&mut self, address: &str, attempt: &str) {
        self.count("e-mails");
        let account = self.ledger.account(address);
        account.emails += 1;
        let (emails, allowed) = (account.emails, account.allowed());
        if emails > allowed {
            self.violate(format!(
                "{emails} e-mails to {address}, where {allowed} were asked for"
            ));
        }
        let invite = self.astro.invitations.last().unwrap().id.clone();
        let Some(uid) = self.attempting(address, attempt) else {
            return;
        };
        self.ledger.senders.insert(invite.clone(), uid.clone());
        let email = Email {
            invite,
            at: Instant::now(),
            offset: self.astro.clock_offset,
        };
        let Some(last) = self.ledger.last.insert(uid.clone(), email) else {
            return;
        };
        // One that nothing ever showed is outside the promise.
        let seen = self.ledger.seen.contains(&last.invite);
        let age = last.at.elapsed() + Duration::from_secs(2);
        if seen && last.offset == self.astro.clock_offset && age < SPACING {
            self.violate(format!("the last e-mail to {address} is only {age:?} old"));
        }
    }

    /// A DELETE leaves the operator: somebody deletes or replaces that invitation, and the person may
    /// be touched.
    pub fn delete_is_sent(&mut self, who: &str, id: &str) {
        self.log(format!("{who} sends DELETE for {id}"));
        let Some(invitation) = self.astro.invitation(id).cloned() else {
            return;
        };
        if invitation.standing != Standing::Live {
            return;
        }
        let objects: Vec<&OrgInvite> = self.api.for_address(&invitation.address).collect();
        let replaces = |object: &OrgInvite| {
            open(object).is_some_and(|attempt| attempt.replaces.as_deref() == Some(id))
        };
        let takes_back = |object: &OrgInvite| {
            is_deleting(object)
                && recorded(object) == Some(id)
                && (object.spec.deletion_policy == DeletionPolicy::Delete
                    || self.ledger.is_news(object))
        };
        let sender = self.ledger.senders.get(id);
        let orphaned = !objects
            .iter()
            .any(|object| recorded(object) == Some(id) || object.uid().as_ref() == sender);
        let caused = orphaned
            || objects
                .iter()
                .any(|object| replaces(object) || takes_back(object));
        let shared = objects.iter().any(|object| {
            !is_deleting(object) && recorded(object) == Some(id) && !replaces(object)
        });
        if !caused {
            self.violate(format!("{id} is revoked and nobody asked for it"));
        }
        if shared {
            self.violate(format!("{id} is revoked while another object records it"));
        }
        if !ALLOWED.contains(&invitation.role) {
            self.violate(format!("{id} is revoked, which the policy does not allow"));
        }
    }

    /// An invitation is about to end otherwise than by the operator: what may be sent for it.
    pub fn invitation_ends(&mut self, id: &str, standing: Standing) {
        let address = self.astro.invitation(id).unwrap().address.clone();
        self.count(format!("{standing:?}"));
        let seen = self.ledger.seen.contains(id);
        let resent = self.api.for_address(&address).any(|object| match standing {
            Standing::Expired => object.spec.resend_when != ResendWhen::Never,
            Standing::Declined | Standing::Withdrawn => object.spec.resend_when == ResendWhen::Gone,
            _ => false,
        });
        let account = self.ledger.account(&address);
        if !seen {
            // Outside the promise: nothing ever showed it. Who accepted it may be removed as well.
            account.given += 1;
        } else if resent {
            account.automatic += 1;
        }
    }

    /// The expiry of an invitation that had ended before is over. Where the operator could not tell in
    /// time that it had ended, it counts as expired.
    pub fn ended_one_is_past(&mut self, invitation: &Invitation) {
        let unnoticed = self.api.for_address(&invitation.address).any(|object| {
            let status = object.status.clone().unwrap_or_default();
            status.invite_id.as_ref() == Some(&invitation.id)
                && status.expires_at.is_some()
                && status.user_id.is_none()
                && object.spec.resend_when == ResendWhen::Expired
        });
        let gone = match invitation.standing {
            Standing::Declined | Standing::Withdrawn => true,
            Standing::Accepted => self.astro.member(&invitation.address).is_none(),
            Standing::Live | Standing::Expired | Standing::Revoked => false,
        };
        if gone && unnoticed {
            self.count("endings unnoticed");
            self.ledger.account(&invitation.address).automatic += 1;
        }
    }

    /// The operator writes an object.
    pub fn operator_writes(
        &mut self,
        who: &str,
        call: Call,
        key: &Key,
        status: bool,
        write: Write,
    ) -> Result<Value, Refusal> {
        let written = match self.api.write(key, status, write) {
            Ok(written) => written,
            Err(refusal) => {
                self.log(format!("{who} {call:?} of {}: {}", key.1, refusal.0));
                self.count(format!("write {}", refusal.0));
                return Err(refusal);
            }
        };
        let (before, after) = (&written.before, &written.after);
        self.log(format!("{who} {call:?} of {}: {}", key.1, describe(after)));
        self.count(format!("{call:?}"));
        if call == Call::PatchAttempt
            && let Some(attempt) = open(after)
        {
            self.attempt_is_recorded(before, after, &attempt);
        }
        if let Some(invite) = recorded(after) {
            self.ledger.seen.insert(invite.to_owned());
        }
        if written.gone {
            self.object_is_gone(before);
        }
        Ok(json!(after))
    }

    fn attempt_is_recorded(&mut self, before: &OrgInvite, after: &OrgInvite, attempt: &Attempt) {
        let address = address_of(after);
        if attempt.replaces.is_some() {
            self.count("replacing attempts");
        }
        if is_deleting(after) {
            self.violate("an attempt for an object that is being deleted");
        }
        if !ALLOWED.contains(&attempt.role) {
            self.violate("an attempt with a role that the policy does not allow");
        }
        let another = self
            .api
            .for_address(&address)
            .any(|object| object.uid() != after.uid() && open(object).is_some());
        if another {
            // The patch of a turn that gave it up may come late: no POST follows it.
            self.count("attempts beside another");
        }
        let Some(replaced) = attempt.replaces.as_deref() else {
            return;
        };
        // Astro may not have been asked since.
        self.expire();
        let live = self
            .astro
            .invitation(replaced)
            .is_some_and(|one| one.standing == Standing::Live);
        let edited = before.status.as_ref().and_then(|status| status.role) != Some(attempt.role);
        let again = open(before).is_some_and(|old| old.replaces == attempt.replaces);
        if live && !edited && !again && request(before).is_none() {
            self.violate(format!("{replaced} is replaced and nobody asked for it"));
        }
    }

    /// An object is gone: what it stood for is over, or somebody else has it.
    pub fn object_is_gone(&mut self, object: &OrgInvite) {
        let address = address_of(object);
        if object.spec.deletion_policy == DeletionPolicy::Retain {
            self.ledger.account(&address).retained = true;
            return;
        }
        let uid = object.uid().unwrap();
        let forgotten: Vec<String> = self
            .astro
            .live(&address)
            .filter(|one| {
                recorded(object) == Some(&one.id) || self.ledger.senders.get(&one.id) == Some(&uid)
            })
            .filter(|one| {
                !self.api.for_address(&address).any(|other| {
                    recorded(other) == Some(&one.id)
                        || open(other).is_some_and(|open| open.replaces.as_ref() == Some(&one.id))
                })
            })
            .map(|one| one.id.clone())
            .collect();
        for id in forgotten {
            self.violate(format!(
                "{} is gone while {id} is pending",
                object.name_any()
            ));
        }
    }
}

fn describe(object: &OrgInvite) -> String {
    let status = object.status.clone().unwrap_or_default();
    let ready = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Ready");
    let says = ready.map_or("-", |condition| condition.reason.as_str());
    let attempt = open(object).map_or_else(String::new, |attempt| {
        format!(
            ", attempt {} open, replaces {:?}",
            attempt.id, attempt.replaces
        )
    });
    format!(
        "v{} invite {} {says}{attempt}{}",
        object.resource_version().unwrap_or_default(),
        status.invite_id.as_deref().unwrap_or("-"),
        if is_deleting(object) {
            ", deleting"
        } else {
            ""
        },
    )
}
