//! Why an attempt failed, and whether another one is worth it.

use std::error::Error;
use std::time::Duration;

use reqwest::Url;
use serde_json::Value;

use super::retry;

/// How much of what a provider says goes into an error.
const MESSAGE_CHARS: usize = 500;

/// One attempt that failed. The message follows the provider's name, and is not yet free of secrets.
#[derive(Debug)]
pub(in crate::llm) struct Failure {
    pub status: Option<u16>,
    pub message: String,
    /// Whether another attempt may end better.
    pub again: bool,
    /// When the provider wants to be asked again.
    pub wait: Option<Duration>,
    /// Whether the provider may charge for it all the same.
    pub open: bool,
    pub refused: bool,
}

impl Failure {
    fn new(message: String, again: bool, open: bool) -> Self {
        Failure { status: None, message, again, wait: None, open, refused: false }
    }

    /// Nothing was sent, nor will be.
    pub fn setup(message: String) -> Self {
        Self::new(format!("cannot be asked: {message}"), false, false)
    }

    /// The answer is not what the API promises, and would not be another time.
    pub fn nonsense(message: String) -> Self {
        Self::new(message, false, true)
    }

    /// The answer did not come whole.
    pub fn lost(message: String) -> Self {
        Self::new(message, true, true)
    }

    /// The answer took too long.
    pub fn late(message: String) -> Self {
        Self::new(message, false, true)
    }

    /// The provider answered that it would not.
    pub fn answered(status: u16, message: String) -> Self {
        let again = retry::is_passing(status);
        Failure { status: Some(status), ..Self::new(message, again, retry::may_be_charged(status)) }
    }

    /// The request was not sent, or not answered.
    pub fn of_sending(error: &reqwest::Error, url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default();
        if error.is_dns() {
            return Self::new(format!("cannot be reached: there is no address for `{host}`"), true, false);
        }
        if error.is_connect() {
            let why = if error.is_timeout() { "it takes too long to connect".into() } else { cause(error) };
            return Self::new(format!("cannot be reached: {why}"), !is_tls(error), false);
        }
        Self::lost(format!("broke the connection before it answered: {}", cause(error)))
    }

    /// What an answer of this status and body means.
    pub fn of_status(status: u16, body: &[u8], wait: Option<Duration>) -> Self {
        let said = match serde_json::from_slice::<Value>(body) {
            Ok(value) => Said::of(&value),
            Err(_) => Said { message: String::from_utf8_lossy(body).into_owned(), code: String::new() },
        };
        let mut failure = Self::answered(status, format!("answered {status}"));
        if !said.message.trim().is_empty() {
            failure.message = format!("answered {status}: {}", said.message);
        }
        failure.wait = wait;
        failure.refused = said.is_refusal();
        // The account has nothing left: asking again will not fill it.
        failure.again &= !failure.refused && said.code != "insufficient_quota";
        failure
    }

    /// An error that comes with status 200, or in the middle of a stream.
    pub fn within(value: &Value) -> Option<Self> {
        let error = value.get("error").filter(|error| !error.is_null())?;
        let said = Said::of(value);
        let status = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let status = status.or(match said.code.as_str() {
            "overloaded_error" => Some(529),
            "rate_limit_error" | "rate_limit_exceeded" => Some(429),
            "api_error" | "server_error" => Some(500),
            "timeout_error" => Some(504),
            _ => None,
        });
        let again = status.is_some_and(retry::is_passing) && !said.is_refusal();
        let mut failure = Self::new(format!("broke its answer off: {}", said.message), again, true);
        failure.status = status;
        failure.refused = said.is_refusal();
        Some(failure)
    }
}

/// What a provider says about an error, in one of the forms that are about.
struct Said {
    message: String,
    /// The error's code, or its type.
    code: String,
}

impl Said {
    fn of(value: &Value) -> Self {
        let error = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
        let text = |name: &str| error.get(name).and_then(Value::as_str);
        let message = match error {
            Value::String(text) => text.clone(),
            _ => match text("message").or_else(|| text("detail")) {
                Some(message) => message.to_owned(),
                None => error.to_string(),
            },
        };
        let code = text("code").or_else(|| text("type")).unwrap_or_default().to_owned();
        Said { message, code }
    }

    fn is_refusal(&self) -> bool {
        matches!(self.code.as_str(), "content_filter" | "content_policy_violation" | "invalid_prompt")
    }
}

/// Whether the server could not prove who it is, which it will not do at once either.
fn is_tls(error: &reqwest::Error) -> bool {
    let mut next = error.source();
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        // An `io::Error` passes over what it wraps when it is asked for its source.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped as &dyn Error),
            None => error.source(),
        };
    }
    false
}

/// The innermost cause of an error: those around it say only what was tried.
pub(super) fn cause(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// `said` in one line, without what would confuse a terminal, and not longer than an error should be.
pub(super) fn tidy(said: &str) -> String {
    let visible = |letter: char| if letter.is_whitespace() || letter.is_control() { ' ' } else { letter };
    let line: String = said.chars().map(visible).collect();
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let mut line = words.join(" ");
    if let Some((end, _)) = line.char_indices().nth(MESSAGE_CHARS) {
        line.truncate(end);
        line.push('…');
    }
    line.trim_end_matches(['.', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_are_read_in_all_their_forms() {
        for (body, expected) in [
            (json!({"error": {"message": "no", "code": "x"}}), "answered 400: no"),
            (json!({"type": "error", "error": {"type": "t", "message": "no"}}), "answered 400: no"),
            (json!({"error": "no"}), "answered 400: no"),
            (json!({"object": "error", "message": "no"}), "answered 400: no"),
            (json!({"detail": "no"}), "answered 400: no"),
            (json!({"detail": [1]}), "answered 400: {\"detail\":[1]}"),
        ] {
            let failure = Failure::of_status(400, body.to_string().as_bytes(), None);
            assert_eq!(failure.message, expected);
            assert!(!failure.again && !failure.open);
        }
        assert_eq!(Failure::of_status(502, b"<html>", None).message, "answered 502: <html>");
        assert_eq!(Failure::of_status(502, b"", None).message, "answered 502");
    }

    #[test]
    fn what_is_said_is_one_line_of_limited_length() {
        assert_eq!(tidy("a\u{1b}[31m\r\n  b\u{0}."), "a [31m b");
        let long = tidy(&"é".repeat(2000));
        assert_eq!(long.chars().count(), MESSAGE_CHARS + 1);
    }
}
