//! Whatever others send: answers of the Astro API, headers, objects of the cluster, flags. Nothing of it panics,
//! hangs, is believed too much, or gets a secret told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::core::PartialObjectMeta;
use orginvite_operator::astro::http::{CLOCK_TOLERANCE, Client, Endpoint};
use orginvite_operator::astro::{Astro, Error, Listing, Role};
use orginvite_operator::claims;
use orginvite_operator::cli;
use orginvite_operator::policy;
use orginvite_operator::resources::org_invite::{DeletionPolicy, ResendWhen};
use orginvite_operator::resources::organization::{AllowRule, OrganizationSpec};
use orginvite_operator::resources::{Address, OrgInvite, Organization};
use orginvite_operator::stored::Stored;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TOKEN: &str = "planted-token";
/// In every well-formed body here: who holds one can join.
const PLANTED: [&str; 3] = [
    "planted-ticket-f83a61c09d27",
    "planted-oauth",
    "planted-link",
];
const ANN: &str = "ann@astro.example";
/// How long the client waits.
const PATIENT: Duration = Duration::from_secs(2);
/// How long a test waits for the client.
const DEADLINE: Duration = Duration::from_secs(20);

/// Hands each connection to `answer` once its request was sent, and tells the URL.
async fn serve<F>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1alpha1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let mut buffer = [0; 4096];
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => request.extend_from_slice(&buffer[..read]),
                }
            }
            tokio::spawn(answer(stream));
        }
    });
    url
}

/// A client that gives up after `deadline`.
fn client(url: &str, deadline: Duration) -> Client {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let endpoint = Endpoint::with_deadline(url, deadline).unwrap();
    Client::new(&endpoint, "org1", TOKEN.into())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Create,
    Get,
    Delete,
    List,
}

const CALLS: [Call; 4] = [Call::Create, Call::Get, Call::Delete, Call::List];

/// What a call gave, as it would be logged.
async fn call(client: &Client, call: Call) -> (String, Option<Error>) {
    let answer = async {
        match call {
            Call::Create => told(client.create_invite(ANN, Role::OrganizationMember).await),
            Call::Get => told(client.get_invite("invite-7").await),
            Call::Delete => told(client.delete_invite("invite-7").await),
            Call::List => told(client.list_users(Listing::Everybody, 0, 100).await),
        }
    };
    tokio::time::timeout(DEADLINE, answer)
        .await
        .expect("the client gives up in time")
}

fn told<T: std::fmt::Debug>(answer: Result<T, Error>) -> (String, Option<Error>) {
    match answer {
        Ok(value) => (format!("{value:?}"), None),
        Err(error) => (
            format!("{error} {error:?} {}", error.summary()),
            Some(error),
        ),
    }
}

// --- answers of the Astro API

/// Bodies that the API could give, with all that must not be told of them.
fn documented() -> impl Strategy<Value = String> {
    let [ticket, oauth, link] = PLANTED;
    let invite = json!({
        "inviteId": "i1", "organizationId": "org1", "expiresAt": "2026-12-01T00:00:00Z",
        "ticketId": ticket, "oAuthInviteId": oauth, "url": format!("https://astro.example/{link}"),
        "invitee": {"id": "u1", "username": "ann"}, "inviter": {"id": "t1", "subjectType": "USER", "fullName": format!("Joe {ANN}")},
    });
    let user = json!({"id": "u1", "username": "ann", "status": "PENDING", "invites": [invite], "orgRole": "ORGANIZATION_MEMBER"});
    let page = json!({"users": [user], "totalCount": 1, "limit": 100, "offset": 0});
    let error = json!({
        "message": format!("{ANN} has https://astro.example/{link}, '{ticket}' and {TOKEN}"), "requestId": format!("r {ANN}"), "statusCode": 400,
        "fieldErrors": [{"field": "inviteeEmail", "message": format!("{ANN} is bad for \"{TOKEN}\"")}],
    });
    select(vec![invite, page, error]).prop_map(|value| value.to_string())
}

/// JSON of any shape, with the names that are read.
fn shapes() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        select(vec![
            "PENDING",
            "ORGANIZATION_OWNER",
            "9999-12-30T22:00:00Z",
            "9999-12-31T23:59:59Z",
            "-009999-01-01T00:00:00Z"
        ])
        .prop_map(Value::from),
    ];
    let names = select(vec![
        "users",
        "totalCount",
        "id",
        "username",
        "status",
        "invites",
        "inviteId",
        "expiresAt",
        "invitee",
        "inviter",
        "subjectType",
        "message",
        "statusCode",
        "requestId",
        "fieldErrors",
        "field",
        "orgRole",
        "organizationId",
        "other",
    ]);
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((names.clone(), inner), 0..6).prop_map(|fields| {
                fields
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()
            }),
        ]
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let mutated = (
        documented(),
        vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    )
        .prop_map(|(text, edits)| {
            let mut bytes = text.into_bytes();
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                // What is planted stays recognizable.
                if b"\"{}[],:".contains(&bytes[at]) {
                    bytes[at] = byte;
                }
            }
            bytes
        });
    let cut = (documented(), any::<prop::sample::Index>()).prop_map(|(text, at)| {
        let mut bytes = text.into_bytes();
        bytes.truncate(at.index(bytes.len()));
        bytes
    });
    let deep = (
        select(vec!["[", "{\"users\":", "{\"invitee\":", "{\"message\":["]),
        1..40_000_usize,
    )
        .prop_map(|(open, depth)| open.repeat(depth).into_bytes());
    // All of it is JSON, and what is deep stands where nobody reads.
    let nested = (documented(), 1..40_000_usize).prop_map(|(text, depth)| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!("{{\"other\":{open}{close},{}", &text[1..]).into_bytes()
    });
    let no_text = (
        documented(),
        select(vec![
            &b"\xff"[..],
            b"\xc3",
            b"\xed\xa0\x80",
            b"\\ud800",
            b"\0",
            b"\\u0000",
        ]),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(text, odd, at)| {
            let mut bytes = text.into_bytes();
            let values: Vec<usize> = bytes
                .windows(2)
                .enumerate()
                .filter_map(|(at, pair)| (pair == b":\"").then_some(at + 2))
                .collect();
            let at = values[at.index(values.len())];
            bytes.splice(at..at, odd.iter().copied());
            bytes
        });
    let twice = documented().prop_map(|text| {
        let fields = &text[1..text.len() - 1];
        format!("{{{fields},{fields}}}").into_bytes()
    });
    let numbers = select(vec![
        r#"{"users":[],"totalCount":99999999999999999999}"#,
        r#"{"users":[],"totalCount":-1}"#,
        r#"{"users":[],"totalCount":1e400}"#,
        r#"{"message":"x","statusCode":70000}"#,
        r#"{"inviteId":1}"#,
    ])
    .prop_map(|text| text.as_bytes().to_vec());
    let huge = (1..2_000_000_usize).prop_map(|size| {
        let text = "x".repeat(size);
        json!({"inviteId": text, "message": text, "requestId": text, "fieldErrors": vec![json!({"field": text}); 2]})
            .to_string()
            .into_bytes()
    });
    prop_oneof![
        4 => documented().prop_map(String::into_bytes),
        4 => mutated,
        3 => shapes().prop_map(|value| value.to_string().into_bytes()),
        2 => cut,
        2 => vec(any::<u8>(), 0..300),
        1 => deep,
        1 => nested,
        2 => no_text,
        1 => twice,
        1 => numbers,
        1 => huge,
    ]
}

/// How a body is framed, and whether all of it arrives.
#[derive(Clone, Copy, Debug)]
enum Frame {
    Length,
    /// Announced longer than it is.
    Truncated,
    /// Announced shorter than it is.
    Overlong,
    Chunked,
    /// The last chunk does not come.
    ChunkedTruncated,
    /// Until the connection ends.
    Open,
    /// Two lengths, of which one is wrong.
    TwoLengths,
    /// No number.
    NoNumber,
}

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        6 => Just(Frame::Length),
        2 => Just(Frame::Chunked),
        2 => Just(Frame::Open),
        1 => select(vec![
            Frame::Truncated, Frame::Overlong, Frame::ChunkedTruncated, Frame::TwoLengths, Frame::NoNumber,
        ]),
    ]
}

fn bytes(status: u16, headers: &[u8], frame: Frame, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let framing = match frame {
        Frame::Length => format!("Content-Length: {length}\r\n"),
        Frame::Truncated => format!("Content-Length: {}\r\n", length + 7),
        Frame::Overlong => format!("Content-Length: {}\r\n", length / 2),
        Frame::Chunked | Frame::ChunkedTruncated => "Transfer-Encoding: chunked\r\n".to_owned(),
        Frame::Open => String::new(),
        Frame::TwoLengths => format!("Content-Length: {length}\r\nContent-Length: 3\r\n"),
        Frame::NoNumber => "Content-Length: -1\r\n".to_owned(),
    };
    let mut answer = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{framing}").into_bytes();
    answer.extend_from_slice(headers);
    answer.extend_from_slice(b"\r\n");
    if matches!(frame, Frame::Chunked | Frame::ChunkedTruncated) {
        for chunk in body.chunks(1000) {
            answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            answer.extend_from_slice(chunk);
            answer.extend_from_slice(b"\r\n");
        }
        if matches!(frame, Frame::Chunked) {
            answer.extend_from_slice(b"0\r\n\r\n");
        }
    } else {
        answer.extend_from_slice(body);
    }
    answer
}

/// Values of headers, also of those that are no text.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![any::<u64>().prop_map(u128::from), any::<u128>()]
        .prop_map(|n| n.to_string().into_bytes());
    let date = (
        select(vec!["Tue", "Mon", "Xyz", ""]),
        0_u32..40,
        select(vec!["Nov", "Feb", "Dec", "Foo"]),
        select(vec![
            "0000", "0001", "1970", "2026", "9999", "99999", "-1", "70",
        ]),
        (0_u32..30, 0_u32..70, 0_u32..70),
        select(vec!["GMT", "+0000", "-2359", "+9999", "EST", ""]),
    )
        .prop_map(|(day, n, month, year, (h, m, s), zone)| {
            format!("{day}, {n:02} {month} {year} {h:02}:{m:02}:{s:02} {zone}").into_bytes()
        });
    let text = vec(
        any::<u8>().prop_filter("no end of a line", |byte| {
            !matches!(byte, 0 | b'\r' | b'\n')
        }),
        0..40,
    );
    let fixed = select(vec![
        "4000000000",
        "-1",
        "1e9",
        "0x10",
        "7.5",
        " 7 ",
        "",
        "Thu, 30 Dec 9999 22:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Sat, 30 Jun 2012 23:59:60 GMT",
    ])
    .prop_map(|text| text.as_bytes().to_vec());
    prop_oneof![number, date, text, fixed]
}

fn few(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(few(300))]

    /// Only a client error that was read whole proves that nothing happened, and nothing planted is told.
    #[test]
    fn no_answer_of_astro_is_too_odd(
        kind in select(CALLS.to_vec()),
        status in prop_oneof![select(vec![200_u16, 201, 204, 400, 403, 404, 408, 429, 499, 500, 503]), 200_u16..1000],
        frame in frame(),
        body in body(),
        retry_after in header(),
        date in header(),
        more in prop_oneof![9 => 0_usize..10, 1 => 0_usize..200_000],
    ) {
        let mut headers = [b"Retry-After: ", &retry_after[..], b"\r\nDate: ", &date[..], b"\r\n"].concat();
        headers.extend_from_slice(format!("X-More: {}\r\n", "m".repeat(more)).as_bytes());
        let answer = bytes(status, &headers, frame, &body);
        let (said, error, clock) = runtime().block_on(async {
            let url = serve(move |mut stream| {
                let answer = answer.clone();
                async move {
                    stream.write_all(&answer).await.ok();
                    stream.shutdown().await.ok();
                    // Until the client is done.
                    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
                }
            })
            .await;
            let client = client(&url, PATIENT);
            let (said, error) = call(&client, kind).await;
            (said, error, client.server_time())
        });
        for secret in PLANTED.iter().chain([&TOKEN, &ANN]) {
            prop_assert!(!said.contains(secret), "{secret} in {said}");
        }
        if let Some(now) = clock {
            let off = now.duration_since(Timestamp::now()).unsigned_abs();
            prop_assert!(off <= CLOCK_TOLERANCE + Duration::from_mins(1), "{off:?}");
        }
        if let Some(error) = error {
            let shown = error.to_string();
            prop_assert!(shown.chars().count() <= 8_000, "{} characters", shown.chars().count());
            prop_assert!(!shown.chars().any(char::is_control), "{shown:?}");
            if let Error::Refused(refusal) = error {
                prop_assert_eq!(refusal.status, status);
                prop_assert!((400..500).contains(&status) && status != 408 && status != 499);
                prop_assert!(!matches!(frame, Frame::Truncated | Frame::ChunkedTruncated), "it was not read whole");
                prop_assert!(refusal.retry_after.unwrap_or_default() <= Duration::from_hours(1));
            }
        }
    }
}

/// Writes `chunk` again and again, until `limit` bytes or until nobody takes them; counts the bytes.
async fn pour(mut stream: TcpStream, head: &str, chunk: &[u8], limit: usize, count: &AtomicUsize) {
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    while count.load(Ordering::Relaxed) < limit && stream.write_all(chunk).await.is_ok() {
        count.fetch_add(chunk.len(), Ordering::Relaxed);
    }
}

/// How many bytes a server of `head` and then endless `chunk`s gets rid of, and what the client makes of it.
async fn poured(head: &'static str, chunk: Vec<u8>, kind: Call) -> (usize, Error) {
    const LIMIT: usize = 100 << 20;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let url = serve(move |stream| {
        let (count, chunk) = (Arc::clone(&counted), chunk.clone());
        async move { pour(stream, head, &chunk, LIMIT, &count).await }
    })
    .await;
    let (_, error) = call(&client(&url, PATIENT), kind).await;
    (
        count.load(Ordering::Relaxed),
        error.expect("no answer of that size is read"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_100_mib_is_left_where_it_is() {
    let mut chunk = format!("{:x}\r\n", 64 << 10).into_bytes();
    chunk.extend(std::iter::repeat_n(b' ', 64 << 10));
    chunk.extend_from_slice(b"\r\n");
    let plain = vec![b' '; 64 << 10];
    for kind in CALLS {
        for (head, chunk) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n",
                &plain,
            ),
            (
                "HTTP/1.1 404 X\r\nContent-Length: 104857600\r\n\r\n",
                &plain,
            ),
            ("HTTP/1.1 500 X\r\nConnection: close\r\n\r\n", &plain),
            (
                "HTTP/1.1 400 X\r\nTransfer-Encoding: chunked\r\n\r\n",
                &chunk,
            ),
        ] {
            let (sent, error) = poured(head, chunk.clone(), kind).await;
            // 8 MiB are read, and some wait in the buffers of two sockets.
            assert!(sent < 24 << 20, "{head}: {sent} bytes");
            assert!(matches!(error, Error::Unknown { .. }), "{head}: {error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_end_are_not_read() {
    let (sent, error) = poured(
        "HTTP/1.1 200 OK\r\n",
        b"X-More: more\r\n".repeat(100),
        Call::Create,
    )
    .await;
    assert!(sent < 16 << 20, "{sent} bytes");
    assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_drips_for_ever_ends_at_the_deadline() {
    for head in [
        "HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: ",
        "",
    ] {
        let url = serve(move |mut stream| async move {
            stream.write_all(head.as_bytes()).await.ok();
            while stream.write_all(b"1\r\n \r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        for kind in CALLS {
            let deadline = Duration::from_millis(300);
            let (_, error) = call(&client(&url, deadline), kind).await;
            assert!(
                matches!(error, Some(Error::Unknown { .. })),
                "{head}: {error:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_redirect_leads_to_another_host() {
    let reached = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reached);
    let other = serve(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async {}
    })
    .await;
    let other = other
        .trim_start_matches("http://")
        .trim_end_matches("/v1alpha1");
    let port = other.rsplit_once(':').unwrap().1;
    for place in [
        format!("http://{other}/"),
        format!("//{other}/x"),
        format!("\\\\{other}\\x"),
        format!("http:\\\\{other}/"),
        format!("HTTP://{other}"),
        format!("http://127.0.0.1:1@{other}/"),
        format!("http://localhost:{port}/"),
        format!("http://127.1:{port}/"),
        format!("http://0x7f.0.0.1:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("https://{other}/"),
        format!("ftp://{other}/"),
        format!("\t//{other}/"),
        format!("http:///{other}/"),
    ] {
        for status in [301, 302, 303, 307, 308] {
            let headers = format!("Location: {place}\r\n");
            let answer = bytes(status, headers.as_bytes(), Frame::Length, b"");
            let url = serve(move |mut stream| {
                let answer = answer.clone();
                async move {
                    stream.write_all(&answer).await.ok();
                    stream.shutdown().await.ok();
                }
            })
            .await;
            for kind in CALLS {
                let (_, error) = call(&client(&url, PATIENT), kind).await;
                assert!(
                    matches!(error, Some(Error::Unknown { .. })),
                    "{place}: {error:?}"
                );
            }
        }
    }
    assert_eq!(reached.load(Ordering::Relaxed), 0);
}

// --- objects of the cluster

/// Texts that the API server takes for times, and others.
fn time() -> impl Strategy<Value = String> {
    prop_oneof![
        (
            0_u32..10_000,
            1_u32..13,
            1_u32..29,
            0_u32..24,
            select(vec![
                "Z",
                "z",
                "+23:59",
                "-23:59",
                "+99:99",
                ".123456789123Z",
                "x5Z"
            ])
        )
            .prop_map(|(year, month, day, hour, zone)| format!(
                "{year:04}-{month:02}-{day:02}T{hour:02}:00:00{zone}"
            )),
        select(vec![
            "9999-12-31T23:59:59Z",
            "9999-12-30T21:59:59Z",
            "0000-01-01T00:00:00Z",
            "2016-12-31T23:59:60Z"
        ])
        .prop_map(str::to_owned),
        ".{0,30}",
    ]
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![Just(Value::Null), ".{0,40}".prop_map(Value::from)]
}

prop_compose! {
    /// A status as the schema lets anybody write it who may write one, and some that another version would.
    fn status()(
        times in vec(prop_oneof![Just(Value::Null), time().prop_map(Value::from)], 4),
        texts in vec(text(), 6),
        role in select(vec![json!(null), json!("ORGANIZATION_OWNER"), json!("ORGANIZATION_KING")]),
        kind in select(vec![json!("USER"), json!("ROBOT")]),
        resends in any::<u64>(),
        generation in any::<i64>(),
        transition in time(),
        condition in ".{0,10}",
    ) -> Value {
        json!({
            "invitedAt": times[0], "expiresAt": times[1], "goneSince": times[2], "lastSyncTime": times[3], "unreadSince": times[1],
            "inviteId": texts[0], "attemptId": texts[1], "organizationId": texts[2], "email": texts[3], "userId": texts[4],
            "lastResendRequest": texts[5], "role": role, "resends": resends, "observedGeneration": generation,
            "inviter": {"id": "x", "subjectType": kind, "name": texts[0]},
            "invites": {"total": resends}, "token": {"listUsers": "Perhaps", "subject": {"id": "x", "subjectType": kind}},
            "conditions": [{
                "type": condition, "status": condition, "reason": condition, "message": condition,
                "lastTransitionTime": transition, "observedGeneration": generation,
            }],
        })
    }
}

/// A value that this version knows nowhere.
fn later() -> impl Strategy<Value = Value> {
    let other = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from)
    ];
    prop_oneof![
        "[A-Z]{0,9}_LATER".prop_map(Value::from),
        other,
        Just(json!({"a": [1]}))
    ]
}

proptest! {
    #![proptest_config(few(2_000))]

    /// No object that the API server stores keeps the others from being read.
    #[test]
    fn no_object_is_unreadable(
        status in status(), written in time(), note in ".{0,60}", asked in ".{0,20}", later in later(), number in any::<i64>(),
    ) {
        let metadata = json!({
            "name": "jane", "namespace": "team", "uid": "u", "resourceVersion": "7", "generation": 1,
            "creationTimestamp": "2026-11-24T12:00:00Z", "finalizers": [note],
            "annotations": {"iam.astronomer.io/attempt": note, "iam.astronomer.io/resend-requested-at": asked},
            "managedFields": [{"manager": note, "operation": "Update", "time": written, "fieldsV1": {"f:spec": {}}}],
        });
        let of = |kind: &str, spec: Value| json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec, "status": status,
        }).to_string();
        let invite = of("OrgInvite", json!({
            "email": "jane@example.com", "role": later, "resendWhen": later, "deletionPolicy": later, "maxResends": number,
            "ofALaterVersion": later,
        }));
        let Stored(invite): Stored<OrgInvite> = serde_json::from_str(&invite).unwrap();
        prop_assert_eq!(invite.spec.role, Role::Unknown);
        prop_assert_eq!(invite.spec.deletion_policy, DeletionPolicy::Unknown);
        prop_assert_eq!(invite.spec.resend_when, ResendWhen::Unknown);
        prop_assert!(invite.spec.not_understood().is_some());
        prop_assert_eq!(invite.spec.max_resends, u32::try_from(number).unwrap_or(0));
        let unreadable = matches!(claims::attempt(&invite), Some(Err(_)));
        prop_assert!(!unreadable || claims::is_open(&invite));
        let organization = of("Organization", json!({
            "organizationId": "o", "tokenSecretRef": {"name": "s"}, "syncInterval": note, "allow": [
                {"namespaces": ["team"], "roles": ["ORGANIZATION_MEMBER", later, "ORGANIZATION_OWNER"], "emailDomains": null},
                {"namespaces": ["team"], "roles": ["ORGANIZATION_MEMBER"], "ofALaterVersion": note},
                {"namespaces": later, "roles": ["ORGANIZATION_MEMBER"]},
                later,
            ],
        }));
        let Stored(organization): Stored<Organization> = serde_json::from_str(&organization).unwrap();
        let allow = &organization.spec.allow;
        let roles: Vec<&[Role]> = allow.iter().map(|rule| rule.roles.as_slice()).collect();
        prop_assert_eq!(roles[0], &[Role::OrganizationMember, Role::OrganizationOwner]);
        prop_assert!(roles[1..].iter().all(|roles| roles.is_empty()), "{:?}", allow);
        let interval = organization.spec.sync_interval();
        prop_assert!(interval >= Duration::from_secs(1) && interval <= Duration::from_hours(24));
        let secret = json!({"metadata": metadata, "data": {"token": "eA=="}, "type": note}).to_string();
        let Stored(secret): Stored<Secret> = serde_json::from_str(&secret).unwrap();
        prop_assert!(secret.data.is_some());
        let namespace = json!({"metadata": metadata, "spec": {"finalizers": [note]}}).to_string();
        let Stored(namespace): Stored<PartialObjectMeta<Namespace>> = serde_json::from_str(&namespace).unwrap();
        prop_assert_eq!(namespace.metadata.name.as_deref(), Some("jane"));
        prop_assert!(namespace.metadata.managed_fields.is_none());
    }

    /// An attempt of any shape is one, or is told as unreadable and counts as open.
    #[test]
    fn no_attempt_is_too_odd(attempt in prop_oneof![shapes().prop_map(|value| value.to_string()), ".{0,80}"]) {
        let object: OrgInvite = serde_json::from_value(json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "OrgInvite",
            "metadata": {"name": "jane", "annotations": {"iam.astronomer.io/attempt": attempt}},
            "spec": {"email": "jane@example.com", "role": "ORGANIZATION_MEMBER"},
        })).unwrap();
        if matches!(claims::attempt(&object), Some(Err(_))) {
            prop_assert!(claims::is_open(&object));
        }
    }

    /// One address is one text, whatever was written.
    #[test]
    fn an_address_is_its_own_canonical_form(text in prop_oneof![".{0,40}", "[a-zA-Z.+%!'\" ]{0,10}@[\\PC.@-]{0,30}"]) {
        let Ok(address) = Address::parse(&text) else { return Ok(()) };
        let again = Address::parse(address.as_str());
        prop_assert_eq!(again.as_ref(), Ok(&address), "{:?}", text);
        prop_assert!(address.domain().is_ascii() && !address.domain().contains('@'));
        prop_assert!(!address.domain().chars().any(|c| c.is_ascii_uppercase() || c.is_whitespace()));
    }

    /// A rule allows no more than it says, whatever stands in it.
    #[test]
    fn a_rule_that_cannot_be_read_allows_nothing(
        pattern in prop_oneof![".{0,20}", select(vec!["*", "*.", "**.com", "*.*", ".", "*.com.", "EXAMPLE.com", "xn--", "*.xn--a"]).prop_map(str::to_owned)],
        name in prop_oneof![".{0,20}", select(vec!["*", ".*", "team*", "team"]).prop_map(str::to_owned)],
        key in ".{0,10}", operator in ".{0,10}", value in ".{0,10}",
    ) {
        let address = Address::parse("jane@sub.example.com").unwrap();
        let labels = std::collections::BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        let here = policy::Namespace { name: "team-a", labels: &labels };
        let rule = |json: Value| -> AllowRule { serde_json::from_value(json).unwrap() };
        let roles = ["ORGANIZATION_MEMBER"];
        let by_name = [rule(json!({"namespaces": [name], "roles": roles}))];
        prop_assert_eq!(policy::allows(&by_name, here, Role::OrganizationMember, &address), name == "team-a");
        let by_domain = [rule(json!({"namespaces": ["team-a"], "roles": roles, "emailDomains": [pattern]}))];
        let allowed = policy::allows(&by_domain, here, Role::OrganizationMember, &address);
        let lower = pattern.to_lowercase();
        let fits = ["sub.example.com", "*.example.com", "*.com"].contains(&lower.as_str());
        prop_assert!(!allowed || fits, "{:?}", pattern);
        let expression = json!({"key": key, "operator": operator, "values": [value]});
        let by_label = [rule(json!({"namespaceSelector": {"matchExpressions": [expression]}, "roles": roles}))];
        if !["In", "NotIn", "Exists", "DoesNotExist"].contains(&operator.as_str()) {
            prop_assert!(!policy::allows(&by_label, here, Role::OrganizationMember, &address));
        }
        for rules in [&by_name, &by_domain, &by_label] {
            prop_assert!(!policy::allows(rules, here, Role::OrganizationOwner, &address));
        }
    }
}

#[test]
fn a_sync_interval_is_never_too_short_nor_too_long() {
    for (text, seconds) in [
        ("5m", 300),
        ("1h30m", 5400),
        ("0s", 1),
        ("-5m", 300),
        ("99999999999999h", 86_400),
        ("9999h", 86_400),
        ("1s-5s", 300),
        ("", 300),
    ] {
        let spec: OrganizationSpec = serde_json::from_value(json!({
            "organizationId": "o", "tokenSecretRef": {"name": "s"}, "allow": [], "syncInterval": text,
        }))
        .unwrap();
        assert_eq!(
            spec.sync_interval(),
            Duration::from_secs(seconds),
            "{text:?}"
        );
    }
}

// --- flags

/// The flags of `run` that take a value.
fn flags() -> Vec<String> {
    let command = cli::command();
    let run = command.find_subcommand("run").unwrap();
    let valued = run
        .get_arguments()
        .filter(|arg| arg.get_action().takes_values());
    valued
        .filter_map(|arg| arg.get_long())
        .map(|long| format!("--{long}"))
        .collect()
}

fn try_flag(flag: &str, value: &str) -> Result<clap::ArgMatches, clap::Error> {
    cli::command().try_get_matches_from(["orginvite-operator", "run", &format!("{flag}={value}")])
}

#[test]
fn a_duration_that_cannot_be_used_is_refused() {
    let durations = [
        "--settle",
        "--listing-delay",
        "--email-spacing",
        "--lease-duration",
        "--request-deadline",
        "--clock-tolerance",
    ];
    for flag in durations {
        for value in [
            "",
            "1",
            "s",
            "-1s",
            "1s-5s",
            "--5s",
            "NaNs",
            "infs",
            "1e308s",
            "1e3s",
            "99999999999999999999h",
            "18446744073709551615s",
            "18446744073709551616s",
            "9999999h",
            "1s1s1s99999999999999999999s",
            "\u{0}",
            "1\u{661}s",
        ] {
            assert!(try_flag(flag, value).is_err(), "{flag}={value}");
        }
        for value in ["0s", "100ms", "1m30s", "90s", "1h", "87600h"] {
            try_flag(flag, value).unwrap();
        }
    }
    for flag in [
        "--posts-per-second",
        "--deletes-per-second",
        "--gets-per-second",
    ] {
        for value in ["0", "-1", "NaN", "inf", "1e308", "0.5", "4294967296", ""] {
            assert!(try_flag(flag, value).is_err(), "{flag}={value}");
        }
        try_flag(flag, "4294967295").unwrap();
    }
}

proptest! {
    #![proptest_config(few(3_000))]

    #[test]
    fn no_value_of_a_flag_is_too_odd(
        flag in select(flags()),
        value in prop_oneof![".{0,30}", "[-+0-9.eE]{0,25}(ns|us|ms|s|m|h|d|y)?([-+0-9.]{0,25}(ms|s|h))?", "(https?://)?[a-z0-9.:@/?#\\[\\]%-]{0,30}"],
    ) {
        try_flag(&flag, &value).ok();
    }

    /// A URL that is taken sends a token in clear to this machine only, and has nothing that a path would follow.
    #[test]
    fn no_url_of_astro_is_too_odd(text in prop_oneof![".{0,30}", "(http|https|ftp)://[a-z0-9.:@/?#\\[\\]%-]{0,30}", "http://(localhost|127\\.0\\.0\\.1|0x7f\\.1|\\[::1\\])[.:@/?#a-z0-9]{0,12}"]) {
        rustls::crypto::ring::default_provider().install_default().ok();
        if Endpoint::new(&text).is_ok() {
            let url = reqwest::Url::parse(text.trim_end_matches('/')).unwrap();
            let host = url.host_str().unwrap();
            let local = ["localhost", "[::1]"].contains(&host) || host.starts_with("127.");
            prop_assert!(url.scheme() == "https" || (url.scheme() == "http" && local), "{}", text);
            prop_assert!(url.query().is_none() && url.fragment().is_none() && url.username().is_empty());
        }
    }
}

#[test]
fn a_clock_tolerance_is_the_default_of_its_flag() {
    let matches = cli::command()
        .try_get_matches_from(["orginvite-operator", "run"])
        .unwrap();
    let run = matches.subcommand_matches("run").unwrap();
    let tolerance: &Duration = run.get_one("clock_tolerance").unwrap();
    assert_eq!(*tolerance, CLOCK_TOLERANCE);
    assert!(SignedDuration::try_from(*tolerance).is_ok());
}
