//! Chat completions of OpenAI and of servers like it.

use agentkernel::ErrorKind;
use agentkernel::llm::{Message, OpenAi, Provider, Role, StopReason, Tokens, TokensField};
use serde_json::{Value, json};

use crate::server::{Reply, Server};
use crate::{KEY, ask, quick, request, stream};

pub fn answer(text: &str) -> Value {
    json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "some-model-2025",
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": null},
            "finish_reason": "stop",
        }],
        "usage": {
            "prompt_tokens": 11,
            "completion_tokens": 7,
            "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    })
}

pub fn provider(server: &Server) -> OpenAi {
    OpenAi::builder().key(KEY).base_url(server.url("/v1")).http(quick()).build().unwrap()
}

fn piece(delta: Value, finish: Option<&str>) -> Value {
    json!({
        "object": "chat.completion.chunk",
        "model": "some-model-2025",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    })
}

#[tokio::test]
async fn a_request_has_all_that_shapes_the_answer() {
    let server = Server::start([Reply::json(&answer("Hello"))]);
    let provider = provider(&server);
    let mut request = request("first");
    request.messages.push(Message { role: Role::Assistant, content: "second".into() });
    request.messages.push(Message { role: Role::User, content: "third é".into() });
    request.system = Some("Be brief.".into());
    request.temperature = Some(0.25);
    request.stop = vec!["END".into()];
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"],
        "additionalProperties": false});
    request.schema = Some(schema.clone());

    let completion = ask(&provider, &request).await.unwrap();
    assert_eq!(completion.text, "Hello");
    assert_eq!(completion.model, "some-model-2025");
    assert_eq!(completion.tokens, Tokens { input: 11, output: 7 });
    assert_eq!(completion.stop, StopReason::End);

    let seen = server.request();
    assert_eq!(seen.line, "POST /v1/chat/completions HTTP/1.1");
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert!(seen.header("user-agent").unwrap().starts_with("agentkernel/"));
    assert_eq!(
        seen.body,
        json!({
            "model": "some-model",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": "second"},
                {"role": "user", "content": "third é"},
            ],
            "max_tokens": 100,
            "temperature": 0.25,
            "stop": ["END"],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": true, "schema": schema},
            },
        })
    );
}

#[tokio::test]
async fn what_is_not_asked_for_is_not_sent() {
    let server = Server::start([Reply::json(&answer("Hello"))]);
    let provider = OpenAi::builder()
        .base_url(server.url("/v1/"))
        .tokens_field(TokensField::MaxCompletionTokens)
        .http(quick().header("X-Team", "search").header("user-agent", "mine"))
        .build()
        .unwrap();
    let mut request = request("x");
    request.schema = Some(json!({"type": "array", "items": {"type": "string", "minLength": 2}}));
    ask(&provider, &request).await.unwrap();

    let seen = server.request();
    assert_eq!(seen.line, "POST /v1/chat/completions HTTP/1.1");
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(seen.header("x-team"), Some("search"));
    assert_eq!(seen.header("user-agent"), Some("mine"));
    let mut names: Vec<_> = seen.body.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["max_completion_tokens", "messages", "model", "response_format"]);
    assert_eq!(seen.body["response_format"]["json_schema"]["strict"], false);
}

#[tokio::test]
async fn answers_end_for_their_reasons() {
    let with = |reason: &str, message: Value| {
        let mut value = answer("");
        value["choices"][0]["finish_reason"] = reason.into();
        value["choices"][0]["message"] = message;
        Reply::json(&value)
    };
    for (reason, message, text, stop) in [
        ("length", json!({"content": "Hel"}), "Hel", StopReason::MaxTokens),
        ("content_filter", json!({"content": null}), "", StopReason::Refusal),
        ("stop", json!({"content": null, "refusal": "I won't."}), "I won't.", StopReason::Refusal),
        ("stop", json!({"content": [{"type": "text", "text": "Hi"}]}), "Hi", StopReason::End),
    ] {
        let server = Server::start([with(reason, message)]);
        let completion = ask(&provider(&server), &request("x")).await.unwrap();
        assert_eq!((completion.text.as_str(), completion.stop), (text, stop));
        assert_eq!(completion.tokens, Tokens { input: 11, output: 7 });
    }
}

#[tokio::test]
async fn reasoning_that_only_the_total_counts_is_output() {
    let mut value = answer("Hello");
    value["usage"] = json!({"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 50});
    let server = Server::start([Reply::json(&value)]);
    let completion = ask(&provider(&server), &request("x")).await.unwrap();
    assert_eq!(completion.tokens, Tokens { input: 10, output: 40 });
}

#[tokio::test]
async fn tokens_that_are_not_counted_are_bounded() {
    let mut value = answer("Hello");
    value.as_object_mut().unwrap().remove("usage");
    value["choices"][0]["message"]["reasoning_content"] = "Hmm".into();
    let mut full = value.clone();
    full["choices"][0]["finish_reason"] = "length".into();
    let server = Server::start([Reply::json(&value), Reply::json(&full)]);
    let (provider, request) = (provider(&server), request("x"));
    let input = provider.input_tokens_at_most(&request);
    let completion = ask(&provider, &request).await.unwrap();
    assert_eq!(completion.tokens, Tokens { input, output: 9 });
    let completion = ask(&provider, &request).await.unwrap();
    assert_eq!(completion.tokens, Tokens { input, output: 100 });
}

#[tokio::test]
async fn a_streamed_answer_comes_in_pieces() {
    let usage = json!({"model": "some-model-2025", "choices": [],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}});
    let events = [
        piece(json!({"role": "assistant", "content": ""}), None),
        piece(json!({"content": "Hel"}), None),
        piece(json!({"content": "lo é"}), None),
        piece(json!({}), Some("stop")),
        usage,
    ];
    let server = Server::start([Reply::events(&events, "data: [DONE]\n\n")]);
    let (completion, pieces) = stream(&provider(&server), &request("x")).await;
    let completion = completion.unwrap();
    assert_eq!(pieces, ["Hel", "lo é"]);
    assert_eq!(completion.text, "Hello é");
    assert_eq!(completion.model, "some-model-2025");
    assert_eq!(completion.tokens, Tokens { input: 3, output: 4 });
    let body = server.request().body;
    assert_eq!((&body["stream"], &body["stream_options"]), (&json!(true), &json!({"include_usage": true})));
}

#[tokio::test]
async fn a_stream_without_usage_or_end_mark_is_bounded() {
    let events = [piece(json!({"content": "Hel"}), None), piece(json!({"refusal": "no"}), Some("stop"))];
    let server = Server::start([Reply::events(&events, "")]);
    let (provider, request) = (provider(&server), request("x"));
    let (completion, pieces) = stream(&provider, &request).await;
    let completion = completion.unwrap();
    assert_eq!(pieces, ["Hel", "no"]);
    assert_eq!(completion.stop, StopReason::Refusal);
    assert_eq!(completion.tokens, Tokens { input: provider.input_tokens_at_most(&request), output: 6 });
}

#[tokio::test]
async fn a_server_that_does_not_stream_answers_in_one_piece() {
    let server = Server::start([Reply::json(&answer("Hello"))]);
    let (completion, pieces) = stream(&provider(&server), &request("x")).await;
    assert_eq!(completion.unwrap().text, "Hello");
    assert_eq!(pieces, ["Hello"]);
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = Server::start([Reply::json(&answer("Hello"))]);
    let provider = provider(&server);
    for _ in 0..20 {
        ask(&provider, &request("x")).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
    let provider = std::sync::Arc::new(provider);
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let provider = std::sync::Arc::clone(&provider);
        asked.spawn(async move { ask(&*provider, &request("x")).await });
    }
    // At once, each on a connection of its own at the most.
    asked.join_all().await.into_iter().for_each(|completion| assert!(completion.is_ok()));
    assert!(server.connections() <= 8, "{}", server.connections());
}

#[test]
fn what_cannot_be_used_is_refused_when_it_is_built() {
    let error = OpenAi::builder().build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    assert!(error.remedy().unwrap().contains("OPENAI_API_KEY"));
    for url in
        ["", "localhost:8000", "ftp://example.com", "http://user:secret-word@example.com", "http://a/?b=c"]
    {
        let error = OpenAi::builder().key(KEY).base_url(url).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model, "{url}");
        assert!(!format!("{error:?}").contains("secret-word"));
    }
    for (name, value) in [("x y", "v"), ("Content-Length", "1"), ("x", "secret\nword")] {
        let http = quick().header(name, value);
        let error =
            OpenAi::builder().key(KEY).base_url("http://localhost/v1").http(http).build().unwrap_err();
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
    let error = OpenAi::builder().key("secret-word\n").build().unwrap_err();
    assert!(!format!("{error:?}").contains("secret-word"), "{error:?}");
    assert!(error.to_string().contains("white space"), "{error}");
}

/// Connections belong to the runtime that opened them, which may be gone when the next request is made.
#[test]
fn a_provider_outlives_the_runtime_it_was_used_in() {
    let server = Server::start([Reply::json(&answer("Hello"))]);
    let provider = provider(&server);
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let completion = runtime.block_on(ask(&provider, &request("x"))).unwrap();
        assert_eq!(completion.tokens, Tokens { input: 11, output: 7 });
    }
    assert_eq!(server.requests().len(), 3);
}
