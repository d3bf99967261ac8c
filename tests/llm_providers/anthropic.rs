//! Anthropic's messages.

use agentkernel::llm::{Anthropic, Message, Provider, Role, StopReason, Tokens};
use serde_json::{Value, json};

use crate::server::{Reply, Server};
use crate::{KEY, ask, quick, request, stream};

fn answer(reason: &str) -> Value {
    json!({
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "some-model-4",
        "content": [
            {"type": "thinking", "thinking": "Hmm", "signature": "x"},
            {"type": "text", "text": "Hel"},
            {"type": "text", "text": "lo"},
        ],
        "stop_reason": reason,
        "stop_sequence": null,
        "usage": {"input_tokens": 10, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 30,
            "output_tokens": 5},
    })
}

fn provider(server: &Server) -> Anthropic {
    Anthropic::builder().key(KEY).base_url(server.url("")).http(quick()).build().unwrap()
}

#[tokio::test]
async fn a_request_has_all_that_shapes_the_answer() {
    let server = Server::start([Reply::json(&answer("end_turn"))]);
    let mut request = request("first");
    request.messages.push(Message { role: Role::Assistant, content: "second".into() });
    request.messages.push(Message { role: Role::User, content: "third".into() });
    request.system = Some("Be brief.".into());
    request.temperature = Some(0.5);
    request.stop = vec!["END".into()];
    request.schema = Some(json!({"type": "object"}));
    let completion = ask(&provider(&server), &request).await.unwrap();
    assert_eq!(completion.text, "Hello");
    assert_eq!(completion.model, "some-model-4");
    assert_eq!(completion.tokens, Tokens { input: 60, output: 5 });
    assert_eq!(completion.stop, StopReason::End);
    let seen = server.request();
    assert_eq!(seen.line, "POST /v1/messages HTTP/1.1");
    assert_eq!(seen.header("x-api-key"), Some(KEY));
    assert_eq!(seen.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(
        seen.body,
        json!({
            "model": "some-model",
            "max_tokens": 100,
            "messages": [
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": "second"},
                {"role": "user", "content": "third"},
            ],
            "system": "Be brief.",
            "temperature": 0.5,
            "stop_sequences": ["END"],
        })
    );
}

#[tokio::test]
async fn schemas_are_enforced_where_that_is_wanted_and_can_be() {
    let server = Server::start([Reply::json(&answer("end_turn"))]);
    let url = server.url("/gateway/v1/");
    let provider =
        Anthropic::builder().key(KEY).base_url(url).enforce_schema(true).http(quick()).build().unwrap();
    let mut request = request("x");
    let without = provider.input_tokens_at_most(&request);
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
        "additionalProperties": false});
    request.schema = Some(schema.clone());
    assert!(provider.input_tokens_at_most(&request) > without + schema.to_string().len() as u64);
    ask(&provider, &request).await.unwrap();
    request.schema = Some(json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}));
    ask(&provider, &request).await.unwrap();
    let seen = server.requests();
    assert_eq!(seen[0].line, "POST /gateway/v1/messages HTTP/1.1");
    assert_eq!(seen[0].body["output_config"], json!({"format": {"type": "json_schema", "schema": schema}}));
    assert_eq!(seen[1].body.get("output_config"), None);
}

#[tokio::test]
async fn answers_end_for_their_reasons() {
    for (reason, stop) in [
        ("stop_sequence", StopReason::End),
        ("max_tokens", StopReason::MaxTokens),
        ("model_context_window_exceeded", StopReason::MaxTokens),
        ("refusal", StopReason::Refusal),
        ("something_new", StopReason::End),
    ] {
        let server = Server::start([Reply::json(&answer(reason))]);
        assert_eq!(ask(&provider(&server), &request("x")).await.unwrap().stop, stop, "{reason}");
    }
}

fn events(reason: &str) -> Vec<Value> {
    let delta = |delta: Value| json!({"type": "content_block_delta", "index": 1, "delta": delta});
    vec![
        json!({"type": "message_start", "message": {"model": "some-model-4", "content": [],
            "usage": {"input_tokens": 10, "cache_read_input_tokens": 30, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
        delta(json!({"type": "text_delta", "text": "Hel"})),
        delta(json!({"type": "text_delta", "text": "lo"})),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "message_delta", "delta": {"stop_reason": reason},
            "usage": {"input_tokens": 10, "output_tokens": 9}}),
        json!({"type": "message_stop"}),
    ]
}

#[tokio::test]
async fn a_streamed_answer_comes_in_pieces() {
    for (reason, stop) in [("end_turn", StopReason::End), ("refusal", StopReason::Refusal)] {
        let server = Server::start([Reply::events(&events(reason), "")]);
        let (completion, pieces) = stream(&provider(&server), &request("x")).await;
        let completion = completion.unwrap();
        assert_eq!(pieces, ["Hel", "lo"]);
        assert_eq!((completion.text.as_str(), completion.stop), ("Hello", stop));
        assert_eq!(completion.model, "some-model-4");
        assert_eq!(completion.tokens, Tokens { input: 40, output: 9 });
        assert_eq!(server.request().body["stream"], true);
    }
}

#[tokio::test]
async fn errors_in_a_stream_may_be_asked_again_until_text_was_shown() {
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let early = Reply::events(&[events("end_turn")[0].clone(), error.clone()], "");
    let mut late = events("end_turn");
    late.truncate(6);
    late.push(error);
    let server = Server::start([early, Reply::events(&events("end_turn"), ""), Reply::events(&late, "")]);
    let (provider, request) = (provider(&server), request("x"));
    let most = Tokens { input: provider.input_tokens_at_most(&request), output: 100 };

    // It had begun, so it may have been charged for.
    let (completion, pieces) = stream(&provider, &request).await;
    let error = completion.unwrap_err();
    assert!(pieces.is_empty() && error.retry.is_some(), "{error}");
    assert_eq!(error.charged, Some(most));

    let (completion, pieces) = stream(&provider, &request).await;
    assert_eq!((pieces.concat(), completion.unwrap().tokens.output), ("Hello".into(), 9));

    let (completion, pieces) = stream(&provider, &request).await;
    let error = completion.unwrap_err();
    assert_eq!(pieces, ["Hel"]);
    assert_eq!((error.status, error.attempts, error.charged), (Some(529), 1, Some(most)));
    // What was shown is not followed by another answer.
    assert!(error.retry.is_none() && error.message.contains("Overloaded"), "{error}");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_key_is_wanted() {
    let error = Anthropic::builder().build().unwrap_err();
    assert!(error.remedy().unwrap().contains("ANTHROPIC_API_KEY"));
}
