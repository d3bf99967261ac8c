//! A provider behind TLS, with a certificate that `tools_grants/tls/ca.pem` vouches for. The keys are in the
//! repository, so nothing else should trust it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use agentkernel::llm::OpenAi;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::openai::answer;
use crate::{KEY, ask, quick, request};

fn start(host: &str) -> SocketAddr {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("../tools_grants/tls/cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../tools_grants/tls/key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind((host, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            std::thread::spawn(move || serve(StreamOwned::new(connection, stream)));
        }
    });
    address
}

fn serve(stream: StreamOwned<ServerConnection, std::net::TcpStream>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let length = head
        .to_ascii_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    stream.read_exact(&mut vec![0; length.unwrap_or(0)])?;
    let body = answer("Hello").to_string();
    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.get_mut().write_all(response.as_bytes())?;
    stream.get_mut().flush()
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
