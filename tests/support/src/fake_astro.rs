//! A stateful fake of the Astro API, as a real HTTP server on the loopback interface.
//!
//! It serves the v1alpha1 calls that the operator makes, counts the e-mails that they cause, refuses and records
//! whatever the documentation does not allow, gives each answer that the documentation leaves open (see
//! [`Behaviour`]), and fails on demand (see [`Fault`]).
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use support::fake_astro::FakeAstro;
//!
//! let fake = FakeAstro::start().await?;
//! // Point a client at fake.url() with fake.organization_id() and fake.token(), then:
//! assert_eq!(fake.emails_to("jane@example.com"), 1);
//! fake.assert_contract_kept()?;
//! # Ok(())
//! # }
//! ```

mod answer;
mod behaviour;
mod connection;
mod control;
mod faults;
mod http;
mod journal;
mod organization;
mod request;
mod state;
mod web;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    ops::Deref,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use axum::Router;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::JoinHandle};

pub use self::{
    behaviour::{
        Api, Behaviour, DefaultList, DeleteAccepted, DeleteExpired, EmailCase, ExpiresAt, GetEnded,
        InviterKind, InvitesShown, ListUsers, PostMember, PostPending, RoleOfPending,
        RowAfterExpiry, RowAfterWithdrawal, Search, Shown,
    },
    control::Control,
    faults::{Answer, Fault, Gate, HoldPoint, Limits, Target, Times},
    journal::{Call, Mail, Mark, Operation, Outcome, Violation},
    state::{
        Invite, InviteState, Inviter, OWNER_EMAIL, ROLES, SECRET_PREFIX, User, UserStatus,
        canonical,
    },
};
use self::{
    connection::{Connection, CuttingListener, Open},
    faults::{Buckets, Faults, Held},
    organization::Organization,
    state::{new_id, new_secret},
};

/// How a fake begins.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; only on loopback. Port 0 is any free one.
    pub listen: SocketAddr,
    /// The default organization's id.
    pub organization: String,
    /// The default organization's token.
    pub token: String,
    /// How long an invite is valid.
    pub invite_lifetime: Duration,
    /// Whether `/fake/` is served, through which anyone can change the state over HTTP.
    pub control_surface: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            organization: new_id(),
            token: new_secret("token"),
            // The service's own lifetime is not documented.
            invite_lifetime: Duration::from_hours(7 * 24),
            control_surface: false,
        }
    }
}

/// A running fake. It stops when it is dropped. Its controls are the methods of [`Control`].
#[derive(Debug)]
pub struct FakeAstro {
    control: Control,
    address: SocketAddr,
    open: Open,
    server: JoinHandle<()>,
}

impl FakeAstro {
    /// Starts a fake with the default [`Options`] on the current runtime.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts a fake on the current runtime.
    ///
    /// Fails when the address is taken or not loopback.
    pub async fn start_with(options: Options) -> anyhow::Result<Self> {
        ensure!(
            options.listen.ip().is_loopback(),
            "{} is not loopback",
            options.listen
        );
        let listener = TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("cannot listen on {}", options.listen))?;
        let address = listener.local_addr()?;
        let shared = Shared {
            world: Mutex::new(World::new(options.invite_lifetime)),
            lists: Mutex::default(),
        };
        let control = Control(Arc::new(shared), options.organization.clone());
        control.add_organization(&options.organization);
        control.replace_token(&options.token);

        let mut router = Router::new()
            .fallback(http::serve)
            .with_state(control.clone());
        if options.control_surface {
            router = router.nest("/fake", web::routes(control.clone()));
        }
        let open = Open::default();
        let listener = CuttingListener {
            inner: listener,
            open: open.clone(),
        };
        let service = router.into_make_service_with_connect_info::<Connection>();
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, service).await {
                tracing::error!(%error, "the fake Astro API stopped");
            }
        });
        Ok(Self {
            control,
            address,
            open,
            server,
        })
    }

    /// The base URL of the API, with `/v1alpha1`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, request::BASE)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every open connection, as a proxy's restart does. New ones are accepted.
    pub fn cut_connections(&self) {
        self.open.cut_all();
    }
}

impl Deref for FakeAstro {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Drop for FakeAstro {
    fn drop(&mut self) {
        self.server.abort();
        self.open.cut_all();
    }
}

#[derive(Debug)]
struct Shared {
    world: Mutex<World>,
    /// Taken before the other one by who lists users, and kept by [`Control::at_once`].
    lists: Mutex<()>,
}

type Hook = Box<dyn FnOnce(&Control) + Send>;

/// Who may call.
#[derive(Debug)]
struct Token {
    value: String,
    /// The organizations in which it is an API token.
    organizations: Vec<String>,
    /// The address of the person whose own token it is.
    person: Option<String>,
    /// The id that an invite names when the token is a service key.
    key_id: String,
    revoked: bool,
}

/// Everything that the fake knows, behind one lock.
struct World {
    organizations: BTreeMap<String, Organization>,
    tokens: Vec<Token>,
    behaviour: Behaviour,
    invite_lifetime: Duration,
    clock_offset: SignedDuration,
    faults: Faults,
    held: Vec<Held>,
    limits: Option<Limits>,
    buckets: Buckets,
    hooks: Vec<(u32, Hook)>,
    calls: Vec<Call>,
    mails: Vec<Mail>,
    web_mails: Vec<Mail>,
    violations: Vec<Violation>,
}

impl std::fmt::Debug for World {
    // By hand, since hooks have no Debug, and the rest is too long to read.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("World")
            .field("calls", &self.calls.len())
            .finish_non_exhaustive()
    }
}

impl World {
    fn new(invite_lifetime: Duration) -> Self {
        Self {
            organizations: BTreeMap::new(),
            tokens: Vec::new(),
            behaviour: Behaviour::default(),
            invite_lifetime,
            clock_offset: SignedDuration::ZERO,
            faults: Faults::default(),
            held: Vec::new(),
            limits: None,
            buckets: Buckets::default(),
            hooks: Vec::new(),
            calls: Vec::new(),
            mails: Vec::new(),
            web_mails: Vec::new(),
            violations: Vec::new(),
        }
    }

    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        now.checked_add(self.clock_offset).unwrap_or(now)
    }

    /// The time for the `Date` header, when it is not the machine's.
    fn moved_clock(&self) -> Option<Timestamp> {
        (!self.clock_offset.is_zero()).then(|| self.now())
    }

    /// The invite with this id or ticket id, in any organization.
    fn invite(&self, id: &str) -> Option<&Invite> {
        self.organizations
            .values()
            .find_map(|organization| organization.invite(id))
    }

    fn note(&mut self, sequence: u64, change: impl FnOnce(&mut Call)) {
        if let Some(call) = self
            .calls
            .iter_mut()
            .rfind(|call| call.sequence == sequence)
        {
            change(call);
        }
    }

    fn take_gate(&mut self, sequence: u64, point: HoldPoint) -> Option<(Held, Call)> {
        if self.held.is_empty() {
            return None;
        }
        let call = self
            .calls
            .iter()
            .rfind(|call| call.sequence == sequence)?
            .clone();
        let at = self
            .held
            .iter()
            .position(|held| held.is_for(&call, point))?;
        Some((self.held.remove(at), call))
    }

    /// Counts a list page, and takes the hooks that are due after it.
    fn due_hooks(&mut self) -> Vec<Hook> {
        for (left, _) in &mut self.hooks {
            *left = left.saturating_sub(1);
        }
        self.hooks
            .extract_if(.., |(left, _)| *left == 0)
            .map(|(_, hook)| hook)
            .collect()
    }
}
