//! `OrgInvite`: one person, one invitation.
#![allow(
    clippy::duplicated_attributes,
    reason = "each printer column repeats the same keys"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::readable_or;
use crate::astro::{Role, SubjectKind};

/// Keeps an OrgInvite until its invitation is taken back, is another OrgInvite's, or can stay, and until
/// another OrgInvite for the address knows that the person is a member. Set together with the first
/// record, so that an object that never did anything goes at once.
pub const FINALIZER: &str = "iam.astronomer.io/invite";

/// The operator's own, never to be edited: the last e-mail, written down before it is sent, in JSON
/// (ID of the attempt, address, role, the invitation that it replaces, what it counts for). While
/// status.attemptId is another ID, it is not known whether the e-mail went out.
pub const ATTEMPT_ANNOTATION: &str = "iam.astronomer.io/attempt";

/// Set by a person: asks for one more e-mail, once for each value, whatever resendWhen and maxResends
/// say; the count of resends starts anew. Any text will do, such as the time; 256 bytes of it count.
pub const RESEND_ANNOTATION: &str = "iam.astronomer.io/resend-requested-at";

/// Set by a person where the reason is OutcomeUnknown: the ID of the invitation that the last e-mail
/// made. It is this object's own from then on, if Astro shows it with the same address and
/// organization.
pub const INVITE_ID_ANNOTATION: &str = "iam.astronomer.io/invite-id";

/// One address, in the syntax that mail systems accept: no display name, no list, no quoted local
/// part; domains may be internationalized. The operator's canonical form is in [`super::address`].
const EMAIL_SYNTAX: &str = r#"self.matches(r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@([\p{L}\p{N}]([\p{L}\p{N}\p{M}-]{0,61}[\p{L}\p{N}\p{M}])?\.)+[\p{L}\p{N}][\p{L}\p{N}\p{M}-]{0,61}[\p{L}\p{N}\p{M}]$") && !self.contains('..') && !self.startsWith('.') && !self.contains('.@')"#;

/// The invitation of one person to an Astro organization: applying it sends one invitation e-mail,
/// deleting it takes the invitation back, and its status tells how the invitation stands.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "iam.astronomer.io",
    version = "v1alpha1",
    kind = "OrgInvite",
    plural = "orginvites",
    shortname = "oi",
    category = "astro",
    namespaced,
    status = "OrgInviteStatus",
    doc = "The invitation of one person to an Astro organization: applying it sends one invitation e-mail, deleting it takes the invitation back, and its status tells how the invitation stands.",
    selectable = ".spec.email",
    selectable = ".spec.role",
    selectable = ".spec.organizationRef.name",
    printcolumn(name = "Email", type_ = "string", json_path = ".spec.email"),
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.role"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "State",
        type_ = "string",
        description = "The reason of the Ready condition.",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        description = "When the invitation expires.",
        json_path = ".status.expiresAt"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Invite-ID",
        type_ = "string",
        priority = 1,
        json_path = ".status.inviteId"
    ),
    printcolumn(
        name = "Organization",
        type_ = "string",
        priority = 1,
        json_path = ".spec.organizationRef.name"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        description = "What the state means and what to do.",
        json_path = ".status.conditions[?(@.type=='Ready')].message"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct OrgInviteSpec {
    /// E-mail address of the person to invite: one plain address such as jane@example.com, at most
    /// 254 characters. It cannot be changed: another address is another person and another object.
    #[schemars(length(max = 254))]
    #[x_kube(
        validation = Rule::new(EMAIL_SYNTAX).message("email must be one plain address such as jane@example.com, without display name, spaces or further addresses"),
        validation = Rule::new("self == oldSelf").message("email cannot be changed: another address is another person. Create another OrgInvite for it and delete this one")
    )]
    pub email: String,

    /// The organization role that the person gets. While the invitation is pending, changing the
    /// role replaces the invitation, which sends one more e-mail.
    #[serde(deserialize_with = "known_role")]
    pub role: Role,

    /// The Organization to invite to. It cannot be changed.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("organizationRef cannot be changed: create another OrgInvite for the other organization and delete this one, with deletionPolicy Retain where the invitation shall stay"))]
    pub organization_ref: OrganizationRef,

    /// What deleting this object does with the invitation: Delete takes it back, Retain leaves it
    /// alone, which is also the way out when Astro cannot be reached.
    #[serde(default, deserialize_with = "known_policy")]
    pub deletion_policy: DeletionPolicy,

    /// When a new invitation is sent by itself: Expired, after the old one expired; Gone, also when it
    /// disappeared earlier, which means that the person declined it or that somebody revoked it;
    /// Never.
    #[serde(default, deserialize_with = "known_moment")]
    pub resend_when: ResendWhen,

    /// How many invitations are sent by themselves after the first one, between 0 and 100. The
    /// annotation iam.astronomer.io/resend-requested-at starts the count anew.
    #[serde(default = "default_max_resends", deserialize_with = "known_number")]
    #[schemars(range(min = 0, max = 100))]
    pub max_resends: u32,
}

/// What deleting an object does with its invitation.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// Takes it back.
    #[default]
    Delete,
    /// Leaves it alone.
    Retain,
    // One that an object names and this version does not know.
    #[serde(skip)]
    #[schemars(skip)]
    #[allow(missing_docs, reason = "it would show in the schema")]
    Unknown,
}

/// When a new invitation is sent by itself.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResendWhen {
    /// After the old one expired.
    #[default]
    Expired,
    /// Also when it disappeared before it expired.
    Gone,
    /// Never.
    Never,
    // As above.
    #[serde(skip)]
    #[schemars(skip)]
    #[allow(missing_docs, reason = "it would show in the schema")]
    Unknown,
}

impl OrgInviteSpec {
    /// The field whose value only a later version knows: nobody can tell what is meant, as after a rollback.
    #[must_use]
    pub fn not_understood(&self) -> Option<&'static str> {
        if self.role == Role::Unknown {
            Some("role")
        } else if self.deletion_policy == DeletionPolicy::Unknown {
            Some("deletionPolicy")
        } else {
            (self.resend_when == ResendWhen::Unknown).then_some("resendWhen")
        }
    }
}

const fn default_max_resends() -> u32 {
    3
}

fn known_role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
    readable_or(Role::Unknown, deserializer)
}

fn known_policy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DeletionPolicy, D::Error> {
    readable_or(DeletionPolicy::Unknown, deserializer)
}

fn known_moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ResendWhen, D::Error> {
    readable_or(ResendWhen::Unknown, deserializer)
}

fn known_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    readable_or(0, deserializer)
}

/// A reference to an `Organization`.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("self.name.matches('^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$')").message("organizationRef.name must be the name of an Organization: lower-case letters, digits, - and ."))]
pub struct OrganizationRef {
    /// Name of the Organization.
    #[serde(default = "default_organization")]
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl Default for OrganizationRef {
    fn default() -> Self {
        Self {
            name: default_organization(),
        }
    }
}

fn default_organization() -> String {
    "default".to_owned()
}

/// How an invitation stands.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OrgInviteStatus {
    /// The generation of the spec that this status speaks about; -1 before the first.
    #[serde(default = "not_observed")]
    pub observed_generation: i64,

    /// ID of the invitation that this object stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite_id: Option<String>,

    /// The last attempt to send an e-mail whose outcome is known. While it differs from the ID in
    /// the annotation iam.astronomer.io/attempt, the outcome of that attempt is not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_id: Option<String>,

    /// The attempt whose outcome was not known when this was written, as its annotation had it: whoever replaces an
    /// object with kubectl replace may drop its annotations.
    #[serde(
        default,
        deserialize_with = "super::readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub open_attempt: Option<Box<Attempt>>,

    /// ID of the Astro organization that the invitation belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<String>,

    /// The e-mail address that the invitation was sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,

    /// The role that the invitation was sent with.
    #[serde(
        default,
        deserialize_with = "super::readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub role: Option<Role>,

    /// When the invitation was sent, or found where somebody else had sent it.
    #[serde(
        default,
        deserialize_with = "super::readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub invited_at: Option<Time>,

    /// When the invitation expires, as Astro says.
    #[serde(
        default,
        deserialize_with = "super::readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires_at: Option<Time>,

    /// How many invitations were sent by themselves since the first one, or since the last request.
    #[serde(default, deserialize_with = "super::readable")]
    pub resends: u32,

    /// The last value of the annotation iam.astronomer.io/resend-requested-at that was seen to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_resend_request: Option<String>,

    /// What would be done if the Organization were not suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_action: Option<String>,

    /// ID of the person as a member of the organization, once the person is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,

    /// Since when the invitation or the member is known to be gone.
    #[serde(
        default,
        deserialize_with = "super::readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub gone_since: Option<Time>,

    /// Who sent the invitation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub inviter: Option<Inviter>,

    /// Ready; Reconciling and Stalled only while true; Accepted once there is an invitation or a
    /// member.
    #[serde(
        default,
        deserialize_with = "super::readable_ones",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(transform = super::conditions::each_as_a_whole)]
    pub conditions: Vec<Condition>,
}

const fn not_observed() -> i64 {
    -1
}

/// Who sent an invitation, as Astro says.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Inviter {
    /// ID of the user or of the API token.
    pub id: String,
    /// USER or SERVICEKEY (an API token). Invitees of an API token have been reported to get a
    /// link that answers 404 (terraform-provider-astro, issue 208).
    #[serde(
        default,
        deserialize_with = "super::readable",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "SubjectKind")]
    pub subject_type: Option<SubjectKind>,
    /// Name of the user or of the API token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The write-ahead record of one e-mail, kept in the annotation [`ATTEMPT_ANNOTATION`].
///
/// It says for whom and as what, since the spec may be edited while the outcome is open.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Random; the attempt is open until status.attemptId equals it.
    pub id: String,
    /// status.attemptId when it was made, empty before the first: once that is another one, it is an old attempt that
    /// somebody wrote back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// UID of the object that it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The address as the user wrote it.
    pub email: String,
    /// The role that the invitation is sent with.
    pub role: Role,
    /// The invitation that this one takes the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// status.resends once it is sent.
    #[serde(default)]
    pub resends: u32,
    /// status.lastResendRequest once it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What the annotation iam.astronomer.io/invite-id said when it was made: that is not what it sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<String>,
    /// What the annotation iam.astronomer.io/resend-requested-at said when it was told that its outcome is not known:
    /// no answer to that. Empty for nothing; only in the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<String>,
}
