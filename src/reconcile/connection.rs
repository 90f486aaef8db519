//! The connection to one organization, made from its `Organization`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::observe::inviter;
use crate::astro::budget::{Budget, Verb};
use crate::astro::directory::Directory;
use crate::astro::{Astro, Invite, later};
use crate::metrics::OrganizationMetrics;
use crate::plan::Saying;
use crate::resources::organization::{AllowRule, Permission, TokenStatus};

/// Whether an Organization can be worked with.
#[derive(Clone)]
pub enum Link {
    /// It was not looked at yet.
    NotYet,
    /// It is missing or has no usable token, and what to say of it.
    Down(Saying),
    /// It has a connection.
    Up(Arc<Connection>),
}

/// The connection to one organization with one token.
pub struct Connection {
    /// Which connection this is; another token makes another one.
    pub id: u64,
    /// ID of the organization in Astro.
    pub organization_id: String,
    /// The calls.
    pub astro: Arc<dyn Astro>,
    /// How many of them.
    pub budget: Arc<Budget>,
    /// The organization's people.
    pub directory: Arc<Directory>,
    /// What is counted of the Organization.
    pub metrics: OrganizationMetrics,
    /// A fingerprint of the token and where it is used: another one makes another connection.
    pub made_from: u64,
    policy: RwLock<Arc<Policy>>,
    token: RwLock<TokenStatus>,
    unread: RwLock<Unread>,
    /// Who sent the invitation that expires last of those that a POST answered with, and when it does.
    youngest: RwLock<Option<(String, Timestamp)>>,
    /// When the Organization's OrgInvites were last counted.
    counted: RwLock<Option<Instant>>,
    reading: JoinHandle<()>,
}

/// Whether the organization went unread for long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unread {
    /// It did not, or it was acknowledged.
    #[default]
    No,
    /// It was last read at `last`; more than `longest` after that is long.
    Unjudged {
        /// When it was last read, by Astro's clock.
        last: Timestamp,
        /// How long it may go unread without a doubt.
        longest: Duration,
    },
    /// It did, since then.
    Since(Timestamp),
}

/// Who may invite whom as what, at one generation of the Organization's spec.
#[derive(Debug, PartialEq)]
pub struct Policy {
    /// The rules.
    pub allow: Vec<AllowRule>,
    /// Whether nothing in Astro may be changed.
    pub suspend: bool,
    /// Whether the Organization is being deleted: nothing new is sent.
    pub closing: bool,
    /// The generation that they are of.
    pub generation: i64,
}

impl Connection {
    /// A connection whose directory is read by `reading`, which ends with it.
    pub fn new(
        organization_id: String,
        astro: Arc<dyn Astro>,
        budget: Arc<Budget>,
        directory: Arc<Directory>,
        made_from: u64,
        policy: Policy,
        reading: JoinHandle<()>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            organization_id,
            astro,
            budget,
            metrics: directory.metrics().clone(),
            directory,
            token: RwLock::default(),
            unread: RwLock::default(),
            youngest: RwLock::default(),
            counted: RwLock::default(),
            made_from,
            policy: RwLock::new(Arc::new(policy)),
            reading,
        }
    }

    /// What is known of the token.
    #[must_use]
    pub fn token(&self) -> TokenStatus {
        self.token.read().clone()
    }

    /// Takes over what was known of the token before a restart.
    pub fn remember(&self, token: TokenStatus) {
        *self.token.write() = token;
    }

    /// Whether the token may create or delete invitations.
    pub fn learn(&self, verb: Verb, allowed: bool) {
        let allowed = Some(Permission::from(allowed));
        let mut token = self.token.write();
        match verb {
            Verb::Post => token.invite = allowed,
            Verb::Delete => token.revoke = allowed,
            Verb::Get => token.list_users = allowed,
        }
    }

    /// Whom the token stands for, as an invitation that it made tells. Whether that is news.
    pub fn learn_sent(&self, invite: &Invite) -> bool {
        let Some(subject) = inviter(invite) else {
            return false;
        };
        if let Some(expires_at) = invite.expires_at {
            let mut youngest = self.youngest.write();
            if youngest
                .as_ref()
                .is_none_or(|(_, last)| *last <= expires_at)
            {
                *youngest = Some((subject.id.clone(), expires_at));
            }
        }
        let subject = Some(subject);
        let mut token = self.token.write();
        let is_news = token.subject != subject;
        token.subject = subject;
        is_news
    }

    /// Whether a POST was answered with an invitation that was there before and that somebody else
    /// sent: it expires earlier than one that this token sent. Where both are not so, nobody can tell.
    pub fn is_somebody_elses(&self, invite: &Invite) -> bool {
        let (Some(who), Some(expires_at)) = (&invite.inviter, invite.expires_at) else {
            return false;
        };
        let youngest = self.youngest.read();
        youngest
            .as_ref()
            .is_some_and(|(own, last)| *own != who.id && expires_at < *last)
    }

    /// Since when the organization was not read for so long that the cluster may have been restored from
    /// a backup; nobody acknowledged that yet.
    #[must_use]
    pub fn unread_since(&self) -> Option<Timestamp> {
        let mut unread = self.unread.write();
        // Astro's clock is known from the first reading on, and nothing is planned before that.
        if let Unread::Unjudged { last, longest } = *unread
            && self.directory.synced().is_some()
        {
            *unread = if later(last, longest) < self.directory.now() {
                Unread::Since(last)
            } else {
                Unread::No
            };
        }
        match *unread {
            Unread::Since(since) => Some(since),
            Unread::Unjudged { .. } | Unread::No => None,
        }
    }

    /// What is known of that.
    #[must_use]
    pub fn unread(&self) -> Unread {
        *self.unread.read()
    }

    /// Notes what is known of that, or that it is acknowledged.
    pub fn set_unread(&self, unread: Unread) {
        *self.unread.write() = unread;
    }

    /// Whether to count the OrgInvites anew: not more often than each `interval`.
    pub fn is_to_count(&self, interval: Duration) -> bool {
        let mut counted = self.counted.write();
        let due = counted.is_none_or(|at| at.elapsed() >= interval);
        if due {
            *counted = Some(Instant::now());
        }
        due
    }

    /// Who may invite whom as what.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read())
    }

    /// Takes over an edited policy.
    pub fn set_policy(&self, policy: Policy) {
        *self.policy.write() = Arc::new(policy);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
