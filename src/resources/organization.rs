//! `Organization`: where to invite, and who may invite whom as what.
#![allow(
    clippy::duplicated_attributes,
    reason = "each printer column repeats the same keys"
)]

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::org_invite::Inviter;
use crate::astro::Role;

/// How often an Organization is read when its spec does not say.
pub const DEFAULT_SYNC_INTERVAL: &str = "5m";

/// An Astro organization to invite people to, the token to do it with, and who may invite whom as
/// what. It belongs to the platform team: it is the only way to configure a connection to Astro.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "iam.astronomer.io",
    version = "v1alpha1",
    kind = "Organization",
    plural = "organizations",
    category = "astro",
    status = "OrganizationStatus",
    doc = "An Astro organization to invite people to, the token to do it with, and who may invite whom as what.",
    printcolumn(
        name = "Organization-ID",
        type_ = "string",
        json_path = ".spec.organizationId"
    ),
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
        name = "Invited",
        type_ = "integer",
        description = "OrgInvites whose invitation is out.",
        json_path = ".status.invites.invited"
    ),
    printcolumn(
        name = "Accepted",
        type_ = "integer",
        description = "OrgInvites whose person is a member.",
        json_path = ".status.invites.accepted"
    ),
    printcolumn(
        name = "Stalled",
        type_ = "integer",
        description = "OrgInvites that need a person.",
        json_path = ".status.invites.stalled"
    ),
    printcolumn(
        name = "Suspended",
        type_ = "boolean",
        description = "Whether nothing in Astro is changed.",
        json_path = ".spec.suspend"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationSpec {
    /// ID of the organization in Astro. It cannot be changed.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9_-]+$')").message("organizationId must be the ID that Astro shows for the organization: letters, digits, - and _ only"),
        validation = Rule::new("self == oldSelf").message("organizationId cannot be changed: create another Organization for the other one")
    )]
    pub organization_id: String,

    /// The Secret with the API token, in the operator's own namespace. Another token is picked up by
    /// itself.
    pub token_secret_ref: SecretKeyRef,

    /// Who may invite whom as what. An OrgInvite is acted on when any rule allows it. A change stops
    /// or allows e-mails to come; it takes no invitation back.
    #[serde(deserialize_with = "known_rules")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("size(self) > 0").message("allow needs at least one rule: without one nobody may invite anybody"))]
    pub allow: Vec<AllowRule>,

    /// How often the organization's people are read, between 1s and 24h; where the token may not list
    /// users, how often each pending invitation is looked at.
    #[serde(default = "default_sync_interval")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+h)?([0-9]+m)?([0-9]+s)?$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("syncInterval must be a duration between 1s and 24h, such as 5m or 1h30m"))]
    pub sync_interval: String,

    /// The emergency switch: while it is true, Astro is read and nothing in it is changed. Each
    /// OrgInvite tells in its status what would be done.
    #[serde(default)]
    pub suspend: bool,
}

/// The rules, without a role where one is not understood as a whole. One with a field that only a later version knows may
/// be meant for fewer than an operator that was rolled back would think: it allows nothing.
fn known_rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<AllowRule>, D::Error> {
    let rules: Vec<Map<String, Value>> = super::readable_ones(deserializer)?;
    let known = |written: Map<String, Value>| {
        let rule: AllowRule = serde_json::from_value(Value::Object(written.clone())).ok()?;
        let read = serde_json::to_value(&rule).ok()?;
        let all = written
            .iter()
            .all(|(field, value)| value.is_null() || read.get(field).is_some());
        all.then_some(rule)
    };
    let rules = rules.into_iter();
    Ok(rules.map(|rule| known(rule).unwrap_or_default()).collect())
}

fn default_sync_interval() -> String {
    DEFAULT_SYNC_INTERVAL.to_owned()
}

impl OrganizationSpec {
    /// How often the organization's people are read.
    #[must_use]
    pub fn sync_interval(&self) -> Duration {
        let interval: Option<SignedDuration> = self.sync_interval.parse().ok();
        interval
            .and_then(|interval| Duration::try_from(interval).ok())
            .map_or(Duration::from_mins(5), |interval| {
                interval.clamp(Duration::from_secs(1), Duration::from_hours(24))
            })
    }
}

/// A key of a Secret in the operator's own namespace.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("self.name.matches('^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$')").message("tokenSecretRef.name must be the name of a Secret: lower-case letters, digits, - and ."))]
#[x_kube(validation = Rule::new("self.key.matches('^[-._a-zA-Z0-9]+$')").message("tokenSecretRef.key must be a key of a Secret: letters, digits, -, _ and ."))]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key of the token within the Secret.
    #[serde(default = "default_secret_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_secret_key() -> String {
    "token".to_owned()
}

/// One rule of who may invite whom as what.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.namespaceSelector) != has(self.namespaces)").message("a rule names its namespaces either by namespaces or by namespaceSelector ({} means every namespace)"))]
pub struct AllowRule {
    /// The namespaces that the rule is for, by their labels; `{}` means every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "selector")]
    pub namespace_selector: Option<LabelSelector>,

    /// The namespaces that the rule is for, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    #[x_kube(
        validation = Rule::new("size(self) > 0").message("namespaces needs at least one name"),
        validation = Rule::new("self.all(name, name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))").message("each of namespaces must be the whole name of one, without wildcards; namespaceSelector takes several by their labels")
    )]
    pub namespaces: Option<Vec<String>>,

    /// The roles that may be given.
    #[serde(deserialize_with = "super::readable_ones")]
    #[schemars(length(max = 8))]
    #[x_kube(validation = Rule::new("size(self) > 0").message("roles needs at least one role"))]
    pub roles: Vec<Role>,

    /// The domains that may be invited: `example.com` is that domain alone, `*.example.com` every
    /// domain below it. Without the field, every domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 255)))]
    #[x_kube(
        validation = Rule::new("size(self) > 0").message("emailDomains needs at least one domain; leave the field out to allow every domain"),
        validation = Rule::new(r"self.all(domain, domain.matches(r'^(\*\.)?([\p{L}\p{N}]([\p{L}\p{N}\p{M}-]{0,61}[\p{L}\p{N}\p{M}])?\.)+[\p{L}\p{N}\p{M}-]{2,63}$'))").message("each of emailDomains must be a domain such as example.com, or *.example.com for the domains below it")
    )]
    pub email_domains: Option<Vec<String>>,
}

/// The schema of a label selector, without those that would select nothing because they cannot be read.
fn selector(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = <Option<LabelSelector>>::json_schema(generator);
    if let Some(expressions) = schema.pointer_mut("/properties/matchExpressions") {
        expressions["maxItems"] = json!(16);
        expressions["items"]["properties"]["operator"]["enum"] =
            json!(["In", "NotIn", "Exists", "DoesNotExist"]);
        expressions["items"]["x-kubernetes-validations"] = json!([{
            "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "message": "In and NotIn need values, Exists and DoesNotExist have none",
        }]);
    }
    schema
}

/// Keeps an Organization while OrgInvites hold an invitation or a member of it. Set at first sight.
pub const FINALIZER: &str = "iam.astronomer.io/organization";

/// Set by a person where the condition Suspicious is true: the people who are missing did go, or who
/// was written to while nobody read is known. Counts once for each value; any text will do, such as
/// the time.
pub const ACKNOWLEDGE_ANNOTATION: &str = "iam.astronomer.io/acknowledge-loss";

/// How many OrgInvites there are for an Organization, by how they stand.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct InviteCounts {
    /// All of them.
    pub total: u32,
    /// The invitation is out.
    pub invited: u32,
    /// The person is a member.
    pub accepted: u32,
    /// Work is under way or waits for something that comes by itself.
    pub waiting: u32,
    /// A person has to do something.
    pub stalled: u32,
    /// Being deleted.
    pub deleting: u32,
}

/// What is known of a token.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TokenStatus {
    /// The version of the Secret that this is about; another one makes it void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_version: Option<String>,
    /// Whom the token stands for, as the invitations that it made tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Inviter>,
    /// Whether it may list users. Without that, acceptance is not seen.
    #[serde(
        default,
        deserialize_with = "super::readable",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Permission")]
    pub list_users: Option<Permission>,
    /// Whether it may invite people; absent before the first one.
    #[serde(
        default,
        deserialize_with = "super::readable",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Permission")]
    pub invite: Option<Permission>,
    /// Whether it may take invitations back; absent before the first one.
    #[serde(
        default,
        deserialize_with = "super::readable",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Permission")]
    pub revoke: Option<Permission>,
}

/// Whether a token may do something, as Astro's last answer says.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    Allowed,
    /// It may not.
    Forbidden,
}

impl From<bool> for Permission {
    fn from(allowed: bool) -> Self {
        if allowed {
            Self::Allowed
        } else {
            Self::Forbidden
        }
    }
}

/// How the connection to an organization stands.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationStatus {
    /// The generation of the spec that this status speaks about; -1 before the first.
    #[serde(default = "not_observed")]
    pub observed_generation: i64,

    /// How many OrgInvites there are, by how they stand.
    #[serde(default, deserialize_with = "super::readable")]
    pub invites: InviteCounts,

    /// When the organization's people were last read as a whole; noted at most once a minute.
    #[serde(
        default,
        deserialize_with = "super::readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub last_sync_time: Option<Time>,

    /// The people were not read for so long after this moment that the cluster may have been restored
    /// from a backup: nobody who was declared before it is written to until that is acknowledged.
    #[serde(
        default,
        deserialize_with = "super::readable",
        skip_serializing_if = "Option::is_none"
    )]
    pub unread_since: Option<Time>,

    /// What the token can and cannot do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenStatus>,

    /// The last value of the annotation iam.astronomer.io/acknowledge-loss that was seen to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_acknowledged_loss: Option<String>,

    /// Ready; Reconciling, Stalled and Suspicious (people are missing, or nobody read them for long) only while true.
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
