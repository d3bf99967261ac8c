//! A provider behind TLS.

#[path = "../tools_grants/tls.rs"]
mod server;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use agentkernel::llm::OpenAi;

use crate::openai::answer;
use crate::{KEY, ask, quick, request};

fn start(host: &str) -> SocketAddr {
    server::start(host, |_| answer("Hello").to_string())
}

/// Whom the system trusts is read from the environment, so each question has a process of its own.
fn ask_trusting(file: &Path, test: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "--ignored", test]).env_remove("SSL_CERT_DIR").env("SSL_CERT_FILE", file);
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_server_is_asked_that_can_prove_who_it_is() {
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools_grants/tls");
    ask_trusting(&tls.join("ca.pem"), "tls::child_that_trusts");
    let empty = tempfile::NamedTempFile::new().unwrap();
    ask_trusting(empty.path(), "tls::child_that_trusts_nobody");
}

#[tokio::test]
#[ignore = "run by a_server_is_asked_that_can_prove_who_it_is"]
async fn child_that_trusts() {
    let url = |host: &str| format!("https://{}/v1", start(host));
    let openai = |url: String| OpenAi::builder().key(KEY).base_url(url).http(quick()).build().unwrap();
    assert_eq!(ask(&openai(url("127.0.0.1")), &request("x")).await.unwrap().text, "Hello");
    // The certificate is for `localhost` and 127.0.0.1 alone. Not every system has this address.
    if TcpListener::bind(("127.0.0.2", 0)).is_err() {
        return;
    }
    let error = ask(&openai(url("127.0.0.2")), &request("x")).await.unwrap_err();
    assert!(error.message.contains("certificate"), "{error}");
    assert_eq!((error.attempts, error.charged, error.retry), (1, None, None));
}

#[tokio::test]
#[ignore = "run by a_server_is_asked_that_can_prove_who_it_is"]
async fn child_that_trusts_nobody() {
    let url = format!("https://{}/v1", start("127.0.0.1"));
    let openai = OpenAi::builder().key(KEY).base_url(url).http(quick()).build().unwrap();
    let error = ask(&openai, &request("x")).await.unwrap_err();
    assert!(error.message.contains("no certificates"), "{error}");
    assert_eq!((error.attempts, error.charged), (1, None));
}
