//! Azure OpenAI.

use agentkernel::llm::{AzureOpenAi, StopReason};
use serde_json::json;

use crate::openai::answer;
use crate::server::{Reply, Server};
use crate::{KEY, ask, quick, request, stream};

#[tokio::test]
async fn deployments_have_addresses_of_their_own() {
    let server = Server::start([Reply::json(&answer("Hello"))]);
    let provider = AzureOpenAi::builder()
        .key(KEY)
        .endpoint(server.url("/"))
        .deployment("some-model", "small_one.2")
        .default_deployment("rest")
        .http(quick())
        .build()
        .unwrap();
    assert_eq!(ask(&provider, &request("x")).await.unwrap().text, "Hello");
    let seen = server.request();
    assert_eq!(
        seen.line,
        "POST /openai/deployments/small_one.2/chat/completions?api-version=2024-10-21 HTTP/1.1"
    );
    assert_eq!(seen.header("api-key"), Some(KEY));
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(seen.body["max_completion_tokens"], 100);

    let mut other = request("x");
    other.model = "another".into();
    other.schema = Some(json!({"type": "object", "properties": {}}));
    ask(&provider, &other).await.unwrap();
    let seen = &server.requests()[1];
    assert!(seen.line.contains("/deployments/rest/"), "{}", seen.line);
    assert_eq!(seen.body["response_format"]["json_schema"]["strict"], false);

    // Schemas of anything but objects are refused there.
    other.schema = Some(json!({"type": "array"}));
    ask(&provider, &other).await.unwrap();
    assert_eq!(server.requests()[2].body.get("response_format"), None);
}

#[tokio::test]
async fn a_model_without_a_deployment_is_not_asked() {
    let server = Server::start([Reply::json(&answer("Hello"))]);
    let provider = AzureOpenAi::builder()
        .key(KEY)
        .endpoint(server.url(""))
        .api_version("2025-01-01-preview")
        .deployment("known", "d")
        .http(quick())
        .build()
        .unwrap();
    let error = ask(&provider, &request("x")).await.unwrap_err();
    assert!(error.message.contains("`some-model`") && error.message.contains("`known`"), "{error}");
    assert_eq!((error.attempts, error.charged), (0, None));
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn filtered_prompts_are_refusals() {
    let body = json!({"error": {"message": "The response was filtered.", "code": "content_filter",
        "innererror": {"code": "ResponsibleAIPolicyViolation"}}});
    // The first event of a stream speaks of the prompt alone.
    let first = json!({"choices": [], "prompt_filter_results": []});
    let last = json!({"choices": [{"delta": {}, "finish_reason": "content_filter"}]});
    let server =
        Server::start([Reply::status(400, &[], &body), Reply::events(&[first, last], "data: [DONE]\n\n")]);
    let provider = AzureOpenAi::builder()
        .key(KEY)
        .endpoint(server.url(""))
        .default_deployment("d")
        .http(quick())
        .build()
        .unwrap();
    let error = ask(&provider, &request("x")).await.unwrap_err();
    assert!(error.refused && error.retry.is_none() && error.charged.is_none());
    assert_eq!((error.status, error.attempts), (Some(400), 1));
    let (completion, pieces) = stream(&provider, &request("x")).await;
    assert_eq!(completion.unwrap().stop, StopReason::Refusal);
    assert!(pieces.is_empty());
}

#[test]
fn what_is_missing_is_named() {
    let base = || AzureOpenAi::builder().key(KEY).endpoint("https://example.openai.azure.com");
    assert!(base().default_deployment("d").build().is_ok());
    for (builder, variable) in [
        (AzureOpenAi::builder(), "AZURE_OPENAI_API_KEY"),
        (AzureOpenAi::builder().key(KEY), "AZURE_OPENAI_ENDPOINT"),
        (base(), "AZURE_OPENAI_DEPLOYMENT"),
    ] {
        let error = builder.build().unwrap_err();
        assert!(error.remedy().unwrap().contains(variable), "{error:?}");
    }
    for wrong in ["", "a/b", "..", "a b", "a?b"] {
        assert!(base().default_deployment(wrong).build().is_err(), "{wrong}");
        assert!(base().default_deployment("d").api_version(wrong).build().is_err(), "{wrong}");
    }
}
