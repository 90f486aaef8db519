//! The fake of the Astro API, over HTTP.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use support::fake_astro::{
    Answer, Api, Behaviour, DefaultList, DeleteAccepted, DeleteExpired, EmailCase, ExpiresAt,
    FakeAstro, Fault, GetEnded, HoldPoint, InviteState, InviterKind, InvitesShown, Limits,
    ListUsers, OWNER_EMAIL, Operation, Options, Outcome, PostMember, PostPending, RoleOfPending,
    RowAfterExpiry, RowAfterWithdrawal, SECRET_PREFIX, Search, Shown, Target, Times, UserStatus,
    canonical,
};

const MEMBER: &str = "ORGANIZATION_MEMBER";
const JANE: &str = "jane@example.com";

/// A correct client of one fake.
struct Astro {
    fake: FakeAstro,
    http: Client,
}

impl Astro {
    async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    async fn start_with(options: Options) -> Self {
        // The HTTP client wants a provider even where nothing is encrypted; another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            fake: FakeAstro::start_with(options).await.unwrap(),
            http: Client::new(),
        }
    }

    async fn behaving(behaviour: Behaviour) -> Self {
        let astro = Self::start().await;
        astro.fake.set_behaviour(behaviour);
        astro
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.fake.url()))
            .bearer_auth(self.fake.token())
            .header("Accept", "application/json")
    }

    fn organization(&self, path: &str) -> String {
        format!("/organizations/{}{path}", self.fake.organization_id())
    }

    fn invitation(&self, email: &str) -> RequestBuilder {
        self.request(Method::POST, &self.organization("/invites"))
            .json(&json!({"inviteeEmail": email, "role": MEMBER}))
    }

    async fn invite(&self, email: &str) -> (u16, Value) {
        answer(self.invitation(email)).await
    }

    /// Invites, and returns the invite's id.
    async fn invited(&self, email: &str) -> String {
        let (status, invite) = self.invite(email).await;
        assert_eq!(status, 200, "{invite}");
        invite["inviteId"].as_str().unwrap().to_owned()
    }

    async fn get(&self, invite: &str) -> (u16, Value) {
        answer(self.request(Method::GET, &format!("/auth/invites/{invite}"))).await
    }

    async fn delete(&self, invite: &str) -> (u16, Value) {
        let path = self.organization(&format!("/invites/{invite}"));
        answer(self.request(Method::DELETE, &path)).await
    }

    async fn list(&self, query: &[(&str, &str)]) -> (u16, Value) {
        answer(
            self.request(Method::GET, &self.organization("/users"))
                .query(query),
        )
        .await
    }

    /// The row of an address in a list.
    async fn row(&self, email: &str, query: &[(&str, &str)]) -> Option<Value> {
        let (status, list) = self.list(query).await;
        assert_eq!(status, 200, "{list}");
        list["users"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["username"] == email)
            .cloned()
    }

    async fn usernames(&self, query: &[(&str, &str)]) -> Vec<String> {
        let (status, list) = self.list(query).await;
        assert_eq!(status, 200, "{list}");
        let name = |row: &Value| row["username"].as_str().unwrap().to_owned();
        list["users"].as_array().unwrap().iter().map(name).collect()
    }

    async fn set_role(&self, user: &str, role: &str) -> (u16, Value) {
        let path = self.organization(&format!("/users/{user}/role"));
        answer(
            self.request(Method::POST, &path)
                .json(&json!({"role": role})),
        )
        .await
    }
}

/// The status, and the body as JSON or as a string.
async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    assert!(response.headers().contains_key("date"));
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    if status >= 400 && body.is_object() {
        assert_eq!(body["statusCode"], status, "{body}");
        assert!(
            body["message"].is_string() && body["requestId"].is_string(),
            "{body}"
        );
    }
    (status, body)
}

const ALL: &[(&str, &str)] = &[];
const INVITED: &[(&str, &str)] = &[("hasInvites", "true")];

#[tokio::test]
async fn an_invite_is_sent_seen_accepted_and_the_member_removed() {
    let astro = Astro::start().await;
    let fake = &astro.fake;
    let (status, invite) = astro.invite("Jane@Example.com").await;
    assert_eq!(status, 200);
    let id = invite["inviteId"].as_str().unwrap();
    assert_eq!(invite["organizationId"], fake.organization_id());
    assert_eq!(invite["invitee"]["username"], "Jane@Example.com");
    assert_eq!(invite["inviter"]["subjectType"], "USER");
    assert_eq!(invite["inviter"]["id"], fake.user(OWNER_EMAIL).unwrap().id);
    assert!(invite.get("role").is_none() && invite.get("email").is_none());
    for secret in ["ticketId", "oAuthInviteId"] {
        assert!(invite[secret].as_str().unwrap().starts_with(SECRET_PREFIX));
    }
    let expires_at: Timestamp = invite["expiresAt"].as_str().unwrap().parse().unwrap();
    let lifetime = expires_at.duration_since(Timestamp::now());
    assert!(
        (SignedDuration::from_hours(167)..=SignedDuration::from_hours(168)).contains(&lifetime)
    );

    assert_eq!(fake.emails_to(JANE), 1);
    assert_eq!(
        fake.emails().into_iter().collect::<Vec<_>>(),
        [(JANE.to_owned(), 1)]
    );
    assert_eq!(fake.mails()[0].invite_id, id);
    assert_eq!(astro.get(id).await, (200, invite.clone()));
    assert_eq!(
        astro.get(invite["ticketId"].as_str().unwrap()).await,
        (200, invite.clone())
    );
    let row = astro.row("Jane@Example.com", INVITED).await.unwrap();
    assert_eq!(row["status"], "PENDING");
    assert_eq!(row["orgRole"], MEMBER);
    assert_eq!(row["invites"], json!([invite]));

    let accept = |token: String| {
        astro
            .http
            .post(format!("{}/users/self/invites/{id}", fake.url()))
            .bearer_auth(token)
            .header("Accept", "application/json")
            .json(&json!({"inviteStatus": "accept"}))
    };
    assert_eq!(answer(accept(fake.token())).await.0, 403);
    assert_eq!(
        answer(accept(fake.user_token("joe@example.com"))).await.0,
        403
    );
    assert_eq!(answer(accept(fake.user_token(JANE))).await.0, 200);
    assert_eq!(fake.invite(id).unwrap().state, InviteState::Accepted);
    assert!(fake.is_member(JANE) && fake.live_invites(JANE).is_empty());

    let row = astro.row("Jane@Example.com", ALL).await.unwrap();
    assert_eq!(
        (&row["status"], &row["orgRole"]),
        (&json!("ACTIVE"), &json!(MEMBER))
    );
    assert_eq!(astro.row("Jane@Example.com", INVITED).await, None);
    let user = row["id"].as_str().unwrap();
    assert_eq!(astro.set_role(user, "ORGANIZATION_OWNER").await.0, 200);
    assert_eq!(fake.user(JANE).unwrap().role, "ORGANIZATION_OWNER");
    let path = astro.organization(&format!("/users/{user}"));
    let (status, shown) = answer(astro.request(Method::GET, &path)).await;
    assert_eq!(
        (status, &shown["username"]),
        (200, &json!("Jane@Example.com"))
    );
    assert_eq!(
        answer(astro.request(Method::DELETE, &path)).await,
        (204, json!(""))
    );
    assert_eq!(answer(astro.request(Method::DELETE, &path)).await.0, 404);
    assert!(!fake.is_member(JANE));

    assert_eq!(fake.count(Operation::CreateInvite), 1);
    let created = &fake.calls()[0];
    assert_eq!(created.email.as_deref(), Some(JANE));
    assert_eq!(created.invite_id.as_deref(), Some(id));
    assert_eq!(created.outcome, Outcome::Status(200));
    fake.assert_contract_kept().unwrap();
}

#[tokio::test]
async fn the_controls_change_what_the_api_shows() {
    let astro = Astro::start().await;
    let fake = &astro.fake;
    let id = astro.invited(JANE).await;
    assert_eq!(astro.delete(&id).await.0, 204);
    assert_eq!(astro.delete(&id).await.0, 404);
    assert_eq!(astro.row(JANE, ALL).await, None);
    assert!(fake.accept(&id).is_err() && fake.revoke(&id).is_err());

    let second = astro.invited(JANE).await;
    fake.reject(&second).unwrap();
    assert_eq!(astro.delete(&second).await.0, 404);
    let third = astro.invited(JANE).await;
    fake.revoke(&third).unwrap();
    assert_eq!(astro.get(&third).await.0, 404);
    assert_eq!(fake.emails_to(JANE), 3);
    assert_eq!(
        fake.users().len(),
        2,
        "the owner and one row for all invites"
    );

    let by_hand = fake.invite_on_web_page("joe@example.com", MEMBER).unwrap();
    assert_eq!(
        (fake.emails_to("joe@example.com"), fake.web_mails().len()),
        (0, 1)
    );
    assert_eq!(astro.get(&by_hand).await.0, 200);
    fake.add_member("ann@example.com", MEMBER).unwrap();
    fake.set_user_status("ann@example.com", UserStatus::Banned)
        .unwrap();
    fake.set_user_role("ann@example.com", "ORGANIZATION_OWNER")
        .unwrap();
    fake.set_idp_managed("ann@example.com", true).unwrap();
    let ann = astro.row("ann@example.com", ALL).await.unwrap();
    assert_eq!(ann["status"], "BANNED");
    assert_eq!(ann["orgRole"], "ORGANIZATION_OWNER");
    assert_eq!(ann["orgUserRelationIsIdpManaged"], true);
    fake.remove_member("ann@example.com").unwrap();
    assert_eq!(astro.row("ann@example.com", ALL).await, None);
    assert!(fake.remove_member("ann@example.com").is_err());
    assert!(fake.add_member("ann", MEMBER).is_err() && fake.add_member(JANE, "OWNER").is_err());

    // The clock alone ends an invite.
    fake.set_invite_lifetime(Duration::from_millis(30));
    let short = astro.invited("sue@example.com").await;
    while !fake.live_invites("sue@example.com").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(astro.get(&short).await.0, 404);
    fake.set_invite_lifetime(Duration::from_hours(1));
    let long = astro.invited("sue@example.com").await;
    fake.set_clock_offset(SignedDuration::from_hours(2));
    let response = astro
        .request(Method::GET, &format!("/auth/invites/{long}"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 404);
    let date = response.headers()["date"].to_str().unwrap();
    let date = jiff::fmt::rfc2822::parse(date).unwrap().timestamp();
    assert!(date.duration_since(Timestamp::now()) > SignedDuration::from_mins(119));
}

#[tokio::test]
async fn tokens_are_good_for_their_organizations_only() {
    let astro = Astro::start().await;
    let fake = &astro.fake;
    let id = astro.invited(JANE).await;
    let other = fake.organization("other");
    let ask = async |token: &str, path: &str| {
        let url = format!("{}{path}", fake.url());
        let request = astro
            .http
            .get(url)
            .bearer_auth(token)
            .header("Accept", "application/json");
        answer(request).await.0
    };
    let own = astro.organization("/users");
    assert_eq!(ask(&other.token(), "/organizations/other/users").await, 200);
    assert_eq!(ask(&other.token(), &own).await, 403);
    assert_eq!(
        ask(&other.token(), &format!("/auth/invites/{id}")).await,
        404
    );
    fake.add_token("both", &["other", fake.organization_id()]);
    assert_eq!(ask("both", &own).await, 200);
    assert_eq!(ask("both", "/organizations/other/users").await, 200);
    assert_eq!(other.emails_to(JANE), 0);
    fake.assert_contract_kept().unwrap();
    assert_eq!(ask("both", "/organizations/none/users").await, 404);
    assert_eq!(fake.violations().len(), 1);

    let old = fake.token();
    fake.replace_token("new");
    assert_eq!((ask(&old, &own).await, ask("new", &own).await), (401, 200));
    fake.revoke_token();
    assert_eq!(ask("new", &own).await, 401);
    assert_eq!(ask(&other.token(), "/organizations/other/users").await, 200);
}

#[tokio::test]
async fn what_the_documentation_does_not_allow_is_refused_and_recorded() {
    let astro = Astro::start().await;
    let bare = |path: &str| astro.http.get(format!("{}{path}", astro.fake.url()));
    let users = astro.organization("/users");
    let id = astro.invited(JANE).await;
    let invite = format!("/auth/invites/{id}");
    let cases = [
        (
            "no content type",
            415,
            astro
                .request(Method::POST, &astro.organization("/invites"))
                .body(r#"{"inviteeEmail":"a@b.example","role":"ORGANIZATION_MEMBER"}"#),
        ),
        (
            "no Accept",
            400,
            bare(&invite).bearer_auth(astro.fake.token()),
        ),
        (
            "wrong Accept",
            400,
            bare(&invite)
                .bearer_auth(astro.fake.token())
                .header("Accept", "text/html"),
        ),
        (
            "no token",
            401,
            bare(&invite).header("Accept", "application/json"),
        ),
        (
            "other scheme",
            401,
            bare(&invite)
                .basic_auth("a", Some("b"))
                .header("Accept", "application/json"),
        ),
        (
            "query on GET invite",
            400,
            astro.request(Method::GET, &format!("{invite}?x=1")),
        ),
        (
            "body on GET",
            400,
            astro.request(Method::GET, &invite).body("{}"),
        ),
        ("body on DELETE", 400, {
            let path = astro.organization(&format!("/invites/{id}"));
            astro.request(Method::DELETE, &path).body("{}")
        }),
        (
            "unknown path",
            404,
            astro.request(Method::GET, &astro.organization("/invites")),
        ),
        ("unknown method", 404, astro.request(Method::PUT, &users)),
        (
            "empty segment",
            404,
            astro.request(Method::GET, "/auth/invites/"),
        ),
        (
            "unknown organization",
            404,
            astro.request(Method::GET, "/organizations/none/users"),
        ),
    ];
    expect_violations(&astro, cases).await;
    assert!(astro.fake.assert_contract_kept().is_err());
    assert_eq!(astro.fake.mails().len(), 1);
    assert_eq!(
        astro.fake.live_invites(JANE).len(),
        1,
        "nothing else happened either"
    );

    // Refusals of correct requests are none of it.
    let before = astro.fake.violations().len();
    assert_eq!(astro.get("unknown").await.0, 404);
    assert_eq!(astro.delete("unknown").await.0, 404);
    astro.fake.revoke_token();
    assert_eq!(astro.get(&id).await.0, 401);
    assert_eq!(astro.fake.violations().len(), before);
}

/// Sends each request, which must be answered with its status and be recorded once.
async fn expect_violations(
    astro: &Astro,
    cases: impl IntoIterator<Item = (&str, u16, RequestBuilder)>,
) {
    for (count, (what, status, request)) in cases.into_iter().enumerate() {
        let (answered, body) = answer(request).await;
        assert_eq!(answered, status, "{what}: {body}");
        assert_eq!(astro.fake.violations().len(), count + 1, "{what}");
    }
}

#[tokio::test]
async fn bodies_are_read_strictly() {
    let astro = Astro::start().await;
    let post = |body: &str| {
        astro
            .request(Method::POST, &astro.organization("/invites"))
            .header("Content-Type", "application/json")
            .body(body.to_owned())
    };
    let cases = [
        (
            "unknown field",
            400,
            post(r#"{"inviteeEmail":"a@b.example","role":"ORGANIZATION_MEMBER","x":1}"#),
        ),
        (
            "missing field",
            400,
            post(r#"{"inviteeEmail":"a@b.example"}"#),
        ),
        (
            "unknown role",
            400,
            post(r#"{"inviteeEmail":"a@b.example","role":"OWNER"}"#),
        ),
        (
            "no address",
            400,
            post(r#"{"inviteeEmail":"a.example","role":"ORGANIZATION_MEMBER"}"#),
        ),
        (
            "spaces",
            400,
            post(r#"{"inviteeEmail":" a@b.example","role":"ORGANIZATION_MEMBER"}"#),
        ),
        ("no JSON", 400, post("inviteeEmail")),
    ];
    expect_violations(&astro, cases).await;
    assert!(astro.fake.mails().is_empty());
}

#[tokio::test]
async fn query_parameters_are_read_strictly() {
    let astro = Astro::start().await;
    let users = astro.organization("/users");
    let cases = [
        "page=1",
        "offset=1&offset=2",
        "limit=0",
        "limit=1001",
        "offset=-1",
        "hasInvites=yes",
        "sorts=username",
        "sorts=email:asc",
        "sorts=username:up",
    ];
    let request = |query: &str| astro.request(Method::GET, &format!("{users}?{query}"));
    let cases = cases.map(|query| (query, 400, request(query)));
    expect_violations(&astro, cases).await;
}

#[tokio::test]
async fn a_field_error_names_the_field() {
    let astro = Astro::start().await;
    let request = astro
        .request(Method::POST, &astro.organization("/invites"))
        .json(&json!({"inviteeEmail": "nobody", "role": MEMBER}));
    let (_, body) = answer(request).await;
    assert_eq!(body["fieldErrors"][0]["field"], "inviteeEmail");
}

#[tokio::test]
async fn answers_go_wrong_before_or_after_the_effect() {
    for (answer_, status) in [
        (Answer::Status(500), 500),
        (Answer::Status(403), 403),
        (Answer::Html(502), 502),
        (Answer::Html(200), 200),
        (Answer::Empty(503), 503),
        (Answer::Garbage, 200),
        (Answer::TooManyRequests(Some(3)), 429),
        (Answer::TooManyRequests(None), 429),
    ] {
        for (point, mails) in [(HoldPoint::BeforeEffect, 0), (HoldPoint::AfterEffect, 1)] {
            let astro = Astro::start().await;
            let fault = Fault::Answer(point, answer_.clone());
            astro
                .fake
                .fault(Operation::CreateInvite, fault, Times::Next(1));
            let response = astro.invitation(JANE).send().await.unwrap();
            assert_eq!(response.status(), status);
            let retry_after = response.headers().get("retry-after").cloned();
            let content_type = response.headers().get("content-type").cloned();
            let text = response.text().await.unwrap();
            match &answer_ {
                Answer::Status(_) => assert!(text.contains("requestId")),
                Answer::Html(_) => {
                    assert!(text.starts_with("<!DOCTYPE html>"));
                    assert!(
                        content_type
                            .unwrap()
                            .to_str()
                            .unwrap()
                            .starts_with("text/html")
                    );
                }
                Answer::Empty(_) => assert_eq!(text, ""),
                Answer::TooManyRequests(seconds) => {
                    let shown = retry_after.map(|value| value.to_str().unwrap().parse().unwrap());
                    assert_eq!(shown, *seconds);
                }
                _ => assert!(serde_json::from_str::<Value>(&text).is_err()),
            }
            assert_eq!(astro.fake.emails_to(JANE), mails, "{answer_:?} {point:?}");
            assert_eq!(astro.fake.calls()[0].outcome, Outcome::Status(status));
            // It struck once.
            assert_eq!(astro.invite(JANE).await.0, 200);
            assert_eq!(astro.fake.emails_to(JANE), 1);
        }
    }
}

#[tokio::test]
async fn a_cut_connection_gives_no_status_line() {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };
    for (point, mails) in [(HoldPoint::BeforeEffect, 0), (HoldPoint::AfterEffect, 1)] {
        let astro = Astro::start().await;
        let fault = Fault::Answer(point, Answer::Cut);
        astro
            .fake
            .fault(Operation::CreateInvite, fault, Times::Next(2));
        let error = astro.invitation(JANE).send().await.unwrap_err();
        assert!(error.is_request() && error.status().is_none(), "{error:?}");
        assert_eq!(astro.fake.emails_to(JANE), mails);
        assert_eq!(astro.fake.calls()[0].outcome, Outcome::Cut);

        let mut raw = TcpStream::connect(astro.fake.address()).await.unwrap();
        let body = json!({"inviteeEmail": "joe@example.com", "role": MEMBER}).to_string();
        let request = format!(
            "POST /v1alpha1{} HTTP/1.1\r\nHost: fake\r\nAuthorization: Bearer {}\r\n\
             Accept: application/json\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            astro.organization("/invites"),
            astro.fake.token(),
            body.len(),
        );
        raw.write_all(request.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        raw.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"", "not a byte");
        assert_eq!(astro.fake.emails_to("joe@example.com"), mails);
        astro.fake.assert_contract_kept().unwrap();
    }
}

#[tokio::test]
async fn faults_are_counted_targeted_and_cleared() {
    let astro = Astro::start().await;
    let fake = &astro.fake;
    let id = astro.invited(JANE).await;
    fake.fault(
        Operation::GetInvite,
        Fault::before(Answer::Status(500)),
        Times::Next(2),
    );
    fake.fault(
        Operation::GetInvite,
        Fault::before(Answer::Status(503)),
        Times::Next(1),
    );
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(astro.get(&id).await.0);
    }
    assert_eq!(statuses, [500, 500, 503, 200], "the oldest first");
    fake.fault(
        Target::Every,
        Fault::before(Answer::Status(500)),
        Times::UntilCleared,
    );
    for _ in 0..3 {
        assert_eq!(
            (astro.get(&id).await.0, astro.list(ALL).await.0),
            (500, 500)
        );
    }
    fake.clear_faults();
    assert_eq!(astro.get(&id).await.0, 200);

    let delay = Duration::from_millis(300);
    for point in [HoldPoint::BeforeEffect, HoldPoint::AfterEffect] {
        fake.fault(
            Operation::CreateInvite,
            Fault::Delay(point, delay),
            Times::Next(1),
        );
        let email = format!("{point:?}@example.com");
        let begun = Instant::now();
        let mut sending = std::pin::pin!(astro.invite(&email));
        // On a busy machine the time-out may come late, with the answer: then it shows nothing.
        let status = match tokio::time::timeout(delay / 3, &mut sending).await {
            Ok(answer) => answer.0,
            Err(_elapsed) => {
                let mails = fake.emails_to(&email);
                if begun.elapsed() < delay && point == HoldPoint::BeforeEffect {
                    assert_eq!(mails, 0);
                }
                sending.await.0
            }
        };
        assert_eq!(status, 200);
        assert!(begun.elapsed() >= delay);
        assert_eq!(fake.emails_to(&email), 1);
    }
}

#[tokio::test]
async fn a_gate_holds_one_call_until_it_is_released_or_dropped() {
    let astro = Astro::start().await;
    let fake = &astro.fake;
    for (point, email, mails) in [
        (HoldPoint::BeforeEffect, "before@example.com", 0),
        (HoldPoint::AfterEffect, "after@example.com", 1),
    ] {
        let mut gate = fake.hold(Operation::CreateInvite, point);
        let held = tokio::spawn(astro.invitation(email).send());
        let call = gate.arrived().await.unwrap();
        assert_eq!(call.email.as_deref(), Some(email));
        assert_eq!(call.invite_id.is_some(), mails == 1);
        assert_eq!(fake.emails_to(email), mails);
        assert_eq!(
            astro.invite(&format!("other-{email}")).await.0,
            200,
            "others pass"
        );
        assert!(!held.is_finished());
        gate.release();
        assert_eq!(held.await.unwrap().unwrap().status(), 200);
        assert_eq!(fake.emails_to(email), 1);
    }
    let gate = fake.hold(Operation::ListUsers, HoldPoint::BeforeEffect);
    drop(gate);
    assert_eq!(astro.list(ALL).await.0, 200);
}

#[tokio::test]
async fn a_client_that_goes_away_stops_nothing() {
    let astro = Astro::start().await;
    let mut gate = astro
        .fake
        .hold(Operation::CreateInvite, HoldPoint::BeforeEffect);
    let sending = tokio::spawn(astro.invitation(JANE).send());
    gate.arrived().await.unwrap();
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    astro.fake.cut_connections();
    gate.release();
    while astro.fake.calls()[0].outcome == Outcome::Open {
        tokio::task::yield_now().await;
    }
    assert_eq!(astro.fake.emails_to(JANE), 1);
}

#[tokio::test]
async fn it_stops_when_dropped() {
    let astro = Astro::start().await;
    let id = astro.invited(JANE).await;
    let request = astro.request(Method::GET, &format!("/auth/invites/{id}"));
    let address = astro.fake.address();
    drop(astro);
    assert!(
        request.send().await.is_err(),
        "neither on the open connection nor on a new one"
    );
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn the_published_limits_hold_when_told_to() {
    let astro = Astro::start().await;
    let fake = &astro.fake;
    fake.set_limits(Some(Limits {
        post: 2,
        delete: 1,
        get: 3,
        retry_after: Some(7),
    }));
    let begun = Instant::now();
    let mut refused = 0_u32;
    for at in 0..12 {
        let response = astro
            .invitation(&format!("p{at}@example.com"))
            .send()
            .await
            .unwrap();
        if response.status() == 429 {
            refused += 1;
            assert_eq!(response.headers()["retry-after"], "7");
        }
    }
    // Two at once, and two more for each second that the machine took.
    let granted = 12 - refused;
    assert!(granted >= 2 && f64::from(granted) <= 2.0 + 2.0 * begun.elapsed().as_secs_f64());
    assert_eq!(
        fake.mails().len(),
        granted as usize,
        "a refused call has no effect"
    );
    assert_eq!(fake.limited(), refused as usize);
    assert_eq!(astro.list(ALL).await.0, 200, "each verb has its own");

    fake.set_limits(Some(Limits {
        retry_after: None,
        post: 0,
        ..Limits::default()
    }));
    let response = astro.invitation(JANE).send().await.unwrap();
    assert!(response.status() == 429 && !response.headers().contains_key("retry-after"));
    fake.set_limits(None);
    assert_eq!(astro.invite(JANE).await.0, 200);
}

#[tokio::test]
async fn lists_come_in_sorted_pages() {
    let astro = Astro::start().await;
    for at in 0..25 {
        astro
            .fake
            .add_member(&format!("m{at:02}@example.com"), MEMBER)
            .unwrap();
    }
    let (_, page) = astro.list(ALL).await;
    assert_eq!(page["users"].as_array().unwrap().len(), 20);
    assert_eq!(
        (&page["limit"], &page["offset"], &page["totalCount"]),
        (&json!(20), &json!(0), &json!(26))
    );
    let by_name = ("sorts", "username:asc");
    let names = astro
        .usernames(&[by_name, ("offset", "20"), ("limit", "10")])
        .await;
    assert_eq!(names.len(), 6);
    assert_eq!(
        (names[0].as_str(), names[5].as_str()),
        ("m20@example.com", OWNER_EMAIL)
    );
    assert!(
        astro
            .usernames(&[by_name, ("offset", "26")])
            .await
            .is_empty()
    );
    let names = astro
        .usernames(&[("sorts", "username:desc"), ("limit", "1")])
        .await;
    assert_eq!(names, [OWNER_EMAIL]);
    for field in ["createdAt", "id", "fullName", "updatedAt"] {
        let sorts = [
            ("sorts", format!("{field}:asc")),
            ("sorts", "username:asc".to_owned()),
        ];
        let query: Vec<_> = sorts
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let (_, page) = astro.list(&query).await;
        let values: Vec<String> = page["users"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row[field].to_string())
            .collect();
        // Timestamps of different precision do not sort as text; those are in order of creation.
        if field == "id" || field == "fullName" {
            assert!(values.is_sorted(), "{field}: {values:?}");
        } else {
            assert_eq!(page["users"][0]["username"], OWNER_EMAIL);
        }
    }
    astro.fake.assert_contract_kept().unwrap();
}

#[tokio::test]
async fn rows_shift_between_pages() {
    let astro = Astro::start().await;
    for name in ["a", "b", "c", "d"] {
        astro
            .fake
            .add_member(&format!("{name}@example.com"), MEMBER)
            .unwrap();
    }
    let page = async |offset| {
        astro
            .usernames(&[
                ("sorts", "username:asc"),
                ("limit", "2"),
                ("offset", offset),
            ])
            .await
    };
    astro
        .fake
        .after_list_pages(1, |fake| fake.remove_member("a@example.com").unwrap());
    astro.fake.after_list_pages(3, |fake| {
        fake.add_member("a@example.com", MEMBER).unwrap();
    });
    assert_eq!(page("0").await, ["a@example.com", "b@example.com"]);
    assert_eq!(
        page("2").await,
        ["d@example.com", OWNER_EMAIL],
        "c is in no page"
    );
    assert_eq!(page("0").await, ["b@example.com", "c@example.com"]);
    assert_eq!(
        page("2").await,
        ["c@example.com", "d@example.com"],
        "c is in both"
    );
}

#[tokio::test]
async fn lists_lag_and_get_does_not() {
    let astro = Astro::start().await;
    let fake = &astro.fake;
    let delay = Duration::from_millis(200);
    fake.change_behaviour(|behaviour| behaviour.list_delay = delay);
    let begun = Instant::now();
    let id = astro.invited(JANE).await;
    assert_eq!(astro.get(&id).await.0, 200);
    let early = astro.row(JANE, INVITED).await;
    assert!(early.is_none() || begun.elapsed() >= delay, "too early");
    while astro.row(JANE, INVITED).await.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never listed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(begun.elapsed() >= delay);

    let accepted = Instant::now();
    fake.accept(&id).unwrap();
    loop {
        let row = astro.row(JANE, ALL).await.unwrap();
        if row["status"] == "ACTIVE" {
            break;
        }
        assert_eq!(row["invites"][0]["inviteId"], id, "the past is consistent");
        assert!(accepted.elapsed() < Duration::from_secs(30), "never listed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(accepted.elapsed() >= delay);
}

#[tokio::test]
async fn post_for_a_pending_address() {
    for (post_pending, status, mails) in [
        (PostPending::SameInvite, 200, 1),
        (PostPending::NewInvite, 200, 2),
        (PostPending::BadRequest, 400, 1),
        (PostPending::Conflict, 409, 1),
    ] {
        let astro = Astro::behaving(Behaviour {
            post_pending,
            ..Behaviour::default()
        })
        .await;
        let id = astro.invited(JANE).await;
        let (answered, invite) = astro.invite("JANE@example.com").await;
        assert_eq!(
            (answered, astro.fake.emails_to(JANE)),
            (status, mails),
            "{post_pending:?}"
        );
        if status == 200 {
            assert_eq!(invite["inviteId"] == json!(id), mails == 1);
        }
        // Several invites of an address are in one row.
        let row = astro.row(JANE, INVITED).await.unwrap();
        assert_eq!(row["invites"].as_array().unwrap().len(), mails as usize);
        astro.fake.expire(&id).unwrap();
        astro.invited("joe@example.com").await;
    }
}

#[tokio::test]
async fn post_for_a_member() {
    for (post_member, status, mails) in [
        (PostMember::BadRequest, 400, 0),
        (PostMember::Conflict, 409, 0),
        (PostMember::UselessInvite, 200, 1),
    ] {
        let astro = Astro::behaving(Behaviour {
            post_member,
            ..Behaviour::default()
        })
        .await;
        astro.fake.add_member(JANE, "ORGANIZATION_OWNER").unwrap();
        let (answered, invite) = astro.invite(JANE).await;
        assert_eq!(
            (answered, astro.fake.emails_to(JANE)),
            (status, mails),
            "{post_member:?}"
        );
        if status == 200 {
            astro
                .fake
                .accept(invite["inviteId"].as_str().unwrap())
                .unwrap();
        }
        assert_eq!(astro.fake.user(JANE).unwrap().role, "ORGANIZATION_OWNER");
    }
}

#[tokio::test]
async fn get_of_an_ended_invite() {
    type End = fn(&FakeAstro, &str) -> anyhow::Result<()>;
    let ends: [(&str, End); 4] = [
        ("accepted", |fake, id| fake.accept(id)),
        ("rejected", |fake, id| fake.reject(id)),
        ("deleted", |fake, id| fake.revoke(id)),
        ("expired", |fake, id| fake.expire(id)),
    ];
    for (get_ended, status) in [
        (GetEnded::NotFound, 404),
        (GetEnded::OldBody, 200),
        (GetEnded::BadRequest, 400),
    ] {
        for (what, end) in ends {
            let astro = Astro::behaving(Behaviour {
                get_ended,
                ..Behaviour::default()
            })
            .await;
            let (_, invite) = astro.invite(JANE).await;
            let id = invite["inviteId"].as_str().unwrap();
            end(&astro.fake, id).unwrap();
            let (answered, body) = astro.get(id).await;
            assert_eq!(answered, status, "{get_ended:?} {what}");
            if status == 200 {
                assert_eq!(body["expiresAt"] == invite["expiresAt"], what != "expired");
            }
        }
    }
}

#[tokio::test]
async fn delete_of_an_ended_invite() {
    for (delete_accepted, status) in [
        (DeleteAccepted::NotFound, 404),
        (DeleteAccepted::BadRequest, 400),
        (DeleteAccepted::NoContent, 204),
    ] {
        let astro = Astro::behaving(Behaviour {
            delete_accepted,
            ..Behaviour::default()
        })
        .await;
        let id = astro.invited(JANE).await;
        astro.fake.accept(&id).unwrap();
        assert_eq!(astro.delete(&id).await.0, status);
        assert!(astro.fake.is_member(JANE));
        assert_eq!(astro.fake.invite(&id).unwrap().state, InviteState::Accepted);
    }
    for (delete_expired, status) in [
        (DeleteExpired::NoContent, 204),
        (DeleteExpired::NotFound, 404),
    ] {
        let astro = Astro::behaving(Behaviour {
            delete_expired,
            ..Behaviour::default()
        })
        .await;
        let id = astro.invited(JANE).await;
        astro.fake.expire(&id).unwrap();
        assert_eq!(astro.delete(&id).await.0, status);
    }
}

#[tokio::test]
async fn rows_after_the_end_of_an_invite() {
    for (row_after_expiry, in_all, invites) in [
        (RowAfterExpiry::WithOldInvite, true, 1),
        (RowAfterExpiry::WithoutInvites, true, 0),
        (RowAfterExpiry::Gone, false, 0),
    ] {
        let astro = Astro::behaving(Behaviour {
            row_after_expiry,
            ..Behaviour::default()
        })
        .await;
        let id = astro.invited(JANE).await;
        astro.fake.expire(&id).unwrap();
        expect_row(&astro, in_all, invites).await;
    }
    for (row_after_withdrawal, in_all) in [
        (RowAfterWithdrawal::Gone, false),
        (RowAfterWithdrawal::WithoutInvites, true),
    ] {
        let astro = Astro::behaving(Behaviour {
            row_after_withdrawal,
            ..Behaviour::default()
        })
        .await;
        let id = astro.invited(JANE).await;
        assert_eq!(astro.delete(&id).await.0, 204);
        expect_row(&astro, in_all, 0).await;
        let id = astro.invited(JANE).await;
        astro.fake.reject(&id).unwrap();
        expect_row(&astro, in_all, 0).await;
    }
}

async fn expect_row(astro: &Astro, in_all: bool, invites: usize) {
    let row = astro.row(JANE, ALL).await;
    assert_eq!(row.is_some(), in_all);
    if let Some(row) = row {
        assert_eq!(row["status"], "PENDING");
        assert_eq!(row["invites"].as_array().unwrap().len(), invites);
    }
    assert_eq!(astro.row(JANE, INVITED).await.is_some(), invites > 0);
    let user = astro.fake.user(JANE).unwrap().id;
    let path = astro.organization(&format!("/users/{user}"));
    let status = answer(astro.request(Method::GET, &path)).await.0;
    assert_eq!(status, if in_all { 200 } else { 404 });
}

#[tokio::test]
async fn email_case_in_answers() {
    for (email_case, shown) in [
        (EmailCase::Kept, "Jane@Example.COM"),
        (EmailCase::Lowered, "jane@example.com"),
    ] {
        let astro = Astro::behaving(Behaviour {
            email_case,
            ..Behaviour::default()
        })
        .await;
        let (_, invite) = astro.invite("Jane@Example.COM").await;
        assert_eq!(invite["invitee"]["username"], shown);
        assert!(astro.row(shown, ALL).await.is_some());
    }
    assert_eq!(
        canonical(" Jane@B\u{fc}cher.Example "),
        "jane@xn--bcher-kva.example"
    );
}

#[tokio::test]
async fn role_change_of_a_pending_user() {
    for (role_of_pending, status) in [
        (RoleOfPending::BadRequest, 400),
        (RoleOfPending::NotFound, 404),
    ] {
        let astro = Astro::behaving(Behaviour {
            role_of_pending,
            ..Behaviour::default()
        })
        .await;
        astro.invited(JANE).await;
        let user = astro.fake.user(JANE).unwrap().id;
        assert_eq!(astro.set_role(&user, "ORGANIZATION_OWNER").await.0, status);
        assert_eq!(astro.set_role("unknown", "ORGANIZATION_OWNER").await.0, 404);
    }
}

#[tokio::test]
async fn who_is_listed_and_with_what() {
    let astro = Astro::start().await;
    let fake = &astro.fake;
    let id = astro.invited(JANE).await;

    fake.change_behaviour(|behaviour| behaviour.list_users = ListUsers::Forbidden);
    assert_eq!(
        (astro.list(ALL).await.0, astro.get(&id).await.0),
        (403, 200)
    );

    fake.set_behaviour(Behaviour {
        default_list: DefaultList::WithoutPending,
        ..Behaviour::default()
    });
    assert_eq!(astro.usernames(ALL).await, [OWNER_EMAIL]);
    assert_eq!(astro.usernames(INVITED).await, [JANE]);
    fake.set_behaviour(Behaviour::default());
    assert_eq!(
        astro.usernames(&[("hasInvites", "false")]).await,
        [OWNER_EMAIL]
    );

    for (invites_shown, default, with_invites) in [
        (InvitesShown::Always, true, true),
        (InvitesShown::WithHasInvites, false, true),
        (InvitesShown::Never, false, false),
    ] {
        fake.set_behaviour(Behaviour {
            invites_shown,
            ..Behaviour::default()
        });
        assert_eq!(
            astro.row(JANE, ALL).await.unwrap().get("invites").is_some(),
            default
        );
        assert_eq!(
            astro
                .row(JANE, INVITED)
                .await
                .unwrap()
                .get("invites")
                .is_some(),
            with_invites
        );
    }
    for (pending_role, pending_role_with_invites) in
        [(Shown::Yes, Shown::No), (Shown::No, Shown::Yes)]
    {
        fake.set_behaviour(Behaviour {
            pending_role,
            pending_role_with_invites,
            ..Behaviour::default()
        });
        let has_role = |row: Option<Value>| row.unwrap().get("orgRole").is_some();
        assert_eq!(
            has_role(astro.row(JANE, ALL).await),
            pending_role == Shown::Yes
        );
        assert_eq!(
            has_role(astro.row(JANE, INVITED).await),
            pending_role_with_invites == Shown::Yes
        );
        assert!(
            has_role(astro.row(OWNER_EMAIL, ALL).await),
            "a member's is always shown"
        );
    }
}

#[tokio::test]
async fn search_finds_exactly_by_part_or_not_at_all() {
    let astro = Astro::start().await;
    astro.fake.add_member("jane+a@example.com", MEMBER).unwrap();
    astro.fake.add_member("ann@example.com", MEMBER).unwrap();
    astro.invited("mary-ann@example.com").await;
    for (search, ann, plus) in [
        (Search::Exact, vec!["ann@example.com"], 1),
        (
            Search::Substring,
            vec!["ann@example.com", "mary-ann@example.com"],
            1,
        ),
        (
            Search::MissesPlus,
            vec!["ann@example.com", "mary-ann@example.com"],
            0,
        ),
        (Search::MissesPending, vec!["ann@example.com"], 1),
    ] {
        astro
            .fake
            .change_behaviour(|behaviour| behaviour.search = search);
        assert_eq!(
            astro.usernames(&[("search", "Ann@example.com")]).await,
            ann,
            "{search:?}"
        );
        let found = astro.usernames(&[("search", "jane+a@example.com")]).await;
        assert_eq!(found.len(), plus, "{search:?}");
    }
    astro.fake.assert_contract_kept().unwrap();
}

#[tokio::test]
async fn the_version_is_switched_off() {
    let astro = Astro::start().await;
    astro
        .fake
        .change_behaviour(|behaviour| behaviour.api = Api::NotFound);
    let (status, body) = astro.list(ALL).await;
    assert!(status == 404 && body.as_str().unwrap().starts_with("<!DOCTYPE html>"));
    for (api, answer) in [(Api::Missing, 404), (Api::Gone, 410)] {
        astro.fake.change_behaviour(|behaviour| behaviour.api = api);
        let (status, body) = astro.invite(JANE).await;
        assert!(status == answer && body["statusCode"] == answer, "{body}");
    }
    assert_eq!(astro.fake.emails_to(JANE), 0);
}

#[tokio::test]
async fn inviter_and_expiry_are_written_in_several_ways() {
    let astro = Astro::start().await;
    astro.fake.change_behaviour(|behaviour| {
        behaviour.inviter = InviterKind::ServiceKey;
        behaviour.expires_at = ExpiresAt::WholeSeconds;
    });
    let (_, invite) = astro.invite(JANE).await;
    let (_, other) = astro.invite("joe@example.com").await;
    assert_eq!(invite["inviter"]["subjectType"], "SERVICEKEY");
    assert_eq!(invite["inviter"], other["inviter"], "the token's id stays");
    assert!(invite["inviter"]["apiTokenName"].is_string());
    assert_eq!(
        invite["expiresAt"].as_str().unwrap().len(),
        "YYYY-MM-DDTHH:MM:SSZ".len()
    );
}

#[tokio::test]
async fn the_control_surface_is_there_only_when_asked_for() {
    let astro = Astro::start().await;
    let fake = |astro: &Astro, path: &str| format!("http://{}/fake{path}", astro.fake.address());
    assert_eq!(
        astro
            .http
            .get(fake(&astro, "/emails"))
            .send()
            .await
            .unwrap()
            .status(),
        401
    );

    let astro = Astro::start_with(Options {
        control_surface: true,
        ..Options::default()
    })
    .await;
    let id = astro.invited(JANE).await;
    let get = async |path: &str| {
        astro
            .http
            .get(fake(&astro, path))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    };
    assert_eq!(get("/emails").await, json!({JANE: 1}).to_string());
    assert!(get("/users").await.contains(JANE) && get("/calls").await.contains("CreateInvite"));
    assert!(!get("/invites").await.contains(SECRET_PREFIX));
    let post = async |path: &str, body: Value| {
        astro
            .http
            .post(fake(&astro, path))
            .json(&body)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(post(&format!("/invites/{id}/accept"), json!({})).await, 200);
    assert_eq!(post(&format!("/invites/{id}/expire"), json!({})).await, 400);
    assert!(astro.fake.is_member(JANE));
    let fault = json!({"operation": "ListUsers", "when": "beforeEffect", "answer": {"status": 503}, "times": 1});
    assert_eq!(post("/faults", fault).await, 204);
    assert_eq!(
        (astro.list(ALL).await.0, astro.list(ALL).await.0),
        (503, 200)
    );
    let fault = json!({"when": "afterEffect", "answer": "cut"});
    assert_eq!(post("/faults", fault).await, 204);
    assert!(astro.invitation("joe@example.com").send().await.is_err());
    assert_eq!(astro.fake.emails_to("joe@example.com"), 1);
    assert_eq!(
        astro
            .http
            .delete(fake(&astro, "/faults"))
            .send()
            .await
            .unwrap()
            .status(),
        204
    );
    assert_eq!(astro.list(ALL).await.0, 200);
    astro.fake.assert_contract_kept().unwrap();
}
