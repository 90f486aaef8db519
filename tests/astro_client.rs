//! Tests of the HTTP client, against scripted bytes and against the fake of the Astro API.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};
use orginvite_operator::astro::http::{Client, Endpoint, Session};
use orginvite_operator::astro::{Astro, Error, InviteAnswer, Listing, Refusal, Role, UserStatus};
use parking_lot::Mutex;
use support::fake_astro::FakeAstro;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TOKEN: &str = "token-that-nobody-may-see";

/// A server that gives the same bytes to everybody and keeps what it was sent.
struct Scripted {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    async fn start(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1alpha1", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&requests), answer.into());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                kept.lock().push(request);
                stream.write_all(&answer).await.ok();
                stream.shutdown().await.ok();
            }
        });
        Self { url, requests }
    }

    async fn json(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::start(format!(
            "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
        .await
    }

    fn client(&self) -> Client {
        client(&self.url)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

/// One request, headers and body.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return text,
            Ok(read) => text.push_str(std::str::from_utf8(&buffer[..read]).unwrap()),
        }
    }
}

/// As `main` does it.
fn install_cryptography() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
}

fn endpoint(url: &str) -> Endpoint {
    install_cryptography();
    Endpoint::with_deadline(url, Duration::from_secs(5)).unwrap()
}

fn client(url: &str) -> Client {
    Client::new(&endpoint(url), "org1", TOKEN.into())
}

fn refusal(error: Error) -> Refusal {
    match error {
        Error::Refused(refusal) => refusal,
        Error::Unknown { .. } => panic!("{error:?}"),
    }
}

/// The message of an unknown outcome, which names neither the token nor the address nor the ID.
fn unknown(error: &Error) -> String {
    let Error::Unknown { message, .. } = error else {
        panic!("{error:?}")
    };
    for secret in [TOKEN, "ann@astro.example", "invite-7"] {
        assert!(!format!("{error:?}").contains(secret), "{error:?}");
    }
    message.clone()
}

#[tokio::test]
async fn a_request_is_written_as_documented() {
    let server = Scripted::json(200, "", r#"{"inviteId":"i1"}"#).await;
    let client = server.client();
    let host = server.url.split('/').nth(2).unwrap();
    client
        .create_invite("ann@astro.example", Role::OrganizationMember)
        .await
        .unwrap();
    let request = server.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    let first = lines.remove(0);
    lines.sort_unstable();
    assert_eq!(first, "POST /v1alpha1/organizations/org1/invites HTTP/1.1");
    assert_eq!(
        lines,
        [
            "accept: application/json",
            &format!("authorization: Bearer {TOKEN}"),
            &format!("content-length: {}", body.len()),
            "content-type: application/json",
            &format!("host: {host}"),
            concat!("user-agent: orginvite-operator/", env!("CARGO_PKG_VERSION")),
        ]
    );
    assert_eq!(
        body,
        r#"{"inviteeEmail":"ann@astro.example","role":"ORGANIZATION_MEMBER"}"#
    );
}

#[tokio::test]
async fn every_call_has_its_path() {
    let server = Scripted::json(
        200,
        "",
        r#"{"inviteId":"i1","users":[],"totalCount":0,"limit":1,"offset":0}"#,
    )
    .await;
    let client = server.client();
    let session = Session::new(&endpoint(&server.url), TOKEN.into());
    client.get_invite("../users").await.unwrap();
    client.delete_invite("a/b?c#d").await.unwrap();
    client.list_users(Listing::Everybody, 0, 100).await.unwrap();
    client
        .list_users(Listing::WithInvites, 100, 50)
        .await
        .unwrap();
    session
        .update_self_invite("i1", InviteAnswer::Accept)
        .await
        .unwrap();
    session
        .update_self_invite("i1", InviteAnswer::Reject)
        .await
        .unwrap();
    let requests = server.requests();
    let firsts: Vec<&str> = requests.iter().filter_map(|r| r.lines().next()).collect();
    assert_eq!(
        firsts,
        [
            "GET /v1alpha1/auth/invites/..%2Fusers HTTP/1.1",
            "DELETE /v1alpha1/organizations/org1/invites/a%2Fb%3Fc%23d HTTP/1.1",
            "GET /v1alpha1/organizations/org1/users?offset=0&limit=100&sorts=createdAt%3Aasc HTTP/1.1",
            "GET /v1alpha1/organizations/org1/users?offset=100&limit=50&sorts=createdAt%3Aasc&hasInvites=true HTTP/1.1",
            "POST /v1alpha1/users/self/invites/i1 HTTP/1.1",
            "POST /v1alpha1/users/self/invites/i1 HTTP/1.1",
        ]
    );
    assert!(requests[4].ends_with(r#"{"inviteStatus":"accept"}"#));
    assert!(requests[5].ends_with(r#"{"inviteStatus":"reject"}"#));
    let error = client.get_invite("..").await.unwrap_err();
    assert!(!refusal(error).from_api);
    assert_eq!(server.requests().len(), 6, "it is not sent");
}

#[tokio::test]
async fn a_refusal_is_proof_and_anything_else_is_not() {
    for status in [
        400, 401, 403, 404, 408, 409, 410, 429, 499, 500, 502, 503, 504,
    ] {
        let body = format!(r#"{{"message":"no","requestId":"r1","statusCode":{status}}}"#);
        let server = Scripted::json(status, "", &body).await;
        let error = server.client().delete_invite("invite-7").await.unwrap_err();
        assert_eq!(error.status(), Some(status));
        assert_eq!(error.request_id(), Some("r1"));
        assert_eq!(error.says_absent(), status == 404);
        let refused = status < 500 && status != 408 && status != 499;
        assert_eq!(matches!(error, Error::Refused(_)), refused, "{status}");
        assert_eq!(server.requests().len(), 1, "{status} is not tried again");
    }
}

#[tokio::test]
async fn a_gateways_page_says_nothing_about_an_invite() {
    let page = "<html>ann@astro.example</html>";
    for status in [400, 403, 404] {
        let server = Scripted::json(status, "", page).await;
        let error = server.client().get_invite("invite-7").await.unwrap_err();
        assert!(!error.says_absent() && !error.says_forbidden() && !error.says_bad_request());
        let refusal = refusal(error);
        assert!(!refusal.from_api);
        assert!(!refusal.message.contains("html"));
    }
    for body in ["", page, "{}", r#"{"inviteId":""}"#, r#"{"inviteId":7}"#] {
        let server = Scripted::json(200, "", body).await;
        let error = server
            .client()
            .create_invite("ann@astro.example", Role::OrganizationMember)
            .await
            .unwrap_err();
        assert!(unknown(&error).starts_with("Astro answered 200: the body "));
    }
}

#[tokio::test]
async fn a_cut_connection_leaves_the_outcome_unknown() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        "SSH-2.0\r\n",
    ] {
        let server = Scripted::start(answer).await;
        let error = server
            .client()
            .create_invite("ann@astro.example", Role::OrganizationMember)
            .await
            .unwrap_err();
        let message = unknown(&error);
        assert_eq!(
            message, "the connection to 127.0.0.1 ended before a complete answer",
            "{answer:?}"
        );
        assert_eq!(server.requests().len(), 1, "it is not sent again");
    }
}

#[tokio::test]
async fn nobody_there_and_nobody_answering_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    install_cryptography();
    let slow = Endpoint::with_deadline(&url, Duration::from_millis(200)).unwrap();
    let session = Session::new(&slow, TOKEN.into());
    let error = session.get_invite("invite-7").await.unwrap_err();
    assert_eq!(unknown(&error), "127.0.0.1 did not answer within 200ms");
    drop(listener);
    let error = session.get_invite("invite-7").await.unwrap_err();
    let message = unknown(&error);
    assert!(
        message.starts_with("cannot connect to 127.0.0.1: "),
        "{message}"
    );
}

#[tokio::test]
async fn a_body_without_end_is_not_read() {
    let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
    let server = Scripted::start([head, vec![b' '; 9 << 20]].concat()).await;
    let error = server
        .client()
        .list_users(Listing::Everybody, 0, 100)
        .await
        .unwrap_err();
    assert_eq!(unknown(&error), "Astro answered 200 with more than 8 MiB");
}

#[tokio::test]
async fn a_redirect_takes_the_token_to_nobody_else() {
    let other = Scripted::json(200, "", r#"{"inviteId":"i1"}"#).await;
    for status in [301, 302, 303, 307, 308] {
        let away = format!("Location: {}/x\r\n", other.url);
        let server = Scripted::json(status, &away, "").await;
        let error = server.client().get_invite("invite-7").await.unwrap_err();
        assert_eq!(
            unknown(&error),
            format!("Astro answered {status}: a redirect that is not followed")
        );

        // Within the host: a GET a few times, a POST and a DELETE never.
        let server = Scripted::json(status, "Location: /v1alpha1/again\r\n", "").await;
        let client = server.client();
        unknown(&client.get_invite("invite-7").await.unwrap_err());
        assert_eq!(server.requests().len(), 4);
        unknown(&client.delete_invite("invite-7").await.unwrap_err());
        let created = client.create_invite("ann@astro.example", Role::OrganizationMember);
        unknown(&created.await.unwrap_err());
        assert_eq!(server.requests().len(), 6);
    }
    assert_eq!(other.requests().len(), 0);
}

#[tokio::test]
async fn too_many_requests_says_how_long_to_wait() {
    let date = Timestamp::from_second(Timestamp::now().as_second() - 1800).unwrap();
    let text = DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&date)
        .unwrap();
    let headers = format!("Retry-After: 7\r\nDate: {text}\r\n");
    let server = Scripted::json(429, &headers, "").await;
    let client = server.client();
    assert_eq!(client.server_time(), None);
    let refusal = refusal(client.get_invite("invite-7").await.unwrap_err());
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(7)));
    let late = client.server_time().unwrap().duration_since(date);
    assert!((SignedDuration::ZERO..SignedDuration::from_secs(5)).contains(&late));
}

#[tokio::test]
async fn a_date_far_away_is_believed_within_the_tolerance() {
    for (date, hours) in [
        ("Thu, 30 Dec 9999 22:00:00 GMT", 1),
        ("Tue, 24 Nov 2099 08:00:00 GMT", 1),
        ("Thu, 01 Jan 1970 00:00:00 GMT", -1),
    ] {
        let server = Scripted::json(204, &format!("Date: {date}\r\n"), "").await;
        let client = server.client();
        client.delete_invite("invite-7").await.unwrap();
        let off = client
            .server_time()
            .unwrap()
            .duration_since(Timestamp::now());
        let late = off - SignedDuration::from_hours(hours);
        assert!(late.abs() < SignedDuration::from_secs(5), "{date}: {off}");
    }
}

#[tokio::test]
async fn a_token_is_never_shown() {
    let client = client("http://127.0.0.1:1");
    assert!(!format!("{client:?}").contains(TOKEN));
    let odd = Session::new(&endpoint("http://127.0.0.1:1"), format!("{TOKEN}\n").into());
    let error = odd.get_invite("invite-7").await.unwrap_err();
    assert!(unknown(&error).starts_with("not sent: "));
}

#[tokio::test]
async fn the_fake_of_astro_is_understood() {
    let astro = FakeAstro::start().await.unwrap();
    let endpoint = endpoint(&astro.url());
    let client = Client::new(&endpoint, astro.organization_id(), astro.token().into());
    let invite = client
        .create_invite("ann@astro.example", Role::OrganizationMember)
        .await
        .unwrap();
    assert_eq!(invite.organization_id, astro.organization_id());
    assert!(invite.expires_at.unwrap() > client.server_time().unwrap());
    assert_eq!(client.get_invite(&invite.id).await.unwrap(), invite);
    let page = client
        .list_users(Listing::WithInvites, 0, 100)
        .await
        .unwrap();
    let [ann] = page.users.as_slice() else {
        panic!("{page:?}")
    };
    assert_eq!(ann.status, UserStatus::Pending);
    assert_eq!(ann.invites.len(), 1);

    let session = Session::new(&endpoint, astro.user_token("ann@astro.example").into());
    let accept = session.update_self_invite(&invite.id, InviteAnswer::Accept);
    accept.await.unwrap();
    assert!(astro.is_member("ann@astro.example"));

    let second = client.create_invite("bob@astro.example", Role::OrganizationMember);
    let second = second.await.unwrap();
    client.delete_invite(&second.id).await.unwrap();
    let gone = client.get_invite(&second.id).await.unwrap_err();
    assert!(gone.says_absent(), "{gone:?}");
    assert_eq!(astro.violations().len(), 0);
}
