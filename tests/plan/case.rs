//! The facts that a plan is made from, each test's own in one word and all others as they are most of the time.

use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orginvite_operator::astro::Role;
use orginvite_operator::claims::{Heir, Standing};
use orginvite_operator::plan::{
    Doubt, Facts, Found, Lookup, Named, Observation, Own, Plan, Sight, plan,
};
use orginvite_operator::resources::org_invite::{Attempt, ResendWhen};
use orginvite_operator::resources::{OrgInvite, OrgInviteStatus};

pub const MEMBER: Role = Role::OrganizationMember;
pub const ADMIN: Role = Role::OrganizationBillingAdmin;
/// The role that the policy does not allow.
pub const OWNER: Role = Role::OrganizationOwner;
const SPACING: Duration = Duration::from_mins(10);
/// The only invite that another object records, if one does.
pub const SHARED: &str = "x1";

pub fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

/// All facts but the functions. The default is a new object for an address that is settled to be absent.
#[derive(Clone, Debug)]
pub struct Case {
    pub deleting: bool,
    pub retain: bool,
    pub closing: bool,
    pub role: Role,
    pub resend_when: ResendWhen,
    pub max_resends: u32,
    /// The value of the annotation that asks for an e-mail.
    pub asked: Option<&'static str>,
    pub open: Option<Attempt>,
    pub copied: bool,
    pub record: OrgInviteStatus,
    /// Whether the invites that are seen are the operator's own.
    pub own_invite: bool,
    /// Whether another object, in another namespace, holds the address.
    pub held: bool,
    /// Whether that one hands over.
    pub inherits: bool,
    /// Whether that one has deletionPolicy Retain.
    pub from_retain: bool,
    pub heir: Heir,
    /// Whether another object sends, though it is no heir.
    pub would_send: bool,
    /// Whether another object records [`SHARED`].
    pub shared: bool,
    pub sight: Sight,
    pub settled: bool,
    pub term_settled: bool,
    pub lookup: Lookup,
    pub named: Option<Named>,
    pub next_look: Option<Timestamp>,
    pub doubt: Option<Doubt>,
    pub own: Own,
    pub now: Timestamp,
    pub namespace: &'static str,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            deleting: false,
            retain: false,
            closing: false,
            role: MEMBER,
            resend_when: ResendWhen::Expired,
            max_resends: 3,
            asked: None,
            open: None,
            copied: false,
            record: OrgInviteStatus::default(),
            own_invite: true,
            held: false,
            inherits: false,
            from_retain: false,
            heir: Heir::None,
            would_send: false,
            shared: false,
            sight: Sight::Absent,
            settled: true,
            term_settled: true,
            lookup: Lookup::NotAsked,
            named: None,
            next_look: Some(now() + 5.minutes()),
            doubt: None,
            own: Own::default(),
            now: now(),
            namespace: "here",
        }
    }
}

impl Case {
    pub fn plan(&self) -> Plan {
        let other: OrgInvite = serde_json::from_value(serde_json::json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "OrgInvite",
            "metadata": {"name": "other-elsewhere", "namespace": "elsewhere"},
            "spec": {
                "email": "jane@example.com", "role": "ORGANIZATION_MEMBER",
                "deletionPolicy": if self.from_retain { "Retain" } else { "Delete" },
            },
        }))
        .unwrap();
        let standing = Standing {
            held_by: self.held.then_some(&other),
            heir: self.heir,
            would_send: self.would_send || self.heir == Heir::Waiting,
            inherits: self.inherits.then_some(&other),
            shared: if self.shared {
                vec![SHARED]
            } else {
                Vec::new()
            },
        };
        let observed = Observation {
            sight: self.sight.clone(),
            settled: self.settled,
            term_settled: self.term_settled,
            lookup: self.lookup.clone(),
            named: self.named.clone(),
            next_look: self.next_look,
            doubt: self.doubt,
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
            observed: &observed,
            own: &self.own,
            now: self.now,
            namespace: self.namespace,
        })
    }

    /// The annotation's value, when it was not seen to yet.
    pub fn request(&self) -> Option<&'static str> {
        self.asked
            .filter(|&asked| self.record.last_resend_request.as_deref() != Some(asked))
    }
}

pub fn found(id: &str, role: Option<Role>) -> Found {
    Found {
        id: id.to_owned(),
        role,
        expires_at: Some(now() + 24.hours()),
        inviter: None,
    }
}

pub fn pending(id: &str) -> Sight {
    Sight::Pending(vec![found(id, Some(MEMBER))])
}

pub fn member(role: Role) -> Sight {
    Sight::Member {
        user_id: "u".to_owned(),
        role: Some(role),
    }
}

/// The status of an object that invited with invite x1.
pub fn recorded() -> OrgInviteStatus {
    OrgInviteStatus {
        invite_id: Some("x1".to_owned()),
        attempt_id: Some("a1".to_owned()),
        role: Some(MEMBER),
        expires_at: Some(Time(now() + 24.hours())),
        ..OrgInviteStatus::default()
    }
}

#[allow(clippy::unnecessary_wraps, reason = "as the record has it")]
pub fn attempt(replaces: Option<&str>) -> Option<Attempt> {
    Some(Attempt {
        id: "a2".to_owned(),
        uid: None,
        after: None,
        email: "jane@example.com".to_owned(),
        role: MEMBER,
        replaces: replaces.map(str::to_owned),
        resends: 0,
        request: None,
        named: None,
        told: None,
    })
}

/// A record of an invitation whose time is over.
pub fn expired() -> OrgInviteStatus {
    OrgInviteStatus {
        expires_at: Some(Time(now() - 1.hours())),
        ..recorded()
    }
}
