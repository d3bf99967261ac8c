//! What providers do wrong, and what is said about it.

use agentkernel::llm::{Anthropic, AzureOpenAi, HttpOptions, OpenAi, Provider};
use serde_json::{Value, json};

use crate::openai::{answer, provider};
use crate::server::{EVENTS_HEAD, Reply, Server, chunk};
use crate::{KEY, ask, quick, request, stream};

fn all(server: &Server, http: &HttpOptions) -> Vec<Box<dyn Provider>> {
    let (url, http) = (server.url(""), || http.clone());
    let azure = AzureOpenAi::builder().key(KEY).endpoint(&url).default_deployment("d").http(http());
    vec![
        Box::new(OpenAi::builder().key(KEY).base_url(&url).http(http()).build().unwrap()),
        Box::new(azure.build().unwrap()),
        Box::new(Anthropic::builder().key(KEY).base_url(&url).http(http()).build().unwrap()),
    ]
}

#[tokio::test]
async fn answers_of_another_shape_are_errors() {
    let empty = json!({"choices": []});
    let number = json!({"choices": [{"message": {"content": 7}}], "content": 7});
    for body in [
        "".to_owned(),
        "<html>hello</html>".into(),
        "{\"choices\": [".into(),
        "null".into(),
        "[]".into(),
        "{}".into(),
        empty.to_string(),
        number.to_string(),
        "\u{1}".into(),
        "[".repeat(100_000),
    ] {
        let server = Server::start([Reply::body(200, &[], body.as_bytes())]);
        for provider in all(&server, &quick()) {
            let error = ask(&*provider, &request("x")).await.unwrap_err();
            let shown: String = body.chars().take(40).collect();
            assert!(error.message.contains("gave an answer"), "{shown}: {error}");
            assert_eq!((error.attempts, error.retry), (1, None), "{shown}");
            // It answered, so it may have worked on it.
            assert!(error.charged.is_some(), "{shown}");
        }
    }
}

#[tokio::test]
async fn streams_of_another_shape_are_errors() {
    for event in ["nonsense", "[1]", "{\"choices\": [{\"delta\": {\"content\": 7}}]}"] {
        let bytes = [EVENTS_HEAD.as_bytes(), &chunk(&format!("data: {event}\n\n")), b"0\r\n\r\n"].concat();
        let server = Server::start([Reply::Whole(bytes)]);
        for provider in all(&server, &quick()) {
            let (completion, pieces) = stream(&*provider, &request("x")).await;
            let error = completion.unwrap_err();
            assert!(error.message.contains("gave a"), "{event}: {error}");
            assert!(pieces.is_empty() && error.charged.is_some());
        }
    }
}

#[tokio::test]
async fn answers_are_limited_in_length() {
    let long = "x".repeat(100_000);
    let Reply::Whole(whole) = Reply::json(&answer(&long)) else { unreachable!() };
    let unsaid = {
        let body = answer(&long).to_string();
        [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), body.into_bytes()].concat()
    };
    let text = json!({"type": "x", "choices": [{"delta": {"content": "x".repeat(1000)}}]});
    let event = chunk(&format!("data: {text}\n\n"));
    let streamed = [EVENTS_HEAD.as_bytes().to_vec(), event.repeat(100)].concat();
    let endless = [EVENTS_HEAD.as_bytes().to_vec(), chunk(&long)].concat();
    for bytes in [whole, unsaid, streamed, endless] {
        let server = Server::start([Reply::Pieces(vec![(std::time::Duration::ZERO, bytes)])]);
        for provider in all(&server, &quick().response_bytes(50_000)) {
            let (completion, _) = stream(&*provider, &request("x")).await;
            let error = completion.unwrap_err();
            assert!(error.message.contains("more than 50000 bytes"), "{error}");
            assert!(error.charged.is_some());
        }
    }
    // What is as long as is allowed is not refused.
    let length = answer(&long).to_string().len();
    let server = Server::start([Reply::json(&answer(&long))]);
    let http = |bytes| quick().response_bytes(bytes);
    let with = |bytes| OpenAi::builder().base_url(server.url("")).http(http(bytes)).build().unwrap();
    assert_eq!(ask(&with(length), &request("x")).await.unwrap().text.len(), long.len());
    assert!(ask(&with(length - 1), &request("x")).await.is_err());
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Server::start([Reply::json(&answer("stolen"))]);
    let location = elsewhere.url("/v1/chat/completions");
    for status in [301, 302, 303, 307, 308] {
        let server = Server::start([Reply::body(status, &[("location", &location)], b"")]);
        for provider in all(&server, &quick()) {
            let error = ask(&*provider, &request("x")).await.unwrap_err();
            assert_eq!((error.status, error.attempts), (Some(status), 1));
            assert!(error.message.contains("elsewhere"), "{error}");
        }
    }
    assert!(elsewhere.requests().is_empty() && elsewhere.connections() == 0);
}

#[tokio::test]
async fn errors_say_what_to_do() {
    for (status, advice) in [
        (401, ["check OPENAI_API_KEY", "check AZURE_OPENAI_API_KEY", "check ANTHROPIC_API_KEY"]),
        (404, ["the model's name", "AZURE_OPENAI_DEPLOYMENT", "the model's name"]),
    ] {
        let server = Server::start([Reply::status(status, &[], &json!({"error": {"message": "No."}}))]);
        for (provider, advice) in all(&server, &quick()).iter().zip(advice) {
            let error = ask(&**provider, &request("x")).await.unwrap_err();
            assert!(error.message.contains(&format!("answered {status}: No; ")), "{error}");
            assert!(error.message.contains(advice), "{error}");
        }
    }
    let body = json!({"error": {"message": "Unsupported parameter: 'max_tokens' is not supported."}});
    let server = Server::start([Reply::status(400, &[], &body)]);
    let error = ask(&provider(&server), &request("x")).await.unwrap_err();
    assert!(error.message.contains("`tokens_field`"), "{error}");
}

#[tokio::test]
async fn what_a_provider_says_is_cut_and_cleaned() {
    let said = format!("\u{1b}[31mred\r\nline {}", "é".repeat(5000));
    let server = Server::start([Reply::status(400, &[], &json!({"error": {"message": said}}))]);
    let error = ask(&provider(&server), &request("x")).await.unwrap_err();
    assert!(error.message.contains("[31mred line é"), "{error}");
    assert!(!error.message.chars().any(char::is_control) && error.message.chars().count() < 700);
    // A page of any length, without an end.
    let page = [b"HTTP/1.1 400 X\r\n\r\n".to_vec(), vec![b'x'; 1 << 20]].concat();
    let server = Server::start([Reply::Stall(page)]);
    let error = ask(&provider(&server), &request("x")).await.unwrap_err();
    assert!(error.message.chars().count() < 700, "{error}");
}

#[tokio::test]
async fn an_error_inside_an_answer_is_an_error() {
    let body = json!({"error": {"message": "Provider returned error", "code": 429}, "choices": []});
    let server = Server::start([Reply::json(&body)]);
    let error = ask(&provider(&server), &request("x")).await.unwrap_err();
    assert!(error.retry.is_some() && error.charged.is_some(), "{error}");
    let body = json!({"error": {"message": "no", "code": "content_filter"}});
    let server = Server::start([Reply::json(&body)]);
    let error = ask(&provider(&server), &request("x")).await.unwrap_err();
    assert!(error.refused && error.attempts == 1, "{error}");
}

/// Whatever a provider does with the key, nothing that this side shows has it.
#[tokio::test]
async fn the_key_is_nowhere() {
    let extra = "gateway-token-0123456789";
    let echo = format!("Incorrect key: {KEY}, or {extra}. Also sk-test-********cdef.");
    let cut = format!("{}{KEY}", "x".repeat(480));
    let error = |text: &str| json!({"error": {"message": text}});
    let mut model = answer(&format!("your key is {KEY}"));
    model["model"] = format!("model-{KEY}").into();
    model["content"] = json!([{"type": "text", "text": format!("your key is {KEY}")}]);
    let replies = [
        Reply::status(401, &[], &error(&echo)),
        Reply::status(500, &[], &error(&cut)),
        Reply::body(403, &[], echo.as_bytes()),
        Reply::body(302, &[("location", KEY)], KEY.as_bytes()),
        Reply::body(200, &[], echo.as_bytes()),
        Reply::json(&error(&echo)),
        Reply::events(&[error(&echo)], ""),
        Reply::events(&[Value::String(KEY.into())], ""),
        Reply::Whole(format!("{KEY}\r\n\r\n").into_bytes()),
        Reply::Pieces(vec![(std::time::Duration::ZERO, Vec::new())]),
        Reply::json(&model),
    ];
    let shows = |text: &str| {
        [KEY, extra, "0123456789", "sk-test-*", "sk-test"].iter().any(|part| text.contains(part))
    };
    for reply in replies {
        let server = Server::start([reply]);
        for provider in all(&server, &quick().header("x-gateway", extra)) {
            let said = match ask(&*provider, &request("x")).await {
                Ok(completion) => format!("{completion:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shows(&said), "{said}");
        }
    }
    let http = quick().header("x-gateway", extra);
    let openai = OpenAi::builder().key(KEY).base_url("http://localhost").http(http.clone());
    let azure = AzureOpenAi::builder()
        .key(KEY)
        .endpoint("http://localhost")
        .default_deployment("d")
        .http(http.clone());
    let anthropic = Anthropic::builder().key(KEY).http(http.clone());
    let said = format!("{http:?} {openai:?} {azure:?} {anthropic:?}");
    assert!(!shows(&said), "{said}");
    let built = (openai.build().unwrap(), azure.build().unwrap(), anthropic.build().unwrap());
    let said = format!("{built:?} {built:#?}");
    assert!(!shows(&said), "{said}");
}
