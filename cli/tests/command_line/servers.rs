//! Tools that are MCP servers, on the command line.

use super::*;

/// A server that answers in lines of a shell.
const SERVER: &str = r#"
while read -r line; do
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
  case $line in
    *'"initialize"'*) answer '{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}' ;;
    *'"tools/list"'*) answer '{"tools":[{"name":"greet","description":"Greets \u001b[31msomebody.","inputSchema":{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}}]}' ;;
    *'"tools/call"'*) answer "{\"content\":[{\"type\":\"text\",\"text\":\"hello from $MODE in ${PWD##*/}\"}]}" ;;
  esac
done
"#;

fn configured(table: &str) -> tempfile::TempDir {
    let directory = directory();
    fs::create_dir(directory.path().join("work")).unwrap();
    fs::write(directory.path().join("server.sh"), SERVER).unwrap();
    fs::write(directory.path().join("agentkernel.toml"), format!("[tool.s]\n{table}")).unwrap();
    directory
}

const TABLE: &str = "mcp = { command = 'sh', args = ['server.sh'] }\nenv = ['MODE=test']\nallow.greet.name = { max-length = 5 }";

#[test]
fn a_server_is_a_tool_like_others() {
    let directory = configured(TABLE);
    let run = |arguments: &[&str]| agentkernel(directory.path()).args(arguments).output().unwrap();
    let code = "from tools.s import greet; print(greet('you'))";
    let output = run(&["run", "-c", code]);
    let name = directory.path().file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(stdout(&output), format!("hello from test in {name}\n"), "{}", stderr(&output));
    // What the library of the protocol says is not told: it has in it what the server says.
    let output = run(&["run", "-v", "-c", code]);
    assert!(!stderr(&output).contains("peer_info"), "{}", stderr(&output));
    let output = run(&["run", "-c", "from tools.s import greet; greet('everybody')"]);
    assert!(stderr(&output).contains("`name` has a length of 9, and 5 are allowed"), "{}", stderr(&output));
    assert_eq!(stdout(&run(&["tool", "list"])), "s  functions of an MCP server\n");
    let output = run(&["tool", "describe", "s.greet"]);
    assert_eq!(
        stdout(&output),
        "def greet(name: str) -> Any:\n    \"\"\"> Greets [31msomebody.\"\"\"\n",
        "{}",
        stderr(&output)
    );
    let output = run(&["tool", "search", "greets", "--json"]);
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(found[0]["signature"], "s.greet(name: str) -> Any");
    let output = run(&["tool", "describe", "s", "--json"]);
    assert!(stdout(&output).contains("s.greet(name: str) -> Any"), "{}", stdout(&output));
    let output = run(&["tool", "call", "s.greet", "{\"name\": \"you\"}"]);
    assert_eq!(stdout(&output), format!("\"hello from test in {name}\"\n"), "{}", stderr(&output));
    let output = run(&["tool", "stubs", "--out", "stubs"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let stub = fs::read_to_string(directory.path().join("stubs/tools/s/__init__.pyi")).unwrap();
    assert!(stub.contains("def greet(name: str) -> Any:"), "{stub}");
}

/// One that goes on when it is asked to end and when nobody talks to it any more.
#[cfg(unix)]
#[test]
fn a_server_ends_with_the_process_however_that_ends() {
    let directory = configured(TABLE);
    let server = format!("trap '' TERM\necho $$ > number\n{SERVER}\nwhile :; do sleep 1; done");
    fs::write(directory.path().join("server.sh"), server).unwrap();
    let mut child = agentkernel(directory.path())
        .args(["repl", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let stdin = child.stdin.as_mut().unwrap();
    writeln!(stdin, "from tools.s import greet").unwrap();
    signals::wait_for(&directory.path().join("number"));
    signals::kill(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    let number = fs::read_to_string(directory.path().join("number")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    // One that is dead may wait for who began this machine.
    let goes_on = || {
        let state = Command::new("ps").args(["-o", "stat=", "-p", number.trim()]).output().unwrap();
        !matches!(stdout(&state).trim().chars().next(), None | Some('Z'))
    };
    while goes_on() {
        assert!(Instant::now() < deadline, "the server goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_program_that_needs_no_server_starts_none() {
    let directory = configured("mcp = { command = 'sh', args = ['-c', 'echo started > started'] }");
    let run = |arguments: &[&str]| agentkernel(directory.path()).args(arguments).output().unwrap();
    let started = || directory.path().join("started").exists();
    assert_eq!(
        stdout(&run(&["run", "-c", "import tools; print(tools.describe())"])),
        "s: functions of an MCP server\n"
    );
    run(&["tool", "list"]);
    assert!(!started());
    let output = run(&["run", "-c", "import tools.s"]);
    assert!(stderr(&output).contains("the MCP server `s` cannot be used"), "{}", stderr(&output));
    assert!(started());
    let output = run(&["tool", "stubs", "--out", "stubs"]);
    assert!(
        stderr(&output).contains("the tool `s` is left out: the MCP server `s` cannot be used"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn mistakes_are_errors_with_a_remedy() {
    for (table, message) in [
        ("mcp = {}", "names no server"),
        ("mcp = { command = 'a', url = 'https://a.test' }", "has both a `command` and a `url`"),
        ("mcp = { command = 'a', headers = { A = 'b' } }", "has `headers`"),
        ("mcp = { url = 'https://a.test', args = ['b'] }", "has `args` or a `directory`"),
        ("mcp = { url = 'http://a.test' }", "is not at `https`"),
        ("mcp = { command = 'a', start-timeout = 'none' }", "has no limit of its start"),
        ("mcp = { command = 'a', colour = 'red' }", "unknown field `colour`"),
        ("mcp = { command = 'a' }\npython = 'b'", "more than one of `component`, `python` and `mcp`"),
        ("mcp = { command = 'a' }\nmemory = '1MiB'", "`memory` has no effect on the tool `s`"),
        ("mcp = { command = 'a' }\nmounts = ['work:/w']", "`mounts` has no effect on the tool `s`"),
        (
            "mcp = { url = 'https://a.test', headers = { A = '{{KEY}}' } }",
            "the secret `KEY`, which is not granted",
        ),
    ] {
        let directory = configured(table);
        let output = agentkernel(directory.path()).args(["run", "-c", "print(1)"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{table}: {}", stdout(&output));
        assert!(
            stderr(&output).contains(message) && stderr(&output).contains("hint: "),
            "{table}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn a_server_that_the_program_could_replace_is_refused() {
    for table in [
        "mcp = { command = 'sh', args = ['work/server.sh'] }",
        "mcp = { command = 'work/server.sh' }",
        "mcp = { command = 'sh', directory = 'work' }",
    ] {
        let directory = configured(table);
        fs::write(directory.path().join("work/server.sh"), SERVER).unwrap();
        let output =
            agentkernel(directory.path()).args(["run", "-w", "work", "-c", "print(1)"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{table}: {}", stdout(&output));
        assert!(stderr(&output).contains("the MCP server `"), "{table}: {}", stderr(&output));
        // Where the program may write nothing, nothing is to be feared.
        let output = agentkernel(directory.path()).args(["run", "-c", "print(1)"]).output().unwrap();
        assert_eq!(stdout(&output), "1\n", "{}", stderr(&output));
    }
    // Beside a component nobody may name a server.
    let directory = directory();
    fs::create_dir(directory.path().join("t")).unwrap();
    fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tools/echo.wasm"),
        directory.path().join("t/echo.wasm"),
    )
    .unwrap();
    fs::write(directory.path().join("t/tools.toml"), "[tool.echo]\nmcp = { command = 'sh' }").unwrap();
    let output = agentkernel(directory.path()).args(["tool", "list", "--tools", "t"]).output().unwrap();
    assert!(
        stderr(&output).contains("grants the tool `echo` more than the workspace"),
        "{}",
        stderr(&output)
    );
}
