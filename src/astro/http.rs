//! The Astro API over HTTP: the only place that speaks it.

mod answer;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use reqwest::header::{ACCEPT, AUTHORIZATION, DATE, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use tracing::{Instrument as _, field};

pub(super) use self::answer::clean;
use self::answer::{Answer, unknown};
use super::wire;
use super::{Astro, Error, Invite, InviteAnswer, Listing, Refusal, Role, UserPage};
use crate::metrics::Metrics;

/// Where the public v1alpha1 API answers. Source: the `InviteApi` contract.
pub const DEFAULT_URL: &str = "https://api.astronomer.io/v1alpha1";
/// How long connecting may take.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long a whole request may take. The settle time has to be longer.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(15);
/// How far Astro's clock may be from this machine's, by default.
pub const CLOCK_TOLERANCE: Duration = Duration::from_hours(1);
/// The longest body that is read.
const BODY_LIMIT: usize = 8 << 20;
/// How many redirects within one host a GET follows.
const REDIRECTS: usize = 3;

/// Why an address of the Astro API is refused.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// It is no URL with a host.
    #[error("{0:?} is not a URL")]
    Syntax(String),
    /// It has more than a scheme, a host, a port and a path. The address is not repeated: it may
    /// hold a password.
    #[error("the URL must have no user name, password, query or fragment")]
    Superfluous,
    /// A token would travel in clear.
    #[error("{0} is not https: a token must not travel in clear, except to this machine itself")]
    Clear(String),
    /// The HTTP client cannot be set up.
    #[error("cannot set up HTTP: {}", root_cause(.0))]
    Client(#[from] reqwest::Error),
}

/// Whether a text can be an ID, which is one segment of a path. A URL has no way to write the others, and
/// drops tabs and line ends even inside of "..".
#[must_use]
pub fn is_id(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.chars().any(char::is_control)
}

/// What began it: what stands before is the library's own wording.
fn root_cause(error: &reqwest::Error) -> &dyn std::error::Error {
    std::iter::successors(error.source(), |&cause| cause.source())
        .last()
        .unwrap_or(error)
}

/// Makes calls to the Astro API at one base URL.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// For GET, which may follow a redirect.
    reads: reqwest::Client,
    /// For everything else: a redirect that is followed would send an invitation twice.
    writes: reqwest::Client,
    base: Url,
    deadline: Duration,
    clock_tolerance: Duration,
    metrics: Metrics,
}

impl Endpoint {
    /// An endpoint whose requests may take [`REQUEST_DEADLINE`]. The process needs a default
    /// cryptography provider of rustls before.
    pub fn new(base: &str) -> Result<Self, UrlError> {
        Self::with_deadline(base, REQUEST_DEADLINE)
    }

    /// An endpoint whose requests may take that long, connecting included.
    pub fn with_deadline(base: &str, deadline: Duration) -> Result<Self, UrlError> {
        let url = Url::parse(base.trim_end_matches('/'))
            .map_err(|_| UrlError::Syntax(base.to_owned()))?;
        if !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some()
        {
            return Err(UrlError::Superfluous);
        }
        let local = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => return Err(UrlError::Syntax(base.to_owned())),
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && local) {
            return Err(UrlError::Clear(base.to_owned()));
        }
        let builder = || {
            let builder = reqwest::Client::builder()
                .user_agent(crate::USER_AGENT)
                .connect_timeout(CONNECT_DEADLINE)
                .timeout(deadline);
            // A proxy of the environment would get the token in clear.
            if local { builder.no_proxy() } else { builder }
        };
        // A token must not follow a redirect to somebody else.
        let home = url.origin();
        let within_home = redirect::Policy::custom(move |attempt| {
            if attempt.url().origin() == home && attempt.previous().len() <= REDIRECTS {
                attempt.follow()
            } else {
                attempt.stop()
            }
        });
        Ok(Self {
            reads: builder().redirect(within_home).build()?,
            writes: builder().redirect(redirect::Policy::none()).build()?,
            base: url,
            deadline,
            clock_tolerance: CLOCK_TOLERANCE,
            metrics: Metrics::default(),
        })
    }

    /// The same endpoint, whose clock is believed within `tolerance` of this machine's.
    #[must_use]
    pub fn clock_within(self, tolerance: Duration) -> Self {
        Self {
            clock_tolerance: tolerance,
            ..self
        }
    }

    /// The same endpoint, whose calls are counted in `metrics`.
    #[must_use]
    pub fn counted_in(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// The URL of a path: each segment is one segment, whatever is in it.
    fn url(&self, segments: &[&str]) -> Result<Url, Error> {
        if let Some(bad) = segments.iter().find(|segment| !is_id(segment)) {
            return Err(Error::Refused(Refusal {
                status: 400,
                from_api: false,
                message: format!("not sent: {bad:?} is not an ID"),
                field_errors: Vec::new(),
                request_id: None,
                retry_after: None,
            }));
        }
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        Ok(url)
    }

    async fn receive(&self, mut response: Response, token: &str) -> Result<Answer, Error> {
        let status = response.status();
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > BODY_LIMIT => {
                    let limit = BODY_LIMIT >> 20;
                    let message = format!(
                        "Astro answered {} with more than {limit} MiB",
                        status.as_u16()
                    );
                    return Err(unknown(message, Some(status)));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Answer::judge(status, response.headers(), body, token),
                Err(error) => return Err(unknown(self.transport(&error), Some(status))),
            }
        }
    }

    /// What went wrong on the way, without the URL: it may hold an ID.
    fn transport(&self, error: &reqwest::Error) -> String {
        let host = self.host();
        if error.is_connect() {
            let cause = clean(&root_cause(error).to_string());
            format!("cannot connect to {host}: {cause}")
        } else if error.is_timeout() {
            format!("{host} did not answer within {:?}", self.deadline)
        } else if error.is_builder() {
            "the request cannot be written".to_owned()
        } else {
            format!("the connection to {host} ended before a complete answer")
        }
    }
}

/// An [`Endpoint`] with a token.
#[derive(Clone, Debug)]
pub struct Session {
    endpoint: Endpoint,
    token: SecretString,
    /// Astro's clock at its last answer, and when that was by ours.
    clock: Arc<Mutex<Option<(Timestamp, Instant)>>>,
}

impl Session {
    /// A session with `token`.
    #[must_use]
    pub fn new(endpoint: &Endpoint, token: SecretString) -> Self {
        Self {
            endpoint: endpoint.clone(),
            token,
            clock: Arc::default(),
        }
    }

    /// An invite by its ID. Source: `GET /auth/invites/{inviteId}` of the `InviteApi`.
    pub async fn get_invite(&self, id: &str) -> Result<Invite, Error> {
        let request = self.request(Method::GET, &["auth", "invites", id])?;
        self.send("get invite", request)
            .await?
            .read::<wire::Invite, _>()
    }

    /// Accepts or rejects an invite, with the invitee's own token. Source:
    /// `POST /users/self/invites/{inviteId}` of the `InviteApi`.
    pub async fn update_self_invite(
        &self,
        id: &str,
        answer: InviteAnswer,
    ) -> Result<Invite, Error> {
        let body = wire::UpdateInvite {
            invite_status: match answer {
                InviteAnswer::Accept => "accept",
                InviteAnswer::Reject => "reject",
            },
        };
        let request = self.request(Method::POST, &["users", "self", "invites", id])?;
        self.send("update invite", request.json(&body))
            .await?
            .read::<wire::Invite, _>()
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, Error> {
        let url = self.endpoint.url(path)?;
        let bearer = format!("Bearer {}", self.token.expose_secret());
        let mut bearer = HeaderValue::try_from(bearer).map_err(|_| {
            let message = "not sent: the token has characters that no header can carry";
            unknown(message.to_owned(), None)
        })?;
        bearer.set_sensitive(true);
        let http = if method == Method::GET {
            &self.endpoint.reads
        } else {
            &self.endpoint.writes
        };
        Ok(http
            .request(method, url)
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, "application/json"))
    }

    /// Takes over Astro's clock, and tells once when it is not believed.
    fn set_clock(&self, date: Timestamp) {
        let mut clock = self.clock.lock();
        let believed = |date: Timestamp| self.within_tolerance(date) == date;
        if !believed(date) && clock.is_none_or(|(before, _)| believed(before)) {
            tracing::warn!(
                %date,
                "Astro's clock and this machine's are further apart than --clock-tolerance, and no more than that is believed: check the clock of this machine"
            );
        }
        *clock = Some((date, Instant::now()));
    }

    /// A moment by Astro's clock, no further from this machine's than is believed: one wrong date must
    /// not let every invitation expire.
    fn within_tolerance(&self, date: Timestamp) -> Timestamp {
        let (now, tolerance) = (Timestamp::now(), self.endpoint.clock_tolerance);
        let earliest = now.checked_sub(tolerance).unwrap_or(Timestamp::MIN);
        let latest = now.checked_add(tolerance).unwrap_or(Timestamp::MAX);
        date.clamp(earliest, latest)
    }

    async fn send(
        &self,
        operation: &'static str,
        request: RequestBuilder,
    ) -> Result<Answer, Error> {
        let span = tracing::info_span!(
            "astro",
            otel.name = operation,
            otel.kind = "client",
            otel.status_code = field::Empty,
            http.response.status_code = field::Empty,
            astro.request_id = field::Empty,
        );
        self.attend(operation, request).instrument(span).await
    }

    async fn attend(
        &self,
        operation: &'static str,
        request: RequestBuilder,
    ) -> Result<Answer, Error> {
        let began = Instant::now();
        let outcome = match request.send().await {
            Ok(response) => {
                // Refusals tell the time, too.
                if let Some(date) = response.headers().get(DATE).and_then(answer::http_date) {
                    self.set_clock(date);
                }
                let token = self.token.expose_secret();
                self.endpoint.receive(response, token).await
            }
            Err(error) => Err(unknown(self.endpoint.transport(&error), None)),
        };
        let took = began.elapsed();
        let (status, request_id) = match &outcome {
            Ok(answer) => (Some(answer.status()), None),
            Err(error) => (error.status(), error.request_id()),
        };
        self.endpoint.metrics.called(operation, status, took);
        let span = tracing::Span::current();
        span.record("http.response.status_code", status);
        span.record("astro.request_id", request_id);
        let seconds = took.as_secs_f64();
        match &outcome {
            Ok(_) => tracing::debug!(operation, status, seconds, "called Astro"),
            Err(error) => {
                span.record("otel.status_code", "ERROR");
                tracing::info!(operation, status, request_id, seconds, %error, "called Astro");
            }
        }
        outcome
    }
}

/// The calls for one organization.
#[derive(Clone, Debug)]
pub struct Client {
    session: Session,
    organization_id: String,
}

impl Client {
    /// A client for the organization with that ID.
    #[must_use]
    pub fn new(endpoint: &Endpoint, organization_id: &str, token: SecretString) -> Self {
        Self {
            session: Session::new(endpoint, token),
            organization_id: organization_id.to_owned(),
        }
    }
}

#[async_trait]
impl Astro for Client {
    async fn create_invite(&self, email: &str, role: Role) -> Result<Invite, Error> {
        let body = wire::CreateInvite {
            invitee_email: email,
            role,
        };
        let path = ["organizations", &self.organization_id, "invites"];
        let request = self.session.request(Method::POST, &path)?.json(&body);
        self.session
            .send("create invite", request)
            .await?
            .read::<wire::Invite, _>()
    }

    async fn get_invite(&self, id: &str) -> Result<Invite, Error> {
        self.session.get_invite(id).await
    }

    async fn delete_invite(&self, id: &str) -> Result<(), Error> {
        let path = ["organizations", &self.organization_id, "invites", id];
        let request = self.session.request(Method::DELETE, &path)?;
        self.session.send("delete invite", request).await?.done()
    }

    async fn list_users(
        &self,
        listing: Listing,
        offset: usize,
        limit: usize,
    ) -> Result<UserPage, Error> {
        let path = ["organizations", &self.organization_id, "users"];
        let mut request = self.session.request(Method::GET, &path)?.query(&[
            ("offset", offset.to_string().as_str()),
            ("limit", limit.to_string().as_str()),
            ("sorts", "createdAt:asc"),
        ]);
        if listing == Listing::WithInvites {
            request = request.query(&[("hasInvites", "true")]);
        }
        self.session
            .send("list users", request)
            .await?
            .read::<wire::UserPage, _>()
    }

    fn server_time(&self) -> Option<Timestamp> {
        let (date, at) = (*self.session.clock.lock())?;
        let now = date.checked_add(at.elapsed()).unwrap_or(Timestamp::MAX);
        Some(self.session.within_tolerance(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(base: &str) -> Result<Endpoint, UrlError> {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        Endpoint::new(base)
    }

    #[test]
    fn a_token_travels_in_clear_to_this_machine_only() {
        for good in [
            DEFAULT_URL,
            "http://127.0.0.1:1/v1",
            "http://[::1]",
            "http://localhost:8080/",
        ] {
            endpoint(good).unwrap();
        }
        for bad in [
            "http://astro.example",
            "http://127.0.0.1.example",
            "ftp://localhost",
        ] {
            assert!(matches!(endpoint(bad), Err(UrlError::Clear(_))), "{bad}");
        }
        for bad in ["", "api.astronomer.io", "mailto:a@b", "https://"] {
            assert!(matches!(endpoint(bad), Err(UrlError::Syntax(_))), "{bad}");
        }
        for bad in [
            "https://me:secret@astro.example",
            "https://astro.example/?a=b",
            "https://astro.example/#a",
        ] {
            let error = endpoint(bad).unwrap_err();
            assert!(!error.to_string().contains("secret"));
            assert!(matches!(error, UrlError::Superfluous), "{bad}");
        }
    }

    #[test]
    fn an_id_stays_one_segment() {
        let endpoint = endpoint("https://astro.example/v1/").unwrap();
        for (id, path) in [
            ("cm1", "/v1/a/cm1"),
            ("../users", "/v1/a/..%2Fusers"),
            ("%2e%2e", "/v1/a/%252e%252e"),
            ("a\\..\\b", "/v1/a/a%5C..%5Cb"),
            ("a?b#c", "/v1/a/a%3Fb%23c"),
        ] {
            assert_eq!(endpoint.url(&["a", id]).unwrap().path(), path);
        }
        for id in ["", ".", "..", ".\t.", "a\n"] {
            let error = endpoint.url(&["a", id]).unwrap_err();
            assert!(!error.says_bad_request(), "Astro said nothing");
        }
    }
}
