//! `agentkernel rlm`.

use super::*;

/// Two models that know what the tests ask.
const SCRIPT: &str = r#"
[[rule]]
model = "^small$"
match = "(.*)"
reply = "re: $1"

[[rule]]
match = "No more steps can be made"
reply = "Perhaps 3."

[[rule]]
match = "^Question: How many"
reply = "```python\nparts = ask_llm_batch(['a', 'b'])\nprint(*parts, '\u001b[31m')\n```"

[[rule]]
match = "^Question: Loop"
reply = "```python\nprint('on')\n```"

[[rule]]
match = "^Output.*\non"
reply = "```python\nprint('on')\n```"

[[rule]]
match = "^Output"
reply = "FINAL_VAR(parts)"

[[rule]]
match = "^Question: Fail"
error = { message = "out of \u001b[31morder", status = 400 }

[[rule]]
match = "^Question: Slow"
reply = "```python\nanswer['content'] = 'half of it'\n```\n```python\nimport time\nprint('up', file=open('/d/up', 'w'))\nopen('x', 'w')\ntime.sleep(100)\n```"

[[rule]]
match = "^Question: (view|Colours)"
reply = "```python\nFINAL('\\x1b[31m$1')\n```"

[[rule]]
match = "^Question: Child"
reply = "```python\nFINAL(rlm('Colours'))\n```"
"#;

fn script() -> tempfile::TempDir {
    let directory = directory();
    fs::write(directory.path().join("script.toml"), SCRIPT).unwrap();
    directory
}

fn command(directory: &Path) -> Command {
    let mut command = agentkernel(directory);
    command.env("XDG_STATE_HOME", directory.join("state"));
    command.args(["rlm", "--model", "large", "--sub-model", "small", "--provider", "script:script.toml"]);
    command
}

fn rlm(directory: &Path, arguments: &[&str]) -> Output {
    command(directory).args(arguments).output().unwrap()
}

fn runs(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("state/agentkernel/runs")).into_iter().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn the_answer_alone_is_on_standard_output() {
    let directory = script();
    let output = rlm(directory.path(), &["How many?"]);
    assert_eq!(stdout(&output), "['re: a', 're: b']\n", "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(0));
    let runs = runs(directory.path());
    assert_eq!(runs.len(), 1);
    assert!(stderr(&output).contains(runs[0].to_str().unwrap()), "{}", stderr(&output));
    assert!(stderr(&output).contains("2 steps, 4 calls of models ("), "{}", stderr(&output));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&runs[0]), mode(runs[0].parent().unwrap())), (0o600, 0o700));
    }
    let output = rlm(directory.path(), &["--quiet", "--no-trajectory", "How many?"]);
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("['re: a', 're: b']\n", ""));
    assert_eq!(self::runs(directory.path()).len(), 1);
}

#[test]
fn the_question_comes_from_an_argument_standard_input_or_a_file() {
    let directory = script();
    fs::write(directory.path().join("question"), "Colours\n").unwrap();
    let output = rlm(directory.path(), &["--question-file", "question"]);
    assert_eq!(stdout(&output), "\u{1b}[31mColours\n", "{}", stderr(&output));
    let mut child =
        command(directory.path()).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"Colours").unwrap();
    assert_eq!(stdout(&child.wait_with_output().unwrap()), "\u{1b}[31mColours\n");
    // The name of a subcommand, asked.
    assert_eq!(stdout(&rlm(directory.path(), &["--", "view"])), "\u{1b}[31mview\n");
}

#[test]
fn misuse_is_refused_before_anything_is_asked() {
    let directory = script();
    for (arguments, message) in [
        (&["  "][..], "the question is empty"),
        (&[], "nothing is asked"),
        (&["--question-file", "absent"], "cannot read the question from `absent`"),
        (&["--question-file", "script.toml", "Why?"], "cannot be used with"),
        (&["--max-iterations", "0", "Why?"], "invalid value"),
        (&["--trajectory", "script.toml", "Why?"], "exists already"),
        (&["--trajectory", "a", "--no-trajectory", "Why?"], "cannot be used with"),
    ] {
        let output = rlm(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(message), "{arguments:?}: {}", stderr(&output));
    }
    let output = agentkernel(directory.path()).args(["rlm", "Why?"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no model is named"), "{}", stderr(&output));
    assert_eq!(runs(directory.path()).len(), 0);
}

#[test]
fn what_was_known_at_a_limit_has_an_exit_code_of_its_own() {
    let directory = script();
    let output = rlm(directory.path(), &["--max-iterations", "2", "Loop"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(3), "Perhaps 3.\n"));
    assert!(
        stderr(&output)
            .contains("error: this is only the best that was known: as many steps were made as may be (2)")
    );
    assert!(stderr(&output).contains("hint: give more with `--max-iterations`"), "{}", stderr(&output));
    let output = rlm(directory.path(), &["--max-calls", "4", "Loop"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(3), "Perhaps 3.\n"));
    assert!(stderr(&output).contains("hint: give more with `--max-calls`"), "{}", stderr(&output));
}

#[test]
fn a_run_without_an_answer_fails() {
    let directory = script();
    let output = rlm(directory.path(), &["Fail"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
    assert!(
        stderr(&output).contains("error: there is no answer: out of \\u{1b}[31morder"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn json_is_what_the_schema_says() {
    let directory = script();
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rlm.schema.json");
    let schema: Value = serde_json::from_slice(&fs::read(schema).unwrap()).unwrap();
    for (question, ending, code) in
        [("How many?", "answered", 0), ("Loop", "limit", 3), ("Fail", "failed", 1)]
    {
        let output = rlm(directory.path(), &["--json", "--max-iterations", "2", question]);
        assert_eq!(output.status.code(), Some(code));
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let described = schema["properties"].as_object().unwrap();
        assert!(report.as_object().unwrap().keys().eq(described.keys()), "{report}");
        assert_eq!((&report["ending"], &report["exit_code"]), (&ending.into(), &code.into()));
        assert_eq!(report["best_effort"], ending == "limit");
        assert_eq!(report["answer"].is_null(), ending == "failed");
        assert_eq!(report["message"].is_null(), ending == "answered");
        assert!(report["trajectory_problem"].is_null(), "{report}");
        assert!(Path::new(report["trajectory"].as_str().unwrap()).is_file());
        let asked = report["usage"]["large"].as_object().unwrap();
        assert!(asked.keys().eq(schema["$defs"]["asked"]["properties"].as_object().unwrap().keys()));
        if ending == "answered" {
            assert_eq!(report["iterations"], 2);
            assert_eq!(
                (&report["usage"]["small"]["calls"], &report["usage"]["large"]["calls"]),
                (&2.into(), &2.into())
            );
        }
    }
}

#[test]
fn verbose_tells_what_happens_and_nothing_that_a_terminal_obeys() {
    let directory = script();
    let output = rlm(directory.path(), &["--verbose", "How many?"]);
    let told = stderr(&output);
    for text in [
        "[0] step 1, block 1:\n    parts = ask_llm_batch(['a', 'b'])\n",
        "[0] c1 asks small, 1 character: a\n",
        "    re: a re: b \\u{1b}[31m\n",
    ] {
        assert!(told.contains(text), "{text}: {told}");
    }
    assert!(!told.contains('\u{1b}'), "{told}");
    let output = rlm(directory.path(), &["--verbose", "Child"]);
    assert_eq!(stdout(&output), "\u{1b}[31mColours\n", "{}", stderr(&output));
    assert!(stderr(&output).contains("[0.1] is asked: Colours\n"), "{}", stderr(&output));
    let output = rlm(directory.path(), &["--verbose", "--max-depth", "0", "--max-errors", "1", "Child"]);
    assert_eq!(stdout(&output), "Perhaps 3.\n", "{}", stderr(&output));
    assert!(stderr(&output).contains("no level of child sessions is left"), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_run_with_what_is_known() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let directory = script();
        let temporary = self::directory();
        let mut child = command(directory.path());
        child
            .args(["--json", "--mount", ".:/d:rw", "Slow"])
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = child.spawn().unwrap();
        signals::wait_for(&directory.path().join("up"));
        std::thread::sleep(Duration::from_millis(300));
        signals::kill(&child, signal);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!((&report["ending"], &report["exit_code"]), (&"interrupted".into(), &code.into()));
        assert_eq!(report["answer"], "half of it");
        let trajectory = fs::read_to_string(report["trajectory"].as_str().unwrap()).unwrap();
        assert!(trajectory.lines().last().unwrap().contains("\"ending\":\"interrupted\""));
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    }
}

#[test]
fn runs_are_listed_and_made_pages_of() {
    let directory = script();
    let list = |arguments: &[&str]| {
        let mut command = agentkernel(directory.path());
        command.env("XDG_STATE_HOME", directory.path().join("state"));
        stdout(&command.arg("rlm").args(arguments).output().unwrap())
    };
    assert!(list(&["list"]).contains("  empty;"));
    rlm(directory.path(), &["How many?"]);
    std::thread::sleep(Duration::from_millis(5));
    rlm(directory.path(), &["--max-iterations", "1", "Loop"]);
    let runs = runs(directory.path());
    let text = list(&["list"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(lines[1].contains(&name(&runs[1])) && lines[1].contains("limit") && lines[1].ends_with("Loop"));
    assert!(lines[2].contains(&name(&runs[0])) && lines[2].ends_with("How many?"), "{text}");
    let told: Value = serde_json::from_str(&list(&["list", "--json"])).unwrap();
    assert_eq!((&told[1]["ending"], &told[1]["question"]), (&"answered".into(), &"How many?".into()));
    // Calls that were given up may be told after the end.
    let mut file = fs::OpenOptions::new().append(true).open(&runs[0]).unwrap();
    for _ in 0..8 {
        writeln!(file, r#"{{"at":9e9,"event":"note","node":"0","iteration":1,"text":"late"}}"#).unwrap();
    }
    let told: Value = serde_json::from_str(&list(&["list", "--json"])).unwrap();
    assert_eq!(told[1]["ending"], "answered");

    let page = |path: &Path| fs::read_to_string(path).unwrap();
    // The newest, one by its name, and one by its path.
    assert_eq!(list(&["view"]).trim(), runs[1].with_extension("html").to_str().unwrap());
    assert!(page(&runs[1].with_extension("html")).contains("Perhaps 3."));
    list(&["view", &name(&runs[0]), "-o", "page.html"]);
    assert!(page(&directory.path().join("page.html")).contains("How many?"));
    assert!(list(&["view", runs[0].to_str().unwrap(), "--output", "-"]).starts_with("<!"));
    let output = agentkernel(directory.path()).args(["rlm", "view", "page.html"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("would take the place of"), "{}", stderr(&output));
    let output = agentkernel(directory.path()).args(["rlm", "view", "absent.jsonl"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
}

#[test]
fn only_the_newest_runs_are_kept() {
    let directory = script();
    let kept = directory.path().join("state/agentkernel/runs");
    fs::create_dir_all(&kept).unwrap();
    for number in 0..105 {
        fs::write(kept.join(format!("20200101T000000{number:03}Z-000000.jsonl")), "not JSON\n").unwrap();
    }
    fs::write(kept.join("20200101T000000000Z-000000.html"), "").unwrap();
    rlm(directory.path(), &["How many?"]);
    let runs = runs(directory.path());
    assert_eq!(runs.len(), 100);
    assert!(runs[0].to_str().unwrap().ends_with("20200101T000000006Z-000000.jsonl"), "{runs:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_is_shown_the_answer_escaped() {
    let directory = script();
    let mut terminal = terminal::Terminal::start(
        directory.path(),
        "rlm --no-config --model m --provider script:script.toml Colours",
    );
    terminal.see("\\u{1b}[31mColours\r\n");
    assert_eq!(terminal.exit_code(), Some(0));
}

#[test]
fn a_question_is_read_up_to_its_limit() {
    let directory = script();
    let output = rlm(directory.path(), &["--question-file", "/dev/zero"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("a question may have 1048576 bytes"), "{}", stderr(&output));
}
