//! `agentkernel mcp serve`, spoken to as a client speaks.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, ChildStdout};

use serde_json::json;

#[cfg(unix)]
use super::signals::kill;
use super::*;

/// A server and its streams.
struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    next: u64,
}

impl Server {
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        Server::of(agentkernel(directory), arguments)
    }

    fn of(mut command: Command, arguments: &[&str]) -> Self {
        let mut child = command
            .args(["mcp", "serve"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut server = Server { child, stdin, stdout, next: 0 };
        let about = server.request(
            "initialize",
            json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } }),
        );
        assert_eq!(about["serverInfo"]["name"], "agentkernel");
        server.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        server
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.stdin.as_mut().unwrap(), "{message}").unwrap();
    }

    /// Each line of standard output is a message; gives the next one.
    fn message(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn begin(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        let id = self.next;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        id
    }

    fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params);
        loop {
            let message = self.message();
            if message["id"] == id {
                return message["result"].clone();
            }
        }
    }

    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.request("tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    fn execute(&mut self, code: &str) -> Value {
        self.call("execute", json!({ "code": code }))["structuredContent"].clone()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends the input and waits; gives the exit code and what is said on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        drop(self.stdin.take());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert!(rest.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{rest}");
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

#[test]
fn the_flags_and_the_configuration_of_run_hold() {
    let directory = directory();
    fs::create_dir(directory.path().join("work")).unwrap();
    fs::write(directory.path().join("work/data.txt"), "data").unwrap();
    fs::write(
        directory.path().join("agentkernel.toml"),
        "workspace = 'work'\ntimeout = '5s'\nenv = ['A=1']\n[image.warm]\ncode = 'warm = 1'\n",
    )
    .unwrap();
    let mut server = Server::start(directory.path(), &["--env", "B=2", "--timeout", "1s", "--image", "warm"]);
    let outcome = server.execute("import os, sys\nprint('printed', file=sys.__stdout__)\n[os.environ['A'], os.environ['B'], open('data.txt').read(), warm]");
    assert_eq!(outcome["value"], json!(["1", "2", "data", 1]), "{outcome}");
    assert_eq!(outcome["stdout"], "printed\n");
    assert_eq!(server.execute("while True: pass")["outcome"], "timed-out");
    assert_eq!(
        server.execute("import os\nos.write(1, b'raw')\nopen('made.txt', 'w').write('made')")["stdout"],
        "raw"
    );
    let listed = server.request("resources/list", json!({}));
    assert_eq!(listed["resources"][1]["uri"], "workspace:///made.txt");
    assert_eq!(server.end(), (Some(0), String::new()));
    assert_eq!(fs::read_to_string(directory.path().join("work/made.txt")).unwrap(), "made");
}

/// A server that is killed at any moment has lost nothing that it has told of.
#[cfg(unix)]
#[test]
fn a_killed_server_loses_no_turn_no_skill_no_state_and_no_task() {
    let directory = directory();
    let data = directory.path().join("data");
    let arguments = [
        "--sessions",
        "data/sessions",
        "--state",
        "data/state.db",
        "--skills-write",
        "data/skills",
        "--tasks=data/tasks.db",
    ];
    fs::create_dir_all(data.join("skills")).unwrap();
    if std::env::var_os("AGENTKERNEL_PORTABLE").is_some() {
        return;
    }
    let mut ids = Vec::new();
    for round in 0..6 {
        let mut server = Server::start(directory.path(), &arguments);
        let found = server
            .execute("from agentkernel import state\n[globals().get('turns', 0), state.get('kept', 0)]");
        assert_eq!(found["value"], json!([round, round]), "{found}");
        let kept = server.execute(&format!(
            "from agentkernel import skills\nturns = {0}\nstate['kept'] = {0}\nskills.save('skill_{0}', 'value = {0}', 'a skill')",
            round + 1
        ));
        assert_eq!((&kept["outcome"], &kept["saved"]), (&json!("completed"), &json!(true)), "{kept}");
        let task = server.call("task_dispatch", json!({ "code": format!("{round} * 2") }));
        ids.push(task["structuredContent"]["id"].as_str().unwrap().to_owned());
        // In the middle of a turn, at another place each time.
        server.begin("tools/call", json!({ "name": "execute", "arguments": { "code": "turns = -1\nstate['kept'] = -1\nlist(range(1_000_000))" } }));
        std::thread::sleep(Duration::from_millis(15 * round));
        server.kill();
        // What was not told of may be there or not: here it is put right.
        let mut server = Server::start(directory.path(), &arguments);
        let put =
            server.execute(&format!("before = turns\nturns = {0}\nstate['kept'] = {0}\nbefore", round + 1));
        assert_eq!(put["saved"], true, "{put}");
        assert!([json!(round + 1), json!(-1)].contains(&put["value"]), "{put}");
        server.kill();
    }
    let mut server = Server::start(directory.path(), &arguments);
    for (round, id) in ids.iter().enumerate() {
        let ended = server.call("task_wait", json!({ "id": id }));
        assert_eq!(ended["structuredContent"]["result"], round * 2, "{ended}");
    }
    let outcome =
        server.execute("from skills import skill_1, skill_6\n[skill_1.value, skill_6.value, turns]");
    assert_eq!(outcome["value"], json!([1, 6, 6]), "{outcome}");
    server.end();
}

#[cfg(unix)]
#[test]
fn kept_sessions_read_the_context_they_began_with_and_find_their_tasks() {
    let directory = directory();
    let at = directory.path();
    fs::write(at.join("data.txt"), "abc").unwrap();
    let arguments = ["--context", "data.txt", "--tasks=tasks.db", "--sessions", "sessions", "--idle", "none"];
    let mut server = Server::start(at, &arguments);
    let code = "from agentkernel import context, task\npart = context[1:]\n\
                one = task.dispatch('6 * 7')\n[str(part), one.result()]";
    assert_eq!(server.execute(code)["value"], json!(["bc", 42]));
    for name in ["other", "fresh"] {
        server.call("session_create", json!({ "name": name }));
    }
    server.kill();
    // The same in another process, for the session alone.
    let mut server = Server::start(at, &arguments);
    assert_eq!(server.execute("[str(part), one.result(), len(task.list())]")["value"], json!(["bc", 42, 1]));
    let others = json!({ "session": "other", "code": "from agentkernel import task\ntask.list()" });
    assert_eq!(server.call("execute", others)["structuredContent"]["value"], json!([]));
    let fork = server.call("session_fork", json!({ "session": "default", "name": "fork" }));
    assert_eq!(fork["isError"], json!(false), "{fork}");
    let forked = json!({ "session": "fork", "code": "len(task.list())" });
    assert_eq!(server.call("execute", forked)["structuredContent"]["value"], 1);
    server.kill();
    std::thread::sleep(Duration::from_millis(20));
    fs::write(at.join("data.txt"), "abcdef").unwrap();
    let mut server = Server::start(at, &arguments);
    let refused = server.call("execute", json!({ "code": "1" }));
    let text = refused["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("had 3 bytes, and has 6") && text.contains("session_reset"), "{text}");
    // One that has run nothing may read it as it is, and so may one that begins anew.
    let code = "from agentkernel import context\nlen(context)";
    let fresh = json!({ "session": "fresh", "code": code });
    assert_eq!(server.call("execute", fresh)["structuredContent"]["value"], 6);
    server.call("session_reset", json!({}));
    assert_eq!(server.execute(code)["value"], 6);
    server.kill();
    let mut server = Server::start(at, &arguments);
    assert_eq!(server.execute("len(context)")["value"], 6);
    server.kill();
    let mut server = Server::start(at, &arguments[2..]);
    let refused = server.call("execute", json!({ "code": "1" }));
    assert!(refused["content"][0]["text"].as_str().unwrap().contains("has none now"), "{refused}");
    server.end();
    // What their programs could change themselves is no such context.
    fs::create_dir(at.join("work")).unwrap();
    fs::write(at.join("work/data.txt"), "x").unwrap();
    let within = ["mcp", "serve", "--workspace", "work", "--context", "work/data.txt"];
    let output = agentkernel(at).args(within).args(["--sessions", "sessions"]).output().unwrap();
    assert!(stderr(&output).contains("the context `work/data.txt` lies in"), "{}", stderr(&output));
    // None is kept with one.
    assert!(!stderr(&output).contains("--overlay"), "{}", stderr(&output));
}

#[test]
fn signals_and_the_end_of_the_input_end_the_server_in_order() {
    let temporary = directory();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = agentkernel(temporary.path());
        command.env("TMPDIR", temporary.path());
        let mut server = Server::of(command, &[]);
        server.execute("open('f', 'w').write('x')");
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
        server.begin("tools/call", json!({ "name": "execute", "arguments": { "code": "while True: pass" } }));
        std::thread::sleep(Duration::from_millis(100));
        kill(&server.child, signal);
        let output = server.child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{signal}: {}", stderr(&output));
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "{signal}");
    }
    let mut command = agentkernel(temporary.path());
    command.env("TMPDIR", temporary.path());
    let mut server = Server::of(command, &[]);
    server.execute("open('f', 'w').write('x')");
    assert_eq!(server.end(), (Some(0), String::new()));
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    // Nor does one wait that nobody speaks to.
    let silent = agentkernel(temporary.path()).args(["mcp", "serve"]).output().unwrap();
    assert_eq!(
        (silent.status.code(), stdout(&silent), stderr(&silent)),
        (Some(0), String::new(), String::new())
    );
}

#[test]
fn an_overlay_is_applied_when_the_server_ends() {
    let directory = directory();
    fs::create_dir(directory.path().join("work")).unwrap();
    for (apply, code) in [(false, "open('dropped', 'w').write('x')"), (true, "open('taken', 'w').write('x')")]
    {
        let mut arguments = vec!["--workspace", "work", "--overlay"];
        arguments.extend(apply.then_some("--apply"));
        let mut server = Server::start(directory.path(), &arguments);
        assert_eq!(server.execute(code)["outcome"], "completed");
        assert_eq!(fs::read_dir(directory.path().join("work")).unwrap().count(), 0);
        let (code, said) = server.end();
        assert!(code == Some(0) && said.contains("added"), "{said}");
    }
    let names: Vec<_> = fs::read_dir(directory.path().join("work"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(names, ["taken"]);
    // What meets changes of others is kept for later.
    let command = || {
        let mut command = agentkernel(directory.path());
        command.env("AGENTKERNEL_DATA_DIR", directory.path().join("data"));
        command
    };
    let mut server = Server::of(command(), &["--workspace", "work", "--overlay", "--apply"]);
    assert_eq!(server.execute("open('new', 'w').write('ours')")["outcome"], "completed");
    fs::write(directory.path().join("work/new"), "theirs").unwrap();
    let (code, said) = server.end();
    assert_eq!(code, Some(1), "{said}");
    let name = said.split("`agentkernel changes apply ").nth(1).unwrap().split('`').next().unwrap();
    let apply = command().args(["changes", "apply", name, "--ours", "."]).output().unwrap();
    assert_eq!(apply.status.code(), Some(0), "{}", stderr(&apply));
    assert_eq!(fs::read_to_string(directory.path().join("work/new")).unwrap(), "ours");
}

#[test]
fn what_makes_no_sense_is_an_error_with_a_hint() {
    let directory = directory();
    fs::create_dir(directory.path().join("work")).unwrap();
    fs::write(directory.path().join("short"), "short").unwrap();
    fs::write(directory.path().join("work/token"), "0123456789abcdef").unwrap();
    for (arguments, said) in [
        (&["--http=0.0.0.0:0"][..], "no token is set"),
        (&["--http=nonsense"], "no address"),
        (&["--http=127.0.0.1:0", "--token-file", "absent"], "cannot read the token"),
        (&["--http=127.0.0.1:0", "--token-file", "short"], "no token that can be used"),
        (&["--http=127.0.0.1:0", "--token-file", "work/token", "--workspace", "work"], "may read"),
        (&["--http=127.0.0.1:0", "--allow-host", "a:1"], "not the name of a host"),
        (&["--sessions", "work/sessions", "--workspace", "work"], "may write"),
        (&["--sessions", "kept", "--portable"], "cannot be kept"),
        (&["--sessions", "work"], "holds something else than sessions"),
        (&["--image", "absent"], "there is no image"),
        (&["--workspace", "absent"], "absent"),
        (&["--memory", "1KiB"], "too small"),
        (&["--overlay"], "no directory to lie over"),
    ] {
        let output = agentkernel(directory.path()).args(["mcp", "serve"]).args(arguments).output().unwrap();
        let told = stderr(&output);
        assert_eq!(
            (output.status.code(), stdout(&output)),
            (Some(2), String::new()),
            "{arguments:?}: {told}"
        );
        assert!(told.contains(said) && told.contains("hint:"), "{arguments:?}: {told}");
    }
    for arguments in
        [&["--token-file", "short"][..], &["--allow-host", "x"], &["--apply"], &["--max-sessions", "0"]]
    {
        let output = agentkernel(directory.path()).args(["mcp", "serve"]).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let output = agentkernel(directory.path())
        .env("AGENTKERNEL_MCP_TOKEN", "short")
        .args(["mcp", "serve", "--http=0"])
        .output()
        .unwrap();
    assert!(stderr(&output).contains("no token that can be used"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("short`"));
}

#[cfg(unix)]
#[test]
fn http_is_served_where_it_is_said_to_be() {
    let directory = directory();
    let mut child = agentkernel(directory.path())
        .env("AGENTKERNEL_MCP_TOKEN", "0123456789abcdef")
        .args(["mcp", "serve", "--http=0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    let address = said
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .unwrap_or_else(|| panic!("{said}"))
        .to_owned();
    let ask = |head: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream
            .write_all(format!("{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("GET /healthz HTTP/1.1").starts_with("HTTP/1.1 200"));
    assert!(ask("GET /mcp HTTP/1.1").starts_with("HTTP/1.1 401"));
    kill(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}
