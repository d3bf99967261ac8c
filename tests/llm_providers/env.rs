//! Which provider an environment names.

use agentkernel::llm::{HttpOptions, ModelRequest, provider_from_environment};
use agentkernel::{Error, ErrorKind};

use crate::openai::answer;
use crate::server::{Reply, Server};
use crate::{KEY, ask};

/// The name of the provider, or the error.
fn choose(provider: Option<&str>, model: Option<&str>, variables: &[(&str, &str)]) -> Result<String, Error> {
    let lookup = |name: &str| {
        let found = variables.iter().find(|(other, _)| *other == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let provider = provider_from_environment(provider, model, &HttpOptions::new(), lookup);
    provider.map(|provider| provider.name().to_owned())
}

const OPENAI: (&str, &str) = ("OPENAI_API_KEY", KEY);
const LOCAL: (&str, &str) = ("OPENAI_BASE_URL", "http://localhost:11434/v1");
const ANTHROPIC: (&str, &str) = ("ANTHROPIC_API_KEY", KEY);
const AZURE: [(&str, &str); 3] = [
    ("AZURE_OPENAI_API_KEY", KEY),
    ("AZURE_OPENAI_ENDPOINT", "https://example.openai.azure.com/"),
    ("AZURE_OPENAI_DEPLOYMENT", "gpt-5=big, rest"),
];

#[test]
fn the_one_that_is_meant_is_chosen() {
    let all = [OPENAI, ANTHROPIC, AZURE[0], AZURE[1], AZURE[2]];
    for (provider, model, variables, expected) in [
        (None, None, &[OPENAI][..], "openai"),
        (None, None, &[LOCAL], "openai"),
        (None, None, &AZURE, "azure"),
        (None, None, &[ANTHROPIC], "anthropic"),
        (None, Some("claude-x"), &all, "anthropic"),
        (None, Some("gpt-5"), &[OPENAI, ANTHROPIC], "openai"),
        (None, Some("o3-mini"), &[OPENAI, ANTHROPIC], "openai"),
        (None, Some("gpt-5"), &[AZURE[0], AZURE[1], AZURE[2], ANTHROPIC], "azure"),
        // A gateway may have anything.
        (None, Some("claude-x"), &[LOCAL], "openai"),
        (None, Some("llama3"), &[LOCAL, ("ANTHROPIC_API_KEY", ""), ("AZURE_OPENAI_API_KEY", " ")], "openai"),
        (Some("openai"), Some("claude-x"), &all, "openai"),
        (Some("azure"), None, &all, "azure"),
        (Some("anthropic"), Some("gpt-5"), &all, "anthropic"),
    ] {
        assert_eq!(
            choose(provider, model, variables).unwrap(),
            expected,
            "{provider:?} {model:?} {variables:?}"
        );
    }
}

#[test]
fn what_is_missing_or_in_doubt_is_named() {
    for (provider, model, variables, expected) in [
        (None, None, &[][..], "OPENAI_API_KEY"),
        (None, Some("gpt-5"), &[ANTHROPIC], "set OPENAI_API_KEY"),
        (None, Some("claude-x"), &[OPENAI], "set ANTHROPIC_API_KEY"),
        (None, None, &[OPENAI, ANTHROPIC], "`openai`, `anthropic`"),
        (None, Some("gpt-5"), &[OPENAI, AZURE[0]], "`openai`, `azure`"),
        (None, None, &AZURE[..1], "wants AZURE_OPENAI_ENDPOINT"),
        (None, None, &AZURE[..2], "wants AZURE_OPENAI_DEPLOYMENT"),
        (None, None, &AZURE[1..], "wants AZURE_OPENAI_API_KEY"),
        (Some("azure"), None, &[OPENAI], "wants AZURE_OPENAI_API_KEY"),
        (Some("openai"), None, &[ANTHROPIC], "wants OPENAI_API_KEY"),
        (
            Some("anthropic"),
            None,
            &[("ANTHROPIC_BASE_URL", "https://example.com")],
            "wants ANTHROPIC_API_KEY",
        ),
        (Some("gemini"), None, &[OPENAI], "`gemini` is no provider"),
        (None, None, &[("OPENAI_BASE_URL", "localhost:8000")], "OPENAI_BASE_URL cannot be used"),
        (Some("script:no/such.toml"), None, &[], "no/such.toml"),
    ] {
        let error = choose(provider, model, variables).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model);
        assert!(format!("{error:?}").contains(expected), "{error:?} has no {expected}");
        assert!(!format!("{error:?}").contains(KEY));
    }
}

#[tokio::test]
async fn all_variables_have_their_effect() {
    let server = Server::start([Reply::json(&answer("Hello"))]);
    let url = server.url("/base");
    let lookup = |name: &str| {
        Some(match name {
            "OPENAI_BASE_URL" | "AZURE_OPENAI_ENDPOINT" | "ANTHROPIC_BASE_URL" => url.clone(),
            "AZURE_OPENAI_DEPLOYMENT" => "gpt-5=big, rest".into(),
            "AZURE_OPENAI_API_VERSION" => "2025-03-01-preview".into(),
            _ => KEY.into(),
        })
    };
    for (provider, model, line, header) in [
        ("openai", "gpt-5", "/base/chat/completions", "authorization"),
        (
            "azure",
            "gpt-5",
            "/base/openai/deployments/big/chat/completions?api-version=2025-03-01-preview",
            "api-key",
        ),
        (
            "azure",
            "other",
            "/base/openai/deployments/rest/chat/completions?api-version=2025-03-01-preview",
            "api-key",
        ),
        ("anthropic", "claude", "/base/v1/messages", "x-api-key"),
    ] {
        let provider = provider_from_environment(Some(provider), None, &HttpOptions::new(), lookup).unwrap();
        let _ = ask(&*provider, &ModelRequest::new(model, "x", 10)).await;
        let seen = server.requests().pop().unwrap();
        assert_eq!(seen.line, format!("POST {line} HTTP/1.1"));
        assert!(seen.header(header).unwrap().ends_with(KEY));
    }
}

#[tokio::test]
async fn a_script_is_named_by_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.toml");
    std::fs::write(&path, "[[rule]]\nreply = 'yes'\n").unwrap();
    let name = format!("script:{}", path.display());
    let provider = provider_from_environment(Some(&name), None, &HttpOptions::new(), |_| None).unwrap();
    assert_eq!(ask(&*provider, &ModelRequest::new("m", "x", 10)).await.unwrap().text, "yes");
}
