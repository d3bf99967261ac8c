//! `--trace` and `--otlp`: what is told, to whom, and what is not.

#[path = "telemetry/collector.rs"]
mod collector;

use self::collector::{Collector, Span};
use super::*;

/// What programs say here, and nobody may be told.
const SECRET: &str = "xyzzy";

const SCRIPT: &str = "[[rule]]\nmatch = \"(?s)(.*)\"\nreply = \"$1 xyzzy?\"\ndelay_ms = 100\ntokens = { input = 1000, output = 100 }\n";

/// A directory with a script for a model, and a program that uses all there is to tell.
fn place() -> tempfile::TempDir {
    let directory = directory();
    fs::write(directory.path().join("script.toml"), SCRIPT).unwrap();
    fs::write(
        directory.path().join("program.py"),
        "from agentkernel import ask_llm, ask_llm_batch\nfrom tools import echo\nprint('xyzzy')\nhelp(echo)\nask_llm('xyzzy')\nask_llm_batch(['xyzzy', 'b'])\n",
    )
    .unwrap();
    directory
}

fn run(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = agentkernel(directory);
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tools/echo.wasm");
    command.args(["run", "--model", "m", "--provider", "script:script.toml", "--tools"]).arg(tools);
    command.args(arguments).arg("program.py");
    command
}

/// The events of a trace that are spans.
fn spans(file: &Path) -> Vec<Value> {
    let whole: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let events = whole["traceEvents"].as_array().unwrap();
    events.iter().filter(|event| event["ph"] == "X").cloned().collect()
}

fn named<'a>(spans: &'a [Value], name: &str) -> Vec<&'a Value> {
    spans.iter().filter(|span| span["name"] == name).collect()
}

#[test]
fn a_trace_shows_what_lies_within_what() {
    let directory = place();
    let file = directory.path().join("trace.json");
    let output = run(directory.path(), &["--trace", "trace.json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains(SECRET) && !text.contains("import"), "{text}");
    let spans = spans(&file);
    for name in ["kernel build", "session", "session start", "turn"] {
        assert_eq!(named(&spans, name).len(), 1, "{name}: {text}");
    }
    let chats = named(&spans, "chat m");
    assert_eq!(chats.len(), 3);
    assert_eq!(chats[0]["args"]["gen_ai.usage.input_tokens"], 1000);
    // On the same track, and within in time.
    let within = |inner: &Value, outer: &Value| {
        let (start, end) = (inner["ts"].as_f64().unwrap(), inner["dur"].as_f64().unwrap());
        let (outer_start, length) = (outer["ts"].as_f64().unwrap(), outer["dur"].as_f64().unwrap());
        start >= outer_start && start + end <= outer_start + length + 0.01
    };
    let (session, turn) = (named(&spans, "session")[0], named(&spans, "turn")[0]);
    assert!(within(turn, session) && turn["tid"] == session["tid"], "{text}");
    assert!(chats.iter().all(|chat| within(chat, turn)));
    assert_eq!(chats[0]["tid"], turn["tid"]);
    // Two of a batch overlap, so that one has a track of its own.
    assert_ne!(chats[1]["tid"], chats[2]["tid"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0);
    }
    // Texts where they are asked for.
    let output = run(directory.path(), &["--trace", "trace.json", "--trace-content"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("import echo") && text.contains("xyzzy xyzzy?"), "{text}");
}

#[cfg(unix)]
#[test]
fn a_trace_is_whole_whatever_ends_the_run() {
    let directory = directory();
    let file = directory.path().join("trace.json");
    for (signal, ending) in [("INT", Some("cancelled")), ("KILL", None)] {
        let mut child = agentkernel(directory.path())
            .args(["run", "--trace", "trace.json", "-c", "print('up', flush=True)\nwhile True: pass"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = [0; 2];
        child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        let status = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(status.unwrap().success());
        child.wait().unwrap();
        let spans = spans(&file);
        let turns = named(&spans, "turn");
        assert_eq!(
            turns.first().map(|turn| turn["args"]["agentkernel.turn.ending"].as_str().unwrap()),
            ending
        );
    }
    // A second signal ends the process at once; what had not ended is there all the same.
    let code =
        "import time\nprint('up', flush=True)\ntry:\n    while True: pass\nfinally:\n    time.sleep(100)";
    let mut child = agentkernel(directory.path())
        .args(["repl", "--trace", "trace.json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = write!(child.stdin.as_mut().unwrap(), "print('up', flush=True)\nimport time; time.sleep(100)\n");
    let mut up = [0; 2];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    let status = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(status.unwrap().success() && !code.is_empty());
    child.wait().unwrap();
    let spans = spans(&file);
    let session = named(&spans, "session")[0];
    assert_eq!(session["args"]["agentkernel.unfinished"], true, "{spans:?}");
}

#[test]
fn turns_of_named_sessions_runs_and_workers_are_traced() {
    let directory = place();
    let command = |arguments: &[&str]| {
        let output = agentkernel(directory.path())
            .env("AGENTKERNEL_DATA_DIR", directory.path().join("data"))
            .env("XDG_STATE_HOME", directory.path().join("state"))
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code(), stdout(&output), stderr(&output))
    };
    let file = directory.path().join("t.json");
    let ended = command(&["session", "new", "mine"]);
    if ended.0 == Some(0) {
        let ended = command(&["session", "run", "--trace", "t.json", "mine", "-c", "x = 1"]);
        assert_eq!(ended.0, Some(0), "{}", ended.2);
        assert_eq!(named(&spans(&file), "turn").len(), 1);
    }
    let id = command(&["task", "dispatch", "-c", "'xyzzy'"]).1;
    let ended = command(&["task", "work", "--drain", "--trace", "t.json"]);
    assert_eq!(ended.0, Some(0), "{}", ended.2);
    let told = spans(&file);
    let task = named(&told, "task")[0];
    assert_eq!(task["args"]["agentkernel.task.id"], id.trim());
    assert_eq!(task["args"]["agentkernel.task.outcome"], "succeeded");
    let script = "[[rule]]\nmatch = \"Why\"\nreply = \"```python\\nFINAL('xyzzy')\\n```\"\n";
    fs::write(directory.path().join("rlm.toml"), script).unwrap();
    let ended =
        command(&["rlm", "--model", "m", "--provider", "script:rlm.toml", "--trace", "t.json", "Why?"]);
    assert_eq!(ended.0, Some(0), "{}", ended.2);
    let told = spans(&file);
    assert_eq!(named(&told, "invoke_agent rlm")[0]["args"]["agentkernel.run.ending"], "answered");
    assert!(!fs::read_to_string(&file).unwrap().contains(SECRET));
}

#[test]
fn a_collector_gets_spans_with_their_parents() {
    let directory = place();
    let collector = Collector::start(200);
    let output = run(directory.path(), &["--otlp", &collector.url]).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let requests = collector.requests();
    let request = &requests[0];
    assert!(request.head.starts_with("POST /v1/traces HTTP/1.1"), "{}", request.head);
    assert!(request.head.to_ascii_lowercase().contains("content-type: application/x-protobuf"));
    for request in &requests {
        let text = String::from_utf8_lossy(&request.body);
        assert!(!text.contains(SECRET) && !text.contains("import"), "{text}");
    }
    let spans: Vec<Span> = requests.iter().flat_map(collector::spans).collect();
    let find = |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name}"));
    let (session, turn) = (find("session"), find("turn"));
    assert!(session.parent.is_empty());
    assert_eq!((&turn.parent, &turn.trace), (&session.id, &session.trace));
    let chats: Vec<_> = spans.iter().filter(|span| span.name == "chat m").collect();
    assert_eq!(chats.len(), 3);
    assert!(chats.iter().all(|chat| chat.parent == turn.id));
    // A client's.
    assert_eq!((chats[0].kind, turn.kind), (3, 1));
    for (name, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", "m"),
        ("gen_ai.provider.name", "script"),
        ("gen_ai.usage.input_tokens", "#1000"),
        ("gen_ai.usage.output_tokens", "#100"),
    ] {
        assert_eq!(chats[0].attributes.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(requests[0].resource()["service.name"], "agentkernel");
}

#[test]
fn the_variables_of_opentelemetry_count_where_they_are_asked_for() {
    let directory = place();
    let collector = Collector::start(200);
    // Not by themselves.
    let asked = |arguments: &[&str]| {
        let mut command = run(directory.path(), arguments);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("{}/base/", collector.url));
        command.env("OTEL_SERVICE_NAME", "mine").env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=search");
        let output = command.output().unwrap();
        (output.status.code(), stderr(&output))
    };
    assert_eq!(asked(&[]), (Some(0), String::new()));
    assert!(collector.requests().is_empty());
    assert_eq!(asked(&["--otlp", "env"]), (Some(0), String::new()));
    let request = collector.requests().remove(0);
    assert!(request.head.starts_with("POST /base/v1/traces"), "{}", request.head);
    assert!(request.head.contains("x-team: search"), "{}", request.head);
    assert_eq!(request.resource()["service.name"], "mine");
    // A file says where spans go, but not where headers of the environment go.
    fs::write(directory.path().join("agentkernel.toml"), "[telemetry]\notlp = 'http://127.0.0.1:1'\n")
        .unwrap();
    let (code, told) = asked(&[]);
    assert_eq!(code, Some(2));
    assert!(told.contains("OTEL_EXPORTER_OTLP_HEADERS of the environment is sent"), "{told}");
    assert!(collector.requests().is_empty());
}

#[test]
fn a_collector_that_is_away_slow_or_unwilling_is_a_warning() {
    let directory = place();
    let unwilling = Collector::start(503);
    // Takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    for (url, part) in [
        ("http://127.0.0.1:1".to_owned(), "cannot be reached"),
        (unwilling.url.clone(), "answered 503"),
        (silent_url, "took longer than 3 s"),
    ] {
        let began = Instant::now();
        let output = run(directory.path(), &["--otlp", &url]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stdout(&output).starts_with("xyzzy\n"));
        let told = stderr(&output);
        assert!(told.contains("warning: spans were lost:") && told.contains(part), "{url}: {told}");
        assert!(began.elapsed() < Duration::from_secs(60), "{url}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let directory = place();
    for (arguments, part) in [
        (&["--trace-content"][..], "`--trace-content` has no effect"),
        (&["--otlp", "localhost:4318"], "is not given a URL"),
        (&["--trace", "absent/trace.json"], "cannot write the trace"),
        (&["--trace", "/dev/null/x"], "cannot write the trace"),
    ] {
        let output = run(directory.path(), arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(part), "{arguments:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty());
    }
    // A variable that waits for a trace is none.
    let output = run(directory.path(), &[]).env("AGENTKERNEL_TRACE_CONTENT", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // The file's table serves where no flag does.
    fs::write(directory.path().join("agentkernel.toml"), "[telemetry]\ntrace = 'by-file.json'\n").unwrap();
    let output = run(directory.path(), &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(named(&spans(&directory.path().join("by-file.json")), "turn").len(), 1);
}
