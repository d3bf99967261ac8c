//! What tools are granted by `agentkernel.toml`.

#[path = "../../../tests/tools_grants/server.rs"]
#[expect(dead_code, reason = "other tests ask more of it")]
mod server;
#[path = "../../../tests/tools_grants/tls.rs"]
mod tls;

use super::*;
use server::Server;

/// A directory with a configuration that has the tool `fetch`.
fn with_config(text: &str) -> tempfile::TempDir {
    let directory = directory();
    configure(&directory, text);
    directory
}

fn configure(directory: &tempfile::TempDir, text: &str) {
    let tool =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tools/fetch.wasm").canonicalize().unwrap();
    let text = format!("tools = [{tool:?}]\n{text}");
    fs::write(directory.path().join("agentkernel.toml"), text).unwrap();
}

fn fetch(directory: &tempfile::TempDir, code: &str, variables: &[(&str, &str)]) -> Output {
    let code = format!("from tools.fetch import requests as r, machine as m\n{code}");
    let mut command = agentkernel(directory.path());
    command.args(["run", "-c", &code]).envs(variables.iter().copied()).output().unwrap()
}

/// What was denied says which lines grant it; with just these lines it works.
#[test]
fn the_line_of_a_denial_grants_it() {
    let server = Server::start();
    for (code, expected) in [
        (format!("print(r.fetch('POST', {:?}, [], b'x').status)", server.url("/")), "200\n"),
        (format!("print(r.must({:?}))", server.url("/x?y")), "200\n"),
        (
            format!("print(r.fetch('GET', 'http://localhost:{}/', [], None).status)", server.address.port()),
            "200\n",
        ),
    ] {
        let directory = with_config("");
        let output = fetch(&directory, &code, &[]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let denial = stderr(&output);
        let (_, lines) = denial.split_once("grant it in agentkernel.toml with:\n").expect(&denial);
        configure(&directory, lines);
        let output = fetch(&directory, &code, &[]);
        assert_eq!(stdout(&output), expected, "{lines}: {}", stderr(&output));
    }
    // A tool that was denied what it cannot do without.
    let directory = with_config("[tool.fetch]\nclock = 'none'\nrandom = 'none'");
    for key in ["clock", "random"] {
        let code = if key == "clock" { "print(m.seconds() > 0)" } else { "print(len(m.random(3)) == 3)" };
        let denial = stderr(&fetch(&directory, code, &[]));
        let (_, lines) = denial.split_once("grant it in agentkernel.toml with:\n").expect(&denial);
        assert!(lines.contains(key), "{lines}");
        let granted = with_config(lines);
        assert_eq!(stdout(&fetch(&granted, code, &[])), "True\n");
    }
}

#[test]
fn sources_of_chance_and_time_are_configured() {
    let directory = with_config("[tool.fetch]\nrandom = { seed = 42 }\nclock = 2009-02-13T23:31:30Z");
    let code = "print(m.seconds(), m.random(8).hex())";
    let first = stdout(&fetch(&directory, code, &[]));
    assert!(first.starts_with("1234567890 "), "{first}");
    assert_eq!(first, stdout(&fetch(&directory, code, &[])));
}

const KEY: &str = "sk-0123456789abcdef";

/// Over TLS, with the roots that `SSL_CERT_FILE` names; the key is seen by the server alone.
#[test]
fn a_secret_is_put_in_at_the_boundary() {
    let address = tls::start("127.0.0.1", |head| head);
    let port = address.port();
    let plain = Server::start();
    let directory = with_config(&format!(
        "[tool.fetch]
        http = ['localhost:{port}', '127.0.0.1:{port}', 'http://{}']
        secrets.KEY = {{ env = 'MY_KEY', hosts = ['localhost:{port}'] }}",
        plain.address
    ));
    let roots = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tools_grants/tls/ca.pem");
    let variables = [("MY_KEY", KEY), ("SSL_CERT_FILE", roots.to_str().unwrap()), ("SSL_CERT_DIR", "")];
    let get = |url: &str| {
        format!(
            "print(r.fetch('GET', '{url}', [('authorization', 'Bearer {{{{KEY}}}}')], None).body.decode())"
        )
    };
    let output = fetch(&directory, &get(&format!("https://localhost:{port}/")), &variables);
    let covered = format!("authorization: Bearer {}", "*".repeat(KEY.len()));
    assert!(stdout(&output).contains(&covered), "{output:?}");
    for url in [format!("https://127.0.0.1:{port}/"), plain.url("/")] {
        let output = fetch(&directory, &get(&url), &variables);
        assert!(stderr(&output).contains("the secret `KEY` may not be sent to"), "{output:?}");
        assert!(!stderr(&output).contains(KEY) && !stdout(&output).contains(KEY));
    }
    assert_eq!(plain.connections(), 0);
    let output = fetch(&directory, &format!("print(r.must('https://127.0.0.1:{port}/'))"), &variables);
    assert_eq!(stdout(&output), "200\n", "{output:?}");
    // Neither the program nor the tool finds it anywhere.
    let code = "import os\nprint(dict(os.environ))";
    assert!(!stdout(&fetch(&directory, code, &variables)).contains(KEY));
    // Who is not vouched for is not talked to.
    let code = format!("r.fetch('GET', 'https://localhost:{port}/', [], None)");
    let output = fetch(&directory, &code, &[("MY_KEY", KEY)]);
    assert!(stderr(&output).contains("ErrorCode::TlsCertificateError"), "{output:?}");
    let empty = directory.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let output = fetch(
        &directory,
        &code,
        &[("MY_KEY", KEY), ("SSL_CERT_FILE", empty.to_str().unwrap()), ("SSL_CERT_DIR", "")],
    );
    assert!(stderr(&output).contains("no certificates of authorities"), "{output:?}");
}

#[test]
fn grants_that_cannot_be_are_errors_with_a_remedy() {
    for (config, message) in [
        ("http = ['POST']\nhttps = []", "agentkernel.toml:4:1"),
        ("http = ['get a.test']", "`get` is not a list of methods"),
        ("http = ['ftp://a.test']", "`ftp` is not a scheme that can be granted"),
        (
            "http = ['a.test']\nsecrets.KEY = { env = 'UNSET_KEY', hosts = ['a.test'] }",
            "the variable `UNSET_KEY` is not set",
        ),
        ("http = ['a.test']\nsecrets.KEY = { env = 'SHORT', hosts = ['a.test'] }", "fewer than 8 characters"),
        (
            "http = ['a.test']\nsecrets.KEY = { env = 'MY_KEY', hosts = ['b.test'] }",
            "where no rule lets requests go",
        ),
        (
            "http = ['http://a.test']\nsecrets.KEY = { env = 'MY_KEY', hosts = ['http://a.test'] }",
            "in plain text",
        ),
        ("secrets.KEY = { env = 'MY_KEY', hosts = ['b.test'] }", "where no rule lets requests go"),
        ("http = ['a.test']\nsecrets.KEY = { value = 'x', hosts = [] }", "unknown field `value`"),
        ("max-requests = 3", "`max-requests` in `[tool.fetch]` has no effect"),
        ("random = 'often'", "`random` is"),
        ("random = { seed = -1 }", "`random` is"),
        ("clock = 2026-01-01T00:00:00", "`clock` is"),
        ("clock = 'noon'", "`clock` is"),
        ("resources = 'refused'", "`resources` has no effect on the tool `fetch`"),
        ("resources = 'forgotten'", "unknown variant `forgotten`"),
    ] {
        let directory = with_config(&format!("[tool.fetch]\n{config}"));
        let output = fetch(&directory, "", &[("MY_KEY", KEY), ("SHORT", "short")]);
        assert_eq!(output.status.code(), Some(2), "{config}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{config}: {}", stderr(&output));
        assert!(stderr(&output).contains("hint: ") && !stderr(&output).contains(KEY), "{}", stderr(&output));
    }
    // What lies beside a tool grants it nothing of this.
    let directory = directory();
    fs::create_dir(directory.path().join("t")).unwrap();
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tools/fetch.wasm");
    fs::copy(tool, directory.path().join("t/fetch.wasm")).unwrap();
    for grant in ["http = ['*']", "secrets.K = { env = 'PATH', hosts = ['a.test'] }", "random = 'system'"] {
        fs::write(directory.path().join("t/tools.toml"), format!("[tool.fetch]\n{grant}")).unwrap();
        let output = agentkernel(directory.path()).args(["run", "--tools", "t", "-c", "1"]).output().unwrap();
        assert!(stderr(&output).contains("more than the workspace"), "{}", stderr(&output));
    }
}
