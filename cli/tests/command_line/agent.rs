//! `agentkernel agent`.

use super::*;

/// A model that knows what the tests ask.
const SCRIPT: &str = r#"
[[rule]]
model = "^small$"
match = "(.*)"
reply = "re: $1"

[[rule]]
match = "No more steps can be made"
reply = "Perhaps 3."

[[rule]]
match = "Task: Colours"
reply = "```python\nprint('\\x1b[31mred')\nFINAL('\\x1b[31mColours')\n```"

[[rule]]
match = "Task: Write"
reply = "I write.\n```python\nopen('new.txt', 'w').write('new\\n')\nopen('notes.txt', 'a').write('two\\x1b[2J\\n')\nx = 41\nFINAL('written')\n```"

[[rule]]
match = "Task: Conflict"
reply = "```python\nopen('notes.txt', 'a').write('two')\nopen('/d/notes.txt', 'a').write('theirs')\nFINAL('written')\n```"

[[rule]]
match = "Task: Same"
reply = "```python\nfor place in ['.', '/d']: open(f'{place}/notes.txt', 'w').write('the same')\nFINAL('written')\n```"

[[rule]]
match = "Task: Gone"
reply = "```python\nimport os\nopen('sub/x', 'w').write('x')\nopen('new', 'w').write('new')\nos.rmdir('/d/sub')\nFINAL('written')\n```"

[[rule]]
match = "Task: Remember"
reply = "```python\nFINAL(x + 1)\n```"

[[rule]]
match = "Task: Dropped"
reply = "```python\nimport os\nFINAL(sorted(os.listdir()))\n```"

[[rule]]
match = "(Task: Loop|^Output:\non$)"
reply = "```python\nprint('on')\n```"

[[rule]]
match = "Task: Fail"
error = { message = "out of \u001b[31morder", status = 400 }

[[rule]]
match = "Task: Slow"
reply = "```python\nanswer['content'] = 'half of it'\n```\n```python\nopen('/d/up', 'w').close()\nimport time\ntime.sleep(100)\n```"

[[rule]]
system = "(?s)skills\\.save.*agentkernel import state"
match = "Task: Lasting"
reply = "```python\nfrom agentkernel import skills, state\nstate['n'] = state.get('n', 0) + 1\nFINAL([state['n'], len(skills.list())])\n```"

[[rule]]
match = "Task: Background"
reply = """
```python
from agentkernel import task
def double(n):
    return 2 * n
FINAL(task.dispatch(double, 21).result())
```
"""

[[rule]]
match = "Task: Sales"
reply = "I look for tools.\n```python\nimport tools\ntools.search('query a CSV file with SQL', limit=2)\n```"

[[rule]]
match = "sql.query"
reply = """
```python
from tools.sql import query
from tools.text import search
rows = query("SELECT city, count(*) AS orders FROM sales GROUP BY city ORDER BY orders DESC", ["sales.csv"])
with open("cities.md", "w") as file:
    for row in rows:
        file.write(f"- {row['city']}: {row['orders']}\\n")
found = search(r"\\d+", open("cities.md").read())
FINAL(f"{len(rows)} cities, {sum(int(match.text) for match in found)} orders: cities.md")
```
"""
"#;

pub fn script() -> tempfile::TempDir {
    let directory = directory();
    fs::write(directory.path().join("script.toml"), SCRIPT).unwrap();
    fs::create_dir(directory.path().join("work")).unwrap();
    fs::write(directory.path().join("work/notes.txt"), "one\n").unwrap();
    directory
}

pub fn command(directory: &Path) -> Command {
    let mut command = agentkernel(directory);
    command.env("XDG_STATE_HOME", directory.join("state"));
    command.args(["agent", "--model", "large", "--sub-model", "small", "--provider", "script:script.toml"]);
    command
}

pub fn agent(directory: &Path, arguments: &[&str]) -> Output {
    command(directory).args(arguments).output().unwrap()
}

fn talk(directory: &Path, arguments: &[&str], lines: &str) -> Output {
    talk_as(command(directory), arguments, lines)
}

fn talk_as(mut command: Command, arguments: &[&str], lines: &str) -> Output {
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn notes(directory: &Path) -> String {
    fs::read_to_string(directory.join("work/notes.txt")).unwrap()
}

#[test]
fn a_task_on_real_files_uses_two_tools_and_leaves_an_artefact() {
    let directory = script();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sales = fs::read_to_string(root.join("examples/data/sales.csv")).unwrap();
    fs::write(directory.path().join("work/sales.csv"), &sales).unwrap();
    let mut cities = std::collections::BTreeMap::<&str, u32>::new();
    for line in sales.lines().skip(1) {
        *cities.entry(line.split(',').nth(1).unwrap()).or_default() += 1;
    }
    let tools = root.join("tools/prebuilt");
    let output = agent(
        directory.path(),
        &[
            "--workspace",
            "work",
            "--tools",
            tools.to_str().unwrap(),
            "Sales by city, as a list in cities.md.",
        ],
    );
    let orders: u32 = cities.values().sum();
    assert_eq!(
        stdout(&output),
        format!("{} cities, {orders} orders: cities.md\n", cities.len()),
        "{}",
        stderr(&output)
    );
    assert_eq!(output.status.code(), Some(0));
    let list = fs::read_to_string(directory.path().join("work/cities.md")).unwrap();
    for (city, orders) in cities {
        assert!(list.contains(&format!("- {city}: {orders}\n")), "{list}");
    }
    let told = stderr(&output);
    for text in [
        "I look for tools.\n",
        "  | sql.query",
        "agentkernel: new      cities.md, ",
        "2 steps, 2 calls of models (",
    ] {
        assert!(told.contains(text), "{text}: {told}");
    }
}

#[test]
fn the_answer_alone_is_on_standard_output() {
    let directory = script();
    let output = agent(directory.path(), &["Colours"]);
    assert_eq!(stdout(&output), "\u{1b}[31mColours\n", "{}", stderr(&output));
    assert!(stderr(&output).contains("  | \\u{1b}[31mred\n"), "{}", stderr(&output));
    assert!(!stderr(&output).contains('\u{1b}'), "{}", stderr(&output));
    let output = agent(directory.path(), &["--quiet", "Colours"]);
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("\u{1b}[31mColours\n", ""));
    let output = talk(directory.path(), &["--quiet", "-"], "Colours\n");
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("\u{1b}[31mColours\n", Some(0)));
}

#[test]
fn misuse_is_refused_before_anything_is_asked() {
    let directory = script();
    for (arguments, message) in [
        (&["  "][..], "the task is empty"),
        (&["--max-steps", "0", "Write"], "invalid value"),
        (&["--json"], "required"),
        (&["--approve", "Write"], "has no directory whose changes could be approved"),
        (&["--approve", "--workspace", "work", "Write"], "asks on a terminal, and there is none"),
        (&["--approve=perhaps", "--workspace", "work", "Write"], "invalid value"),
        (&["--workspace", "absent", "Write"], "absent"),
        (&["--trajectory", "script.toml", "Write"], "exists already"),
    ] {
        let output = agent(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    let output = agentkernel(directory.path()).args(["agent", "Write"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no model is named"), "{}", stderr(&output));
    assert_eq!(notes(directory.path()), "one\n");
}

#[test]
fn what_ends_without_an_answer_has_an_exit_code_of_its_own() {
    let directory = script();
    let output = agent(directory.path(), &["--max-steps", "2", "Loop"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(3), "Perhaps 3.\n"));
    assert!(stderr(&output).contains("hint: give more with `--max-steps`"), "{}", stderr(&output));
    let output = agent(directory.path(), &["--max-calls", "4", "Loop"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(3), "Perhaps 3.\n"));
    assert!(stderr(&output).contains("hint: give more with `--max-calls`"), "{}", stderr(&output));
    let output = agent(directory.path(), &["Fail"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
    assert!(
        stderr(&output).contains("error: there is no answer: out of \\u{1b}[31morder"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn changes_are_kept_only_when_they_are_approved() {
    let directory = script();
    let output = agent(directory.path(), &["--workspace", "work", "--approve=no", "Write"]);
    assert_eq!(
        (stdout(&output).as_str(), output.status.code()),
        ("written\n", Some(0)),
        "{}",
        stderr(&output)
    );
    for text in
        ["added    new.txt\n", "changed  notes.txt\n", "+two\\u{1b}[2J\n", "these changes were dropped"]
    {
        assert!(stderr(&output).contains(text), "{text}: {}", stderr(&output));
    }
    assert_eq!(notes(directory.path()), "one\n");
    assert!(!directory.path().join("work/new.txt").exists());
    let output = agent(directory.path(), &["--workspace", "work", "--approve=yes", "Write"]);
    assert!(stderr(&output).contains("these changes were applied"), "{}", stderr(&output));
    assert_eq!(notes(directory.path()), "one\ntwo\u{1b}[2J\n");
    let output = agent(directory.path(), &["--workspace", "work", "--quiet", "Write"]);
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("written\n", ""));
    assert_eq!(notes(directory.path()), "one\ntwo\u{1b}[2J\ntwo\u{1b}[2J\n");
}

#[test]
fn what_cannot_be_applied_is_told_and_kept() {
    let (directory, data) = (script(), directory());
    let arguments = ["--no-config", "--workspace", "work", "--mount", "work:/d:rw", "--quiet"];
    let mut asked = command(directory.path());
    asked.env("AGENTKERNEL_DATA_DIR", data.path()).args(arguments).arg("Conflict");
    let output = asked.output().unwrap();
    assert_eq!(
        (stdout(&output).as_str(), output.status.code()),
        ("written\n", Some(1)),
        "{}",
        stderr(&output)
    );
    assert!(
        stderr(&output).contains("was changed meanwhile")
            && stderr(&output).contains("agentkernel changes apply agent-")
    );
    let with_data = |mut command: Command| {
        command.env("AGENTKERNEL_DATA_DIR", data.path());
        command
    };
    let kept = || -> Vec<Value> {
        let mut list = with_data(agentkernel(directory.path()));
        serde_json::from_str(&stdout(&list.args(["changes", "list", "--json"]).output().unwrap())).unwrap()
    };
    assert!(kept().len() == 1 && kept()[0]["changes"] == 1, "{:?}", kept());
    // A conversation goes on, and keeps at its end what should have been applied.
    let conversation = |lines| talk_as(with_data(command(directory.path())), &arguments[..5], lines);
    let output = conversation("Conflict\n/apply\n/run print(41)\n/quit\n");
    assert_eq!(stdout(&output), "written\n41\n", "{}", stderr(&output));
    assert!(stderr(&output).contains("agentkernel changes apply agent-"), "{}", stderr(&output));
    assert_eq!((kept().len(), notes(directory.path()).as_str()), (2, "one\ntheirstheirs"));
    // What the user has dropped is dropped.
    let output = conversation("Conflict\n/discard\n/quit\n");
    assert!(!stderr(&output).contains("are kept"), "{}", stderr(&output));
    assert_eq!(kept().len(), 2);
}

/// Nothing differs then, and yet others have changed what the program changed.
#[test]
fn what_two_have_changed_in_the_same_way_is_told() {
    let (directory, data) = (script(), directory());
    let arguments = ["--no-config", "--workspace", "work", "--mount", "work:/d:rw", "--quiet", "Same"];
    let mut asked = command(directory.path());
    let output = asked.env("AGENTKERNEL_DATA_DIR", data.path()).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("`notes.txt` was changed\n"), "{}", stderr(&output));
}

#[test]
fn nothing_is_begun_that_could_not_be_applied() {
    let directory = script();
    let data = directory.path().join("script.toml/data");
    let mut asked = command(directory.path());
    asked.args(["--workspace", "work", "Write"]);
    let mut run = agentkernel(directory.path());
    run.args(["run", "--workspace", "work", "--overlay", "--apply", "-c", "print('begun')"]);
    for mut command in [asked, run] {
        let output = command.env("AGENTKERNEL_DATA_DIR", &data).output().unwrap();
        assert_eq!((stdout(&output).as_str(), output.status.code()), ("", Some(2)), "{}", stderr(&output));
        assert!(stderr(&output).contains("cannot change the directory"), "{}", stderr(&output));
    }
}

#[test]
fn what_was_approved_is_kept_though_nobody_reads_the_answer() {
    let directory = script();
    let mut command = command(directory.path());
    command.args(["--workspace", "work", "--approve=yes", "Write"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(stderr(&output).contains("these changes were applied"), "{}", stderr(&output));
    assert_eq!(notes(directory.path()), "one\ntwo\u{1b}[2J\n");
}

#[test]
fn what_is_too_long_to_show_is_said_to_be() {
    let directory = script();
    let lines = "/run open('long.txt', 'w').write('a\\n' * 700_000)\n";
    let output = talk(directory.path(), &["--workspace", "work", "--approve=no"], lines);
    let told = "added    long.txt (too long to show: 0 bytes before, 1,400,000 bytes after)\n";
    assert!(stderr(&output).contains(told), "{}", stderr(&output));
}

#[test]
fn json_is_what_the_schema_says() {
    let directory = script();
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/agent.schema.json");
    let schema: Value = serde_json::from_slice(&fs::read(schema).unwrap()).unwrap();
    for (task, ending, code) in [("Write", "answered", 0), ("Loop", "limit", 3), ("Fail", "failed", 1)] {
        let arguments = ["--json", "--quiet", "--workspace", "work", "--max-steps", "2", task];
        let output = agent(directory.path(), &arguments);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&report), keys(&schema["properties"]), "{report}");
        assert_eq!((&report["ending"], &report["exit_code"]), (&ending.into(), &code.into()));
        assert_eq!(report["best_effort"], ending == "limit");
        assert_eq!(report["answer"].is_null(), ending == "failed");
        if ending == "answered" {
            assert_eq!(keys(&report["log"][0]), keys(&schema["$defs"]["step"]["properties"]));
            assert_eq!(keys(&report["log"][0]["blocks"][0]), keys(&schema["$defs"]["block"]["properties"]));
            assert_eq!(keys(&report["artefacts"][0]), keys(&schema["$defs"]["artefact"]["properties"]));
            assert_eq!(report["artefacts"][0]["path"], "new.txt");
            assert_eq!(
                (&report["applied"], &report["changes"][1]["kind"]),
                (&true.into(), &"changed".into())
            );
        }
    }
}

#[test]
fn a_conversation_keeps_its_session() {
    let directory = script();
    let lines = "Write\n\nRemember\n/run print(x)\n/tools\n/nonsense\n/diff\n";
    let output = talk(directory.path(), &["--workspace", "work"], lines);
    assert_eq!(stdout(&output), "written\n42\n41\n", "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(0));
    for text in ["`/nonsense` is no command", "nothing differs", "agentkernel: new      new.txt, 4 B"] {
        assert!(stderr(&output).contains(text), "{text}: {}", stderr(&output));
    }
    assert!(directory.path().join("work/new.txt").exists());
    // The last task's exit code.
    let output = talk(directory.path(), &["--quiet", "--max-steps", "1"], "Loop\n");
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("Perhaps 3.\n", Some(3)));
    let output = talk(
        directory.path(),
        &["--quiet", "--approve=no", "--workspace", "work"],
        "Write\nDropped\n/quit\nWrite\n",
    );
    assert_eq!(stdout(&output), "written\n['new.txt', 'notes.txt']\n", "{}", stderr(&output));
    assert_eq!(notes(directory.path()), "one\ntwo\u{1b}[2J\n");
}

#[test]
fn what_lasts_is_granted_and_told() {
    let directory = script();
    fs::create_dir(directory.path().join("skills")).unwrap();
    for number in 1..3 {
        let output = agent(directory.path(), &["--state", "state.db", "--skills-write", "skills", "Lasting"]);
        assert_eq!(stdout(&output), format!("[{number}, 0]\n"), "{}", stderr(&output));
    }
    let output = agent(directory.path(), &["Lasting"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("no rule of the script"), "{}", stderr(&output));
}

#[test]
fn programs_dispatch_tasks_where_that_is_granted() {
    let directory = script();
    let output = agent(directory.path(), &["--tasks=tasks.db", "Background"]);
    assert_eq!(stdout(&output), "42\n", "{}", stderr(&output));
    let output = agent(directory.path(), &["--max-errors", "1", "Background"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("grant them with `--tasks`"), "{}", stderr(&output));
}

#[test]
fn a_trajectory_is_one_that_can_be_viewed() {
    let directory = script();
    let output = talk(directory.path(), &["--trajectory", "run.jsonl"], "Colours\nColours\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = fs::read_to_string(directory.path().join("run.jsonl")).unwrap();
    assert!(text.lines().last().unwrap().contains("\"ending\":\"answered\""), "{text}");
    let output =
        agentkernel(directory.path()).args(["rlm", "view", "run.jsonl", "-o", "page.html"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(fs::read_to_string(directory.path().join("page.html")).unwrap().contains("Colours"));
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_task_with_what_is_known() {
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
        signals::kill(&child, signal);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!((&report["ending"], &report["exit_code"]), (&"interrupted".into(), &code.into()));
        assert_eq!(report["answer"], "half of it");
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_is_asked_and_may_stop_a_task() {
    let directory = script();
    let mut terminal = terminal::Terminal::start(
        directory.path(),
        "agent --no-config --model m --provider script:script.toml --workspace work --mount .:/d:rw --approve",
    );
    let mut enter = |see: &str, line: &str| {
        terminal.see(see);
        // The editor reads keys one line at a time.
        std::thread::sleep(Duration::from_millis(100));
        terminal.type_in(&format!("{line}\r"));
    };
    enter("> ", "Write");
    enter("apply? [y/N] ", "n");
    enter("are held", "/apply");
    enter("changes were applied", "Slow");
    signals::wait_for(&directory.path().join("up"));
    std::thread::sleep(Duration::from_millis(200));
    terminal.type_in("\u{3}");
    terminal.see("it was interrupted");
    terminal.see("> ");
    std::thread::sleep(Duration::from_millis(100));
    terminal.type_in("Remember\r");
    terminal.see("42");
    terminal.see("> ");
    terminal.type_in("/quit\r");
    assert_eq!(terminal.exit_code(), Some(0));
    assert_eq!(notes(directory.path()), "one\ntwo\u{1b}[2J\n");
}

#[cfg(target_os = "linux")]
#[test]
fn a_single_task_asks_and_an_interrupt_is_a_no() {
    let directory = script();
    let start = || {
        let arguments =
            "agent --no-config --model m --provider script:script.toml --workspace work --approve Write";
        let mut terminal = terminal::Terminal::start(directory.path(), arguments);
        terminal.see("+two\\u{1b}[2J");
        terminal.see("apply? [y/N] ");
        terminal
    };
    let mut terminal = start();
    terminal.type_in("\u{3}");
    terminal.see("these changes were dropped");
    assert_eq!(terminal.exit_code(), Some(130));
    assert_eq!(notes(directory.path()), "one\n");
    let mut terminal = start();
    terminal.type_in("n\n");
    terminal.see("these changes were dropped");
    assert_eq!(notes(directory.path()), "one\n");
    let mut terminal = start();
    terminal.type_in("y\n");
    terminal.see("these changes were applied");
    assert_eq!(notes(directory.path()), "one\ntwo\u{1b}[2J\n");
}
