//! What an answer of the Astro API means.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use serde::de::DeserializeOwned;

use crate::astro::{Error, Refusal, wire};

/// How many characters of a text of the API are kept.
const TEXT_LIMIT: usize = 300;
/// How many errors of fields are kept.
const FIELD_LIMIT: usize = 10;
/// The longest wait that a `Retry-After` is believed.
const WAIT_LIMIT: Duration = Duration::from_hours(1);

/// A successful answer, not read yet.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

impl Answer {
    /// Sorts an answer into success, refusal, and unknown outcome. `token` is shown in none.
    pub fn judge(
        status: StatusCode,
        headers: &HeaderMap,
        body: Vec<u8>,
        token: &str,
    ) -> Result<Self, Error> {
        if status.is_success() {
            return Ok(Self { status, body });
        }
        let said = serde_json::from_slice(&body).ok();
        let said = said.filter(|said: &wire::ErrorBody| {
            said.message.is_some() && (said.status_code.is_some() || said.request_id.is_some())
        });
        let from_api = said.is_some();
        let said = said.unwrap_or_default();
        let message = match said.message {
            Some(message) => told(&message, token),
            None if status.is_redirection() => "a redirect that is not followed".to_owned(),
            // Not the body itself: it may hold anything.
            None => "the body is not the API's own".to_owned(),
        };
        let request_id = said.request_id.map(|id| request_name(&id, token));
        // 408, and 499 of some gateways, say that somebody stopped waiting, not that it was refused.
        if !status.is_client_error() || matches!(status.as_u16(), 408 | 499) {
            return Err(Error::Unknown {
                message: format!("Astro answered {}: {message}", status.as_u16()),
                status: Some(status.as_u16()),
                request_id,
            });
        }
        let mut field_errors = said.field_errors.unwrap_or_default();
        field_errors.truncate(FIELD_LIMIT);
        for error in &mut field_errors {
            error.field = told(&error.field, token);
            error.message = told(&error.message, token);
        }
        Err(Error::Refused(Refusal {
            status: status.as_u16(),
            from_api,
            message,
            field_errors,
            request_id,
            retry_after: (status == StatusCode::TOO_MANY_REQUESTS)
                .then(|| retry_after(headers))
                .flatten(),
        }))
    }

    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// Reads the body. A success that cannot be read may still have had its effect.
    pub fn read<W, T>(&self) -> Result<T, Error>
    where
        W: DeserializeOwned,
        T: TryFrom<W, Error = &'static str>,
    {
        let wire: Result<W, _> = serde_json::from_slice(&self.body);
        wire.map_err(|error| match error.classify() {
            // What kind of error, not its text: that quotes the body, which may hold a secret.
            serde_json::error::Category::Data => "is not as documented",
            _ => "is not JSON",
        })
        .and_then(T::try_from)
        .map_err(|what| self.unexpected(&format!("the body {what}")))
    }

    /// Success of a call that gives nothing back: the documented 204, or 200.
    pub fn done(&self) -> Result<(), Error> {
        match self.status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            _ => Err(self.unexpected("neither 200 nor 204")),
        }
    }

    fn unexpected(&self, what: &str) -> Error {
        let message = format!("Astro answered {}: {what}", self.status.as_u16());
        unknown(message, Some(self.status))
    }
}

/// An unknown outcome for which Astro gave no name.
pub fn unknown(message: String, status: Option<StatusCode>) -> Error {
    Error::Unknown {
        message,
        status: status.map(|status| status.as_u16()),
        request_id: None,
    }
}

/// How long a word with digits may be: what is longer is no name and no ID, and may be a ticket.
const WORD_LIMIT: usize = 25;

/// A text of the API as it may be shown: one short line without control characters, and without
/// e-mail addresses and links (who holds the link of an invite can join).
pub fn clean(text: &str) -> String {
    shown(text, |_| None)
}

/// What Astro says of a call: without the token, and without what may be a ticket, either.
fn told(text: &str, token: &str) -> String {
    shown(text, |word| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let has_digit = bare.contains(|c: char| c.is_ascii_digit());
        match bare.chars().count() {
            _ if holds(word, token) => Some("[token]"),
            length if length > WORD_LIMIT && has_digit => Some("[value]"),
            _ => None,
        }
    })
}

/// Astro's name for a request, such as a UUID.
fn request_name(text: &str, token: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if text.len() <= 64 && text.chars().all(is_name) && !holds(text, token) {
        text.to_owned()
    } else {
        told(text, token)
    }
}

fn holds(word: &str, token: &str) -> bool {
    !token.is_empty() && word.contains(token)
}

fn shown(text: &str, instead: impl Fn(&str) -> Option<&'static str>) -> String {
    let one_line: String = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !c.is_control())
        .collect();
    let words: Vec<&str> = one_line
        .split_whitespace()
        .map(|word| match word {
            // Also without its scheme, or a part of one.
            _ if word.contains("//") || (word.contains('/') && word.contains('.')) => "[link]",
            _ if word.contains('@') => "[address]",
            _ => instead(word).unwrap_or(word),
        })
        .collect();
    words.join(" ").chars().take(TEXT_LIMIT).collect()
}

/// A date of HTTP (IMF-fixdate, which RFC 2822 contains).
pub fn http_date(value: &HeaderValue) -> Option<Timestamp> {
    let zoned = jiff::fmt::rfc2822::parse(value.to_str().ok()?).ok()?;
    Some(zoned.timestamp())
}

/// `Retry-After`, in seconds or as a date by the server's own clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?;
    let text = value.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than fits is longer than any limit.
        text.parse().map_or(Duration::MAX, Duration::from_secs)
    } else {
        let now = headers.get(DATE).and_then(http_date);
        let wait = http_date(value)?.duration_since(now.unwrap_or_else(Timestamp::now));
        // A date that is past.
        Duration::try_from(wait).unwrap_or_default()
    };
    Some(wait.min(WAIT_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(status: u16, body: &str) -> Result<Answer, Error> {
        let status = StatusCode::from_u16(status).unwrap();
        Answer::judge(
            status,
            &HeaderMap::new(),
            body.as_bytes().to_vec(),
            "token-1",
        )
    }

    fn refusal(status: u16, body: &str) -> Refusal {
        match judge(status, body) {
            Err(Error::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let wait = |value: &'static str| {
            let date = HeaderValue::from_static("Tue, 24 Nov 2026 08:00:00 GMT");
            retry_after(&HeaderMap::from_iter([
                (RETRY_AFTER, HeaderValue::from_static(value)),
                (DATE, date),
            ]))
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("86400"), Some(WAIT_LIMIT));
        assert_eq!(wait("4000000000"), Some(WAIT_LIMIT));
        assert_eq!(wait("99999999999999999999999"), Some(WAIT_LIMIT));
        let date = "Tue, 24 Nov 2026 08:00:30 GMT";
        assert_eq!(wait(date), Some(Duration::from_secs(30)));
        let past = "Tue, 24 Nov 2026 07:59:00 GMT";
        assert_eq!(wait(past), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("-1"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn only_the_documented_error_body_is_the_apis_own() {
        for body in [
            r#"{"message":"no","statusCode":404}"#,
            r#"{"message":"no","requestId":"r1","fieldErrors":null}"#,
            r#"{"message":"no","requestId":"r1","statusCode":"404","more":{}}"#,
        ] {
            let refusal = refusal(404, body);
            assert!(refusal.from_api, "{body}");
            assert_eq!(refusal.message, "no");
        }
        for body in [
            "",
            "<html>",
            "null",
            "{}",
            r#"{"message":"no"}"#,
            r#"{"message":{},"statusCode":404}"#,
            r#"{"statusCode":404}"#,
        ] {
            let refusal = refusal(404, body);
            assert!(!refusal.from_api, "{body}");
            assert_eq!(refusal.message, "the body is not the API's own");
        }
    }

    #[test]
    fn field_errors_are_kept() {
        let refusal = refusal(
            400,
            r#"{"message":"bad","statusCode":400,"fieldErrors":[{"code":"x","field":"role","message":"is unknown"}]}"#,
        );
        let said = refusal.to_string();
        assert_eq!(said, "Astro answered 400: bad; role: is unknown");
    }

    #[test]
    fn texts_are_short_and_hold_no_link_and_no_address() {
        let text =
            "a\u{1b}[31m\n <ann@astro.example> has htt\u{0}ps://astro.example/t/1\r\nalready";
        assert_eq!(clean(text), "a[31m [address] has [link] already");
        let bare = "at astro.example/invites?ticket=t, not /invites or 1.5";
        assert_eq!(clean(bare), "at [link] not /invites or 1.5");
        assert_eq!(clean(&"x".repeat(400)).len(), TEXT_LIMIT);
        let secrets = "Bearer 'token-1', ticket \"f83a61c09d27be45f83a61c09d27\" of clkvh3b46003m01kbalgwwdcy";
        assert_eq!(
            told(secrets, "token-1"),
            "Bearer [token] ticket [value] of clkvh3b46003m01kbalgwwdcy"
        );
        for (request, shown) in [
            (
                "ceece673-a6c1-4774-9b4a-95dd1fa9c282",
                "ceece673-a6c1-4774-9b4a-95dd1fa9c282",
            ),
            ("r-token-1", "[token]"),
            ("ann@astro.example", "[address]"),
        ] {
            assert_eq!(request_name(request, "token-1"), shown);
        }
    }

    #[test]
    fn only_a_success_with_the_right_status_is_done() {
        judge(204, "").unwrap().done().unwrap();
        judge(200, "{}").unwrap().done().unwrap();
        let error = judge(202, "").unwrap().done().unwrap_err();
        assert!(matches!(error, Error::Unknown { .. }));
    }
}
