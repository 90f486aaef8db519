//! The Astro API over HTTP: the only place that speaks it.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use reqwest::header::{ACCEPT, AUTHORIZATION, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::wire;
use super::{Astro, Error, Invite, InviteAnswer, Listing, Refusal, Role, UserPage};

/// Where the public v1alpha1 API answers. Source: the `InviteApi` contract.
pub const DEFAULT_URL: &str = "https://api.astronomer.io/v1alpha1";
/// How long connecting may take.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long a whole request may take. The settle time has to be longer.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(15);
/// The longest body that is read.
const BODY_LIMIT: usize = 8 << 20;
/// How many redirects within one host a GET follows.
const REDIRECTS: usize = 3;

/// Why an address of the Astro API is refused.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// It is no URL.
    #[error("{0:?} is not a URL")]
    Syntax(String),
    /// A token would travel in clear.
    #[error("{0} is not https: a token must not travel in clear, except to this machine itself")]
    Clear(String),
    /// The HTTP client cannot be set up.
    #[error("cannot set up HTTP: {0}")]
    Client(#[from] reqwest::Error),
}

/// Makes calls to the Astro API at one base URL.
#[derive(Clone, Debug)]
pub struct Endpoint {
    http: reqwest::Client,
    base: Url,
}

impl Endpoint {
    /// An endpoint with the usual deadlines.
    pub fn new(base: &str) -> Result<Self, UrlError> {
        Self::with_deadline(base, REQUEST_DEADLINE)
    }

    /// An endpoint whose requests may take that long.
    pub fn with_deadline(base: &str, deadline: Duration) -> Result<Self, UrlError> {
        let url = Url::parse(base.trim_end_matches('/'))
            .map_err(|_| UrlError::Syntax(base.to_owned()))?;
        let local = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => return Err(UrlError::Syntax(base.to_owned())),
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && local) {
            return Err(UrlError::Clear(base.to_owned()));
        }
        let home = (
            url.scheme().to_owned(),
            url.host_str().map(str::to_owned),
            url.port_or_known_default(),
        );
        // A token must not follow a redirect to somebody else, nor a request be sent twice.
        let policy = redirect::Policy::custom(move |attempt| {
            let to = attempt.url();
            let same = home
                == (
                    to.scheme().to_owned(),
                    to.host_str().map(str::to_owned),
                    to.port_or_known_default(),
                );
            let get = attempt.status() != StatusCode::SEE_OTHER;
            if same && get && attempt.previous().len() <= REDIRECTS {
                attempt.follow()
            } else {
                attempt.stop()
            }
        });
        let http = reqwest::Client::builder()
            .user_agent(concat!("orginvite-operator/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(deadline)
            .redirect(policy)
            .build()?;
        Ok(Self { http, base: url })
    }

    /// Host of the API.
    #[must_use]
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// The URL of a path: each segment is one segment, whatever is in it.
    fn url(&self, segments: &[&str]) -> Result<Url, Error> {
        if let Some(bad) = segments
            .iter()
            .find(|segment| segment.is_empty() || **segment == "." || **segment == "..")
        {
            return Err(Error::Refused(Refusal {
                status: 400,
                from_api: false,
                message: format!("{bad:?} is not an ID"),
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
}

/// An [`Endpoint`] with a token.
#[derive(Clone, Debug)]
pub struct Session {
    endpoint: Endpoint,
    token: SecretString,
}

impl Session {
    /// A session with `token`.
    #[must_use]
    pub fn new(endpoint: &Endpoint, token: SecretString) -> Self {
        Self {
            endpoint: endpoint.clone(),
            token,
        }
    }

    /// get-invite. Source: `GET /auth/invites/{inviteId}` of the `InviteApi`.
    pub async fn get_invite(&self, id: &str) -> Result<Invite, Error> {
        let answer = self
            .call(
                Method::GET,
                "get invite",
                &["auth", "invites", id],
                &[],
                NOTHING,
            )
            .await?;
        answer.read().await
    }

    /// Accepts or rejects an invite, with the invitee's own token. Source:
    /// `POST /users/self/invites/{inviteId}` of the `InviteApi`.
    pub async fn update_self_invite(
        &self,
        id: &str,
        invite_answer: InviteAnswer,
    ) -> Result<Invite, Error> {
        let status = match invite_answer {
            InviteAnswer::Accept => "accept",
            InviteAnswer::Reject => "reject",
        };
        let body = wire::UpdateInvite {
            invite_status: status,
        };
        let answer = self
            .call(
                Method::POST,
                "update invite",
                &["users", "self", "invites", id],
                &[],
                Some(&body),
            )
            .await?;
        answer.read().await
    }

    async fn call<B: Serialize + ?Sized>(
        &self,
        method: Method,
        operation: &'static str,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&B>,
    ) -> Result<Answer, Error> {
        let began = Instant::now();
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", self.token.expose_secret()))
            .map_err(|_| {
                unknown(
                    "the token has characters that no header can carry",
                    None,
                    None,
                )
            })?;
        bearer.set_sensitive(true);
        let mut request = self
            .endpoint
            .http
            .request(method.clone(), self.endpoint.url(path)?)
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, "application/json");
        if !query.is_empty() {
            request = request.query(query);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = match request.send().await {
            Ok(response) => Answer::new(response).await,
            Err(error) => Err(unknown(transport(&error, self.endpoint.host()), None, None)),
        };
        let status = match &answer {
            Ok(answer) => Some(answer.status.as_u16()),
            Err(error) => error.status(),
        };
        tracing::debug!(
            operation,
            status,
            seconds = began.elapsed().as_secs_f64(),
            "called Astro"
        );
        answer
    }
}

const NOTHING: Option<&()> = None;

/// A successful answer whose body is read.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    async fn new(mut response: Response) -> Result<Self, Error> {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(None) => break,
                Ok(Some(chunk)) if body.len() + chunk.len() > BODY_LIMIT => {
                    return Err(unknown(
                        format!("the answer is longer than {} MiB", BODY_LIMIT >> 20),
                        Some(status),
                        None,
                    ));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Err(error) => return Err(unknown(transport(&error, "Astro"), Some(status), None)),
            }
        }
        if status.is_success() {
            return Ok(Self {
                status,
                headers,
                body,
            });
        }
        let said: Option<wire::ErrorBody> = serde_json::from_slice(&body).ok();
        let said = said.filter(|said| {
            said.message.is_some() && (said.status_code.is_some() || said.request_id.is_some())
        });
        let from_api = said.is_some();
        let said = said.unwrap_or_default();
        let message = said.message.map_or_else(
            || "the body is not the API's own".to_owned(),
            |message| clean(&message),
        );
        let request_id = said.request_id.map(|id| clean(&id));
        if status.is_client_error()
            && status != StatusCode::REQUEST_TIMEOUT
            && status.as_u16() != 499
        {
            return Err(Error::Refused(Refusal {
                status: status.as_u16(),
                from_api,
                message,
                field_errors: said
                    .field_errors
                    .into_iter()
                    .map(|mut error| {
                        error.field = clean(&error.field);
                        error.message = clean(&error.message);
                        error
                    })
                    .collect(),
                request_id,
                retry_after: (status == StatusCode::TOO_MANY_REQUESTS)
                    .then(|| retry_after(&headers))
                    .flatten(),
            }));
        }
        Err(unknown(
            format!("Astro answered {}: {message}", status.as_u16()),
            Some(status),
            request_id,
        ))
    }

    /// Reads the body. A success that cannot be read may still have had its effect.
    fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // The kind and the place, not the text: a body may hold what nobody may see.
            let what = match error.classify() {
                serde_json::error::Category::Data => "lacks what it must have",
                _ => "is not JSON",
            };
            unknown(
                format!(
                    "Astro answered {}, but the body {what}",
                    self.status.as_u16()
                ),
                Some(self.status),
                None,
            )
        })
    }

    async fn read(&self) -> Result<Invite, Error> {
        self.parse::<wire::Invite>().map(Invite::from)
    }

    fn date(&self) -> Option<Timestamp> {
        http_date(self.headers.get(DATE)?)
    }
}

/// The calls for one organization.
pub struct Client {
    session: Session,
    organization_id: String,
    /// Astro's clock at its last answer, and when that was by ours.
    clock: Mutex<Option<(Timestamp, Instant)>>,
}

impl Client {
    /// A client for the organization with that ID.
    #[must_use]
    pub fn new(endpoint: &Endpoint, organization_id: &str, token: SecretString) -> Self {
        Self {
            session: Session::new(endpoint, token),
            organization_id: organization_id.to_owned(),
            clock: Mutex::default(),
        }
    }

    async fn call<B: Serialize + ?Sized>(
        &self,
        method: Method,
        operation: &'static str,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&B>,
    ) -> Result<Answer, Error> {
        let answer = self
            .session
            .call(method, operation, path, query, body)
            .await?;
        if let Some(date) = answer.date() {
            *self.clock.lock() = Some((date, Instant::now()));
        }
        Ok(answer)
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
        self.call(Method::POST, "create invite", &path, &[], Some(&body))
            .await?
            .read()
            .await
    }

    async fn get_invite(&self, id: &str) -> Result<Invite, Error> {
        self.call(
            Method::GET,
            "get invite",
            &["auth", "invites", id],
            &[],
            NOTHING,
        )
        .await?
        .read()
        .await
    }

    async fn delete_invite(&self, id: &str) -> Result<(), Error> {
        let path = ["organizations", &self.organization_id, "invites", id];
        self.call(Method::DELETE, "delete invite", &path, &[], NOTHING)
            .await
            .map(drop)
    }

    async fn list_users(
        &self,
        listing: Listing,
        offset: usize,
        limit: usize,
    ) -> Result<UserPage, Error> {
        let mut query = vec![
            ("offset", offset.to_string()),
            ("limit", limit.to_string()),
            ("sorts", "createdAt:asc".to_owned()),
        ];
        if listing == Listing::WithInvites {
            query.push(("hasInvites", "true".to_owned()));
        }
        let path = ["organizations", &self.organization_id, "users"];
        let answer = self
            .call(Method::GET, "list users", &path, &query, NOTHING)
            .await?;
        answer.parse::<wire::UserPage>().map(UserPage::from)
    }

    fn server_time(&self) -> Option<Timestamp> {
        let (date, at) = (*self.clock.lock())?;
        Some(date + at.elapsed())
    }
}

fn unknown(
    message: impl Into<String>,
    status: Option<StatusCode>,
    request_id: Option<String>,
) -> Error {
    Error::Unknown {
        message: message.into(),
        status: status.map(|status| status.as_u16()),
        request_id,
    }
}

/// What went wrong on the way, without the URL: it may hold an address or an ID.
fn transport(error: &reqwest::Error, host: &str) -> String {
    if error.is_timeout() {
        return format!("{host} did not answer in time");
    }
    if error.is_connect() {
        return format!("cannot connect to {host}");
    }
    "the connection was cut before the answer was complete".to_owned()
}

/// A text of the API that may be shown: no control characters, and not endless.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

fn http_date(value: &HeaderValue) -> Option<Timestamp> {
    let zoned = jiff::fmt::rfc2822::parse(value.to_str().ok()?).ok()?;
    Some(zoned.timestamp())
}

/// `Retry-After`, in seconds or as a date, at most an hour.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?;
    let wait = match value.to_str().ok()?.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let now = headers
                .get(DATE)
                .and_then(http_date)
                .unwrap_or_else(Timestamp::now);
            Duration::try_from(http_date(value)?.duration_since(now)).unwrap_or_default()
        }
    };
    Some(wait.min(Duration::from_hours(1)))
}
