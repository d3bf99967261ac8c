//! When a request is tried again, after which wait, and what is said to be charged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentkernel::llm::{AskError, HttpOptions, Llm, OpenAi, Provider, Tokens};
use serde_json::json;

use crate::openai::{answer, provider};
use crate::server::{EVENTS_HEAD, Reply, Server, chunk};
use crate::{KEY, ask, quick, request, stream};

fn with(server: &Server, http: HttpOptions) -> OpenAi {
    OpenAi::builder().key(KEY).base_url(server.url("")).http(http).build().unwrap()
}

fn failed(status: u16, headers: &[(&str, &str)]) -> Reply {
    Reply::status(status, headers, &json!({"error": {"message": "Not now."}}))
}

#[tokio::test]
async fn passing_errors_are_tried_again() {
    for status in [408, 409, 429, 500, 503, 529] {
        let server = Server::start([failed(status, &[]), Reply::json(&answer("Hello"))]);
        let completion = ask(&provider(&server), &request("x")).await.unwrap();
        assert_eq!(completion.text, "Hello", "{status}");
        assert_eq!(server.requests().len(), 2, "{status}");
        // Who answers 502 and 504 does not know what the server behind has done.
        let counted = Tokens { input: 11, output: 7 };
        assert_eq!(completion.tokens == counted, !matches!(status, 502 | 504), "{status}");
    }
}

#[tokio::test]
async fn lasting_errors_are_not_tried_again() {
    for status in [400, 401, 403, 404, 413, 422, 501] {
        let server = Server::start([failed(status, &[("retry-after", "0")])]);
        let error = ask(&provider(&server), &request("x")).await.unwrap_err();
        assert_eq!((error.status, error.attempts, error.charged), (Some(status), 1, None));
        assert_eq!(error.retry, None, "{status}");
        assert!(error.message.contains(&format!("answered {status}: Not now")), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn attempts_come_to_an_end() {
    let server = Server::start([failed(503, &[])]);
    let error = ask(&provider(&server), &request("x")).await.unwrap_err();
    assert_eq!((error.status, error.attempts, error.charged), (Some(503), 3, None));
    assert!(error.message.ends_with("(after 3 attempts)") && error.retry.is_some(), "{error}");
    assert_eq!(server.requests().len(), 3);
    let none = with(&server, quick().retries(0));
    assert_eq!(ask(&none, &request("x")).await.unwrap_err().attempts, 1);
}

#[tokio::test]
async fn an_empty_account_is_not_asked_again() {
    let body = json!({"error": {"message": "You exceeded your current quota.", "type": "insufficient_quota",
        "code": "insufficient_quota"}});
    let server = Server::start([Reply::status(429, &[], &body)]);
    let error = ask(&provider(&server), &request("x")).await.unwrap_err();
    assert_eq!((error.status, error.attempts, error.retry), (Some(429), 1, None));
    assert!(error.message.contains("billing"), "{error}");
}

#[tokio::test]
async fn waits_are_as_long_as_the_provider_wants() {
    for (header, value, least) in [("retry-after-ms", "150", 150), ("retry-after", "1", 1000)] {
        let server = Server::start([failed(429, &[(header, value)]), Reply::json(&answer("Hello"))]);
        ask(&provider(&server), &request("x")).await.unwrap();
        let seen = server.requests();
        assert!(seen[1].at - seen[0].at >= Duration::from_millis(least), "{header}");
    }
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_an_error() {
    for after in ["3600", "Tue, 31 Dec 2999 23:59:59 GMT"] {
        let server = Server::start([failed(429, &[("retry-after", after)])]);
        let started = Instant::now();
        let error = ask(&provider(&server), &request("x")).await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(10));
        assert!(error.message.contains("longer than the 60s"), "{error}");
        assert_eq!(error.attempts, 1);
        assert!(error.retry.unwrap() >= Duration::from_secs(3600));
        let short = with(&server, quick().longest_wait(Duration::from_millis(1)));
        assert!(ask(&short, &request("x")).await.unwrap_err().message.contains("longer than the 1ms"));
    }
}

#[tokio::test]
async fn lost_answers_are_told_and_counted_by_their_bound() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"choices\":";
    for lost in [Vec::new(), b"HTTP/1.1 20".to_vec(), cut.to_vec()] {
        let lost = Reply::Pieces(vec![(Duration::ZERO, lost)]);
        let server = Server::start([lost.clone(), Reply::json(&answer("Hello")), lost]);
        let (provider, request) = (provider(&server), request("x"));
        let most = Tokens { input: provider.input_tokens_at_most(&request), output: 100 };
        let error = ask(&provider, &request).await.unwrap_err();
        assert_eq!((error.status, error.attempts, error.charged), (None, 1, Some(most)));
        assert!(error.message.contains("broke the connection"), "{error}");
        assert!(error.retry.is_some());

        // Whoever counts asks again, and sets aside as much once more.
        let llm = Llm::with("some-model", Arc::new(provider));
        let budget = llm.budget();
        assert_eq!(llm.ask(&budget, request.clone(), None).await.unwrap().text, "Hello");
        let error = llm.ask(&budget, request, None).await.unwrap_err();
        let AskError::Provider(error) = error else { panic!("{error}") };
        assert_eq!((error.attempts, error.charged), (3, Some(most)));
        let usage = budget.usage().total();
        assert_eq!((usage.calls, usage.output_tokens), (4, 7 + 300));
        assert_eq!(usage.input_tokens, 11 + 3 * most.input);
    }
}

#[tokio::test]
async fn an_answer_that_stops_is_lost() {
    let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"choices\":".to_vec();
    let server = Server::start([Reply::Stall(begun), Reply::json(&answer("Hello"))]);
    let provider = with(&server, quick().idle_timeout(Duration::from_millis(50)));
    let error = ask(&provider, &request("x")).await.unwrap_err();
    assert!(error.charged.is_some() && error.retry.is_some(), "{error}");
    assert_eq!(ask(&provider, &request("x")).await.unwrap().text, "Hello");

    let text = json!({"choices": [{"delta": {"content": "Hel"}}]});
    let begun = [EVENTS_HEAD.as_bytes(), &chunk(&format!("data: {text}\n\n"))].concat();
    let server = Server::start([Reply::Stall(begun)]);
    let provider = with(&server, quick().idle_timeout(Duration::from_millis(50)));
    let (completion, pieces) = stream(&provider, &request("x")).await;
    let error = completion.unwrap_err();
    // Text that somebody has seen is not followed by another attempt's.
    assert_eq!((pieces.concat().as_str(), error.attempts), ("Hel", 1));
    assert!(error.message.contains("stopped for 50ms") && error.charged.is_some(), "{error}");
}

#[tokio::test]
async fn a_stream_that_ends_too_early_is_lost() {
    let text = json!({"choices": [{"delta": {"content": "Hel"}}]});
    let server = Server::start([Reply::events(&[text], "")]);
    let (completion, _) = stream(&provider(&server), &request("x")).await;
    let error = completion.unwrap_err();
    assert!(error.message.contains("in the middle") && error.charged.is_some(), "{error}");
}

#[tokio::test]
async fn slow_answers_are_waited_for_until_the_whole_time_is_over() {
    let whole = |wait: u64| {
        let Reply::Whole(bytes) = Reply::json(&answer("Hello")) else { unreachable!() };
        Reply::Pieces(vec![(Duration::from_millis(wait), bytes)])
    };
    // Before the first byte, the time between bytes does not count.
    let server = Server::start([whole(200)]);
    let provider = with(&server, quick().idle_timeout(Duration::from_millis(20)));
    assert_eq!(ask(&provider, &request("x")).await.unwrap().text, "Hello");

    let server = Server::start([Reply::Stall(Vec::new())]);
    let provider = with(&server, quick().timeout(Duration::from_millis(100)));
    let error = ask(&provider, &request("x")).await.unwrap_err();
    assert!(error.message.contains("within 100ms") && error.charged.is_some(), "{error}");
    assert_eq!((error.attempts, error.retry), (1, None));
}

#[tokio::test]
async fn a_request_that_is_dropped_is_given_up() {
    let server = Server::start([Reply::Stall(Vec::new())]);
    let (provider, request) = (provider(&server), request("x"));
    let asked = tokio::time::timeout(Duration::from_millis(100), ask(&provider, &request)).await;
    assert!(asked.is_err());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(server.requests().len() <= 1);
}

#[tokio::test]
async fn nobody_there_is_tried_again_and_costs_nothing() {
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let provider = OpenAi::builder().base_url(format!("http://{address}/v1")).http(quick()).build().unwrap();
    let error = ask(&provider, &request("x")).await.unwrap_err();
    assert_eq!((error.status, error.attempts, error.charged), (None, 3, None));
    assert!(
        error.message.contains("cannot be reached") && error.message.contains(&address.to_string()),
        "{error}"
    );
    assert!(error.retry.is_some());
}
