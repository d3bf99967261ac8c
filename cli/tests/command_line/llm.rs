//! Models that are granted to programs: by flags, variables, the configuration and `.env`.

use super::*;

/// A key that must show nowhere.
const KEY: &str = "sk-0123456789-never-shown";

pub const SCRIPT: &str = r#"
[[rule]]
match = "(?s)(.*)"
reply = "$1?"
tokens = { input = 1000, output = 100 }
"#;

const ASK: &str = "from agentkernel import ask_llm, budget\n";

fn with_script() -> tempfile::TempDir {
    let directory = directory();
    fs::write(directory.path().join("script.toml"), SCRIPT).unwrap();
    directory
}

fn granted(directory: &Path, arguments: &[&str], code: &str) -> Output {
    let model = ["run", "--model", "m", "--provider", "script:script.toml"];
    agentkernel(directory).args(model).args(arguments).args(["-c", &format!("{ASK}{code}")]).output().unwrap()
}

#[track_caller]
fn refused(output: &Output, message: &str) {
    assert_eq!(output.status.code(), Some(2), "{}", stdout(output));
    assert!(stderr(output).contains(message), "{}", stderr(output));
}

#[test]
fn a_model_is_granted_by_its_name_alone() {
    let directory = with_script();
    let output = granted(directory.path(), &[], "print(ask_llm('a'), budget().calls, budget().depth)");
    assert_eq!(stdout(&output), "a? 999 1\n", "{}", stderr(&output));
    // A key in the environment grants nothing.
    let output = agentkernel(directory.path())
        .env("OPENAI_API_KEY", KEY)
        .args(["run", "-c", &format!("{ASK}ask_llm('a')")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no model is granted to this program"), "{}", stderr(&output));
    let output = agentkernel(directory.path())
        .env("AGENTKERNEL_LLM_MODEL", "m")
        .env("AGENTKERNEL_LLM_PROVIDER", "script:script.toml")
        .args(["run", "-c", &format!("{ASK}print(ask_llm('a').model)")])
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "m\n", "{}", stderr(&output));
}

#[test]
fn limits_come_from_flags_variables_and_the_file() {
    let directory = with_script();
    let table = "[llm]\nmodel = 'm'\nprovider = 'script:script.toml'\nmax-calls = 7\nmax-tokens = 70000\nmax-depth = 3\n\
                 max-time = '1h'\nmax-cost = 4\nmodels = ['other']\n[llm.prices]\nm = { input = 1, output = 2.5 }\n";
    fs::write(directory.path().join("agentkernel.toml"), table).unwrap();
    let inner = directory.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let code = format!(
        "{ASK}b = budget()\nprint(b.calls, b.tokens, b.depth, b.cost, b.time > 3000, sorted(b.models))"
    );
    let run = |variable: Option<&str>, flags: &[&str]| {
        let mut command = agentkernel(&inner);
        if let Some(calls) = variable {
            command.env("AGENTKERNEL_LLM_MAX_CALLS", calls);
        }
        let output = command.arg("run").args(flags).args(["-c", &code]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    assert_eq!(run(None, &[]), "7 70000 3 4.0 True ['m', 'other']\n");
    assert_eq!(run(Some("6"), &[]), "6 70000 3 4.0 True ['m', 'other']\n");
    let flags = ["--max-calls", "5", "--max-depth", "0", "--max-cost", "$0.5", "--sub-model", "s"];
    let output = agentkernel(&inner).arg("run").args(flags).args(["-c", &code]).output().unwrap();
    refused(&output, "the price of `s` is not known");
    assert_eq!(run(Some("6"), &flags[..6]), "5 70000 0 0.5 True ['m', 'other']\n");
    // Cost is counted by the prices of the file.
    let output = agentkernel(&inner)
        .args(["run", "--json", "-c", &format!("{ASK}ask_llm('a')\nask_llm('b').usage.cost")])
        .output()
        .unwrap();
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["value"], 0.00125);
    let expected = serde_json::json!({
        "m": {"calls": 2, "cached": 0, "input_tokens": 2000, "output_tokens": 200, "cost": 0.0025, "hidden": 0}
    });
    assert_eq!(report["usage"]["llm"], expected);
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/outcome.schema.json");
    let schema: Value = serde_json::from_slice(&fs::read(schema).unwrap()).unwrap();
    let described = schema["$defs"]["asked"]["properties"].as_object().unwrap();
    assert!(described.keys().eq(report["usage"]["llm"]["m"].as_object().unwrap().keys()));
}

#[test]
fn what_runs_out_says_how_to_give_more() {
    let directory = with_script();
    let output = granted(directory.path(), &["--max-calls", "1", "--verbose"], "ask_llm('a')\nask_llm('b')");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("BudgetExceeded: no call of a model is left"), "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: give more with `--max-calls`"), "{}", stderr(&output));
    assert!(stderr(&output).contains("1 call of models (1,000 tokens read, 100 written, cost not known)"));
    let output = granted(directory.path(), &["--max-tokens", "50"], "ask_llm('a')");
    assert!(stderr(&output).contains("(`max-tokens`)"), "{}", stderr(&output));
    let output =
        granted(directory.path(), &["--max-time", "1ms"], "import time\ntime.sleep(0.1)\nask_llm('a')");
    assert!(stderr(&output).contains("(`max-time`)"), "{}", stderr(&output));
}

#[test]
fn what_has_no_effect_or_makes_no_sense_is_refused() {
    let directory = with_script();
    for flags in [["--max-calls", "3"], ["--sub-model", "s"], ["--provider", "openai"], ["--max-time", "1m"]]
    {
        let output = agentkernel(directory.path()).arg("run").args(flags).args(["-c", "1"]).output().unwrap();
        refused(&output, &format!("`{}` has no effect: no model is named", flags[0]));
    }
    // Limits that wait for a model are no grant.
    let output = agentkernel(directory.path())
        .env("AGENTKERNEL_LLM_MAX_COST", "1")
        .args(["run", "-c", "print(1)"])
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "1\n", "{}", stderr(&output));
    for flags in
        [["--max-calls", "0"], ["--max-tokens", "0"], ["--max-concurrency", "0"], ["--max-time", "0s"]]
    {
        refused(&granted(directory.path(), &flags, "1"), "lets no model be asked");
    }
    for flags in [["--max-cost", "-1"], ["--max-cost", "NaN"], ["--max-calls", "-1"], ["--max-time", "soon"]]
    {
        assert_eq!(granted(directory.path(), &flags, "1").status.code(), Some(2), "{flags:?}");
    }
    refused(&granted(directory.path(), &["--max-cost", "3"], "1"), "the price of `m` is not known");
    let output = agentkernel(directory.path())
        .args(["run", "--model", "m", "--provider", "nobody", "-c", "1"])
        .output()
        .unwrap();
    refused(&output, "`nobody` is no provider");
    let output = agentkernel(directory.path()).args(["run", "--model", "gpt-5", "-c", "1"]).output().unwrap();
    refused(&output, "no model provider is configured");
}

#[test]
fn mistakes_in_the_table_are_errors_with_their_place() {
    let directory = with_script();
    for (text, message) in [
        ("[llm]\nmodle = 'm'\n", "agentkernel.toml:2:1`: unknown field `modle`"),
        ("[llm]\nmax-cost = -1\n", "agentkernel.toml:2:12`: `max-cost` is an amount of US dollars"),
        ("[llm]\nmax-time = 'soon'\n", "agentkernel.toml:2:12`"),
        ("[llm.prices]\nm = { input = 1 }\n", "missing field `output`"),
        ("[llm]\nsub-model = 's'\n", "`[llm] sub-model` has no effect: no model is named"),
        (
            "[llm]\nmodel = 'm'\nprovider = 'script:script.toml'\n[llm.prices]\nm = { input = -1, output = 1 }\n",
            "is no amount of money",
        ),
        ("[llm]\nmodel = 'm'\nprovider = 'script:absent.toml'\n", "absent.toml` cannot be read"),
    ] {
        fs::write(directory.path().join("agentkernel.toml"), text).unwrap();
        let output = agentkernel(directory.path()).args(["run", "-c", "1"]).output().unwrap();
        refused(&output, message);
    }
    for name in ["api-key", "api_key", "key", "OPENAI_API_KEY"] {
        fs::write(directory.path().join("agentkernel.toml"), format!("[llm]\n{name} = '{KEY}'\n")).unwrap();
        let output = agentkernel(directory.path()).args(["run", "-c", "1"]).output().unwrap();
        refused(&output, "keys are not kept in this file");
        assert!(!stderr(&output).contains(KEY));
    }
}

/// A server that refuses every request and shows the key that came with it.
fn server() -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (sender, seen) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            let mut buffer = [0; 4096];
            while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => bytes.extend_from_slice(&buffer[..length]),
                }
            }
            let head = String::from_utf8_lossy(&bytes).into_owned();
            let key = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
            let key = key.unwrap_or_default().to_owned();
            let body = format!("{{\"error\": {{\"message\": \"wrong key: {key}\"}}}}");
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            let _ = sender.send(key);
        }
    });
    (url, seen)
}

#[test]
fn keys_are_read_from_the_env_file_and_shown_nowhere() {
    let directory = directory();
    let (url, seen) = server();
    fs::write(directory.path().join(".env"), format!("# keys\nOPENAI_API_KEY='{KEY}'\nOTHER=x\n")).unwrap();
    fs::write(directory.path().join("agentkernel.toml"), format!("[llm]\nbase-url = '{url}'\n")).unwrap();
    let inner = directory.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let code = format!("{ASK}import os\nprint(sorted(os.environ))\nask_llm('a')");
    let all: [&[&str]; 5] = [
        &["run", "--model", "m", "-c", &code],
        &["run", "--model", "m", "--verbose", "-c", &code],
        &["run", "--model", "m", "--json", "-c", &code],
        &["rlm", "--model", "m", "--verbose", "--trajectory", "run.jsonl", "Why?"],
        &["doctor", "--model", "m"],
    ];
    for arguments in all {
        let output = agentkernel(&inner).args(arguments).output().unwrap();
        let text = stdout(&output) + &stderr(&output);
        assert!(!text.contains(KEY), "{arguments:?}: {text}");
        if arguments[0] == "doctor" {
            assert!(text.contains("OPENAI_API_KEY in `"), "{text}");
            assert!(text.contains("model: `m` of openai"), "{text}");
            assert_eq!(output.status.code(), Some(0), "{text}");
        } else {
            assert_eq!(seen.recv_timeout(Duration::from_secs(30)).unwrap(), KEY, "{text}");
            assert_eq!(output.status.code(), Some(1), "{text}");
            assert!(!text.contains("'OTHER'") && !text.contains("'OPENAI_API_KEY'"), "{text}");
        }
    }
    assert!(!fs::read_to_string(inner.join("run.jsonl")).unwrap().contains(KEY));
    // The environment goes before the file.
    let own = "sk-of-the-environment";
    let output = agentkernel(&inner).env("OPENAI_API_KEY", own).args(all[0]).output().unwrap();
    assert_eq!(seen.recv_timeout(Duration::from_secs(30)).unwrap(), own);
    assert!(!stderr(&output).contains(own));
    // A file that the program could read is none to keep keys in.
    for grant in [["--workspace", "."], ["--mount", ".:/d"]] {
        let mut command = agentkernel(directory.path());
        let output = command.args(["run", "--model", "m"]).args(grant).args(["-c", "1"]).output().unwrap();
        refused(&output, "which has keys, lies in a directory that the program may read");
    }
    let output =
        agentkernel(directory.path()).args(["rlm", "--model", "m", "--context", ".", "Why?"]).output();
    refused(&output.unwrap(), "which has keys, lies in a directory that the program may read");
    let output =
        agentkernel(&inner).args(["run", "--no-config", "--model", "gpt-5", "-c", "1"]).output().unwrap();
    refused(&output, "no model provider is configured");
}

#[test]
fn an_env_file_that_is_wrong_is_an_error_without_its_content() {
    let directory = directory();
    for text in [format!("OPENAI_API_KEY={KEY} and more\n"), format!("{KEY}\n"), format!("A='{KEY}\n")] {
        fs::write(directory.path().join(".env"), &text).unwrap();
        let output =
            agentkernel(directory.path()).args(["run", "--model", "gpt-5", "-c", "1"]).output().unwrap();
        refused(&output, "has a line that is not `NAME=VALUE`");
        let doctor = agentkernel(directory.path()).arg("doctor").output().unwrap();
        for output in [output, doctor] {
            assert!(!(stdout(&output) + &stderr(&output)).contains(KEY));
        }
    }
    fs::write(directory.path().join(".env"), "AGENTKERNEL_LLM_MODEL=m\n").unwrap();
    let output = agentkernel(directory.path()).args(["run", "--model", "gpt-5", "-c", "1"]).output().unwrap();
    refused(&output, "`AGENTKERNEL_LLM_MODEL` has no effect in");
    // Without a model it is nobody's business.
    let output = agentkernel(directory.path()).args(["run", "-c", "print(1)"]).output().unwrap();
    assert_eq!(stdout(&output), "1\n");
}

#[test]
fn a_model_may_have_a_provider_of_its_own() {
    let directory = with_script();
    fs::write(directory.path().join("other.toml"), "[[rule]]\nreply = 'from the other'\n").unwrap();
    fs::write(
        directory.path().join("agentkernel.toml"),
        "[llm]\nmodel = 'm'\nprovider = 'script:script.toml'\nprovider-of = { o = 'script:other.toml' }\n",
    )
    .unwrap();
    let code = format!("{ASK}print(ask_llm('a'), ask_llm('a', model='o'))");
    let output = agentkernel(directory.path()).args(["run", "-c", &code]).output().unwrap();
    assert_eq!(stdout(&output), "a? from the other\n", "{}", stderr(&output));
}

/// All sessions of one `repl` have one budget.
#[cfg(unix)]
#[test]
fn a_new_interpreter_has_no_new_budget() {
    let directory = with_script();
    let mut child = agentkernel(directory.path())
        .args(["repl", "--model", "m", "--provider", "script:script.toml", "--timeout", "500ms"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = "from agentkernel import *\nask_llm('a')\nwhile True: pass\n\nfrom agentkernel import *\nprint('left', budget().calls)\n";
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(stdout(&output).contains("left 999"), "{}\n{}", stdout(&output), stderr(&output));
}

#[test]
fn a_run_is_recorded_and_replayed_without_its_provider() {
    let directory = with_script();
    let code = "import time, random, uuid\nprint(ask_llm('a'), time.time(), random.random(), uuid.uuid4(), budget().calls)";
    let first = granted(directory.path(), &["--record", "run.jsonl"], code);
    assert!(stdout(&first).starts_with("a? "), "{}", stderr(&first));
    fs::remove_file(directory.path().join("script.toml")).unwrap();
    let replay = |code: &str| {
        let arguments = ["run", "--replay", "run.jsonl", "-c", &format!("{ASK}{code}")];
        agentkernel(directory.path()).args(arguments).output().unwrap()
    };
    assert_eq!(stdout(&replay(code)), stdout(&first));
    refused(&replay("print(1)"), "the replay diverged at host call 1");
}

#[test]
fn a_run_is_replayed_without_the_files_that_it_read() {
    let directory = tempfile::tempdir().unwrap();
    let work = directory.path().join("work");
    fs::create_dir(&work).unwrap();
    fs::write(work.join("in.txt"), "read once").unwrap();
    let code = "text = open('in.txt').read()\nopen('out.txt', 'w').write(text)\nprint(text)";
    let run = |arguments: &[&str]| {
        let run =
            agentkernel(directory.path()).arg("run").args(arguments).args(["-c", code]).output().unwrap();
        assert_eq!(stdout(&run), "read once\n", "{}", stderr(&run));
    };
    run(&["--record", "run.jsonl", "--workspace", "work"]);
    assert_eq!(fs::read_to_string(work.join("out.txt")).unwrap(), "read once");
    fs::remove_dir_all(&work).unwrap();
    run(&["--replay", "run.jsonl"]);
    run(&["--replay", "run.jsonl", "--workspace", "work"]);
    run(&["--replay", "run.jsonl", "--workspace", "work", "--overlay", "--apply"]);
    fs::create_dir(&work).unwrap();
    run(&["--replay", "run.jsonl", "--workspace", "work"]);
    assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
}

#[test]
fn a_run_that_is_refused_leaves_the_cassette_that_was_there() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("work")).unwrap();
    for (at, arguments, told) in [
        // The program could read what is written of it, and write it.
        ("work", &["--record", "run.jsonl", "--workspace", "."][..], "the cassette `"),
        ("work", &["--record", "run.jsonl", "--mount", "../work:/d:rw"], "the cassette `"),
        ("", &["--record", "run.jsonl", "--workspace", "gone"], "gone"),
        ("", &["--record", "run.jsonl", "--mount", "gone:/d"], "gone"),
    ] {
        let at = directory.path().join(at);
        fs::write(at.join("run.jsonl"), "an earlier one").unwrap();
        let output = agentkernel(&at).arg("run").args(arguments).args(["-c", "print(1)"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(told), "{}", stderr(&output));
        assert_eq!(fs::read_to_string(at.join("run.jsonl")).unwrap(), "an earlier one", "{arguments:?}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn equal_requests_are_asked_once_with_a_cache() {
    let directory = with_script();
    let code = "print(ask_llm('a').cached, budget().calls)";
    let cache = ["--llm-cache", "answers.db"];
    assert_eq!(stdout(&granted(directory.path(), &cache, code)), "False 999\n");
    assert_eq!(stdout(&granted(directory.path(), &cache, code)), "True 1000\n");
}

#[test]
fn data_of_any_size_is_given_to_a_program() {
    let directory = with_script();
    fs::write(directory.path().join("data.txt"), "one\ntwo\nthree\n").unwrap();
    let code =
        "from agentkernel import context\nprint(len(context), [m.text for m in context.search('t[a-z]+')])";
    let output = agentkernel(directory.path()).args(["run", "-C", "data.txt", "-c", code]).output().unwrap();
    assert_eq!(stdout(&output), "14 ['two', 'three']\n", "{}", stderr(&output));
}

#[test]
fn a_file_names_no_server_for_a_key_of_the_environment() {
    let directory = with_script();
    fs::write(directory.path().join(".env"), "OPENAI_BASE_URL=http://127.0.0.1:9/v1\n").unwrap();
    let ask = |key: Option<&str>| {
        let mut command = agentkernel(directory.path());
        if let Some(key) = key {
            command.env("OPENAI_API_KEY", key);
        }
        command.args(["run", "--model", "gpt-5", "-c", "1"]).output().unwrap()
    };
    refused(
        &ask(Some(KEY)),
        "says by OPENAI_BASE_URL to which server OPENAI_API_KEY of the environment is sent",
    );
    assert_eq!(ask(None).status.code(), Some(0));
}
