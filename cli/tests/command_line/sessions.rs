//! `agentkernel session`: state that lives from process to process.

use super::*;

mod background;
mod contexts;
mod damage;
mod deep;
#[cfg(unix)]
mod foreign;
mod killed;
mod overlays;

/// The binary with a store of its own in `directory`.
fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = agentkernel(directory);
    command.env("AGENTKERNEL_DATA_DIR", directory.join("data")).arg("session").args(arguments);
    command
}

fn session(directory: &Path, arguments: &[&str]) -> Output {
    command(directory, arguments).output().unwrap()
}

#[track_caller]
fn said(directory: &Path, arguments: &[&str]) -> String {
    let output = session(directory, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

#[track_caller]
fn turn(directory: &Path, name: &str, code: &str) -> String {
    said(directory, &["run", name, "-c", code])
}

#[track_caller]
fn refused(output: &Output, message: &str) {
    assert_eq!(output.status.code(), Some(2), "{}{}", stdout(output), stderr(output));
    assert!(stderr(output).contains(message) && stderr(output).contains("\nhint: "), "{}", stderr(output));
}

fn log(directory: &Path, name: &str) -> Vec<Value> {
    let text = stdout(&session(directory, &["log", name, "--json"]));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn json(directory: &Path, arguments: &[&str]) -> Value {
    let output = session(directory, arguments);
    serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{}", stderr(&output)))
}

fn in_session(directory: &Path, name: &str, file: &str) -> PathBuf {
    directory.join("data/sessions").join(name).join(file)
}

#[test]
fn state_lives_over_many_processes() {
    let directory = directory();
    let at = directory.path();
    assert_eq!(said(at, &["new", "work"]), "");
    let begin = "
import collections, itertools
class Account:
    def __init__(self): self.rows = []
    def add(self, row): self.rows.append(row); return len(self.rows)
account = Account()
def squares():
    for n in itertools.count(): yield n * n
numbers = squares()
add = lambda row, seen=collections.Counter(): (seen.update([row]), account.add(row), seen[row])[1:]
open('notes.txt', 'w').write('begin ')
print(next(numbers))";
    assert_eq!(turn(at, "work", begin), "0\n");
    for number in 1..6 {
        let code = "print(next(numbers), *add('x'), open('notes.txt').read()); open('notes.txt', 'a').write('again ')";
        let notes = "again ".repeat(number - 1);
        let expected = format!("{} {number} {number} begin {notes}\n", number * number);
        assert_eq!(turn(at, "work", code), expected);
    }
    // A script, its arguments and its input; what raises is kept, and so is what exits.
    fs::create_dir(at.join("elsewhere")).unwrap();
    fs::write(at.join("elsewhere/script.py"), "import sys\nlast = sys.argv + [input()]\nprint(last)")
        .unwrap();
    let mut child = command(at, &["run", "work", "script.py", "a", "--b"])
        .current_dir(at.join("elsewhere"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    assert_eq!(stdout(&child.wait_with_output().unwrap()), "['script.py', 'a', '--b', 'typed']\n");
    let raised = session(at, &["run", "work", "-c", "last.append(1); 1 / 0"]);
    assert_eq!(raised.status.code(), Some(1));
    assert!(stderr(&raised).contains("ZeroDivisionError"), "{}", stderr(&raised));
    let exited = session(at, &["run", "work", "-c", "last.append(2); raise SystemExit(7)"]);
    assert_eq!(exited.status.code(), Some(7));
    let told = json(at, &["run", "work", "--json", "-c", "print('out'); last[-2:]"]);
    assert_eq!(
        (&told["session"], &told["turn"], &told["kept"], &told["value"], &told["stdout"]),
        (&"work".into(), &10.into(), &true.into(), &serde_json::json!([1, 2]), &"out\n".into())
    );
    let log = log(at, "work");
    assert_eq!(log.len(), 10);
    assert_eq!((&log[6]["file"], &log[6]["arguments"][1]), (&"script.py".into(), &"--b".into()));
    assert_eq!(
        (&log[7]["outcome"], &log[7]["exception"]["type"]),
        (&"raised".into(), &"ZeroDivisionError".into())
    );
    assert_eq!((&log[8]["outcome"], &log[8]["exit_code"]), (&"exited".into(), &7.into()));
    assert_eq!((&log[9]["value"], &log[9]["stdout"]), (&"[1, 2]".into(), &"out\n".into()));
    // Only the image of the state is there.
    let images = fs::read_dir(in_session(at, "work", "")).unwrap().flatten();
    let images: Vec<_> = images
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().ends_with(".akimg"))
        .collect();
    assert_eq!(images, ["turn-10.akimg"]);
    assert!(said(at, &["list"]).starts_with("work   10 turns  "), "{}", said(at, &["list"]));
    let shown = json(at, &["show", "work", "--json"]);
    assert_eq!(
        (&shown["turn"], &shown["in_use"], &shown["problem"]),
        (&10.into(), &false.into(), &Value::Null)
    );
    assert_eq!(said(at, &["rm", "work"]), "");
    assert_eq!(json(at, &["list", "--json"]), serde_json::json!([]));
    refused(&session(at, &["run", "work", "-c", "1"]), "there is no session `work`");
}

#[test]
fn one_name_that_is_wrong_keeps_nothing_from_the_others() {
    let directory = directory();
    let at = directory.path();
    for name in ["a", "b"] {
        said(at, &["new", name]);
    }
    turn(at, "b", "x = 1");
    refused(&session(at, &["restore", "b", "1"]), "the session `b` has no snapshot of turn 1");
    said(at, &["snapshot", "b"]);
    let missing = session(at, &["restore", "b", "7"]);
    assert!(stderr(&missing).contains("snapshots of the turns 1;"), "{}", stderr(&missing));
    // Its directory is gone, and a turn would be refused.
    fs::create_dir(at.join("work")).unwrap();
    said(at, &["new", "c", "--workspace", "work"]);
    fs::remove_dir(at.join("work")).unwrap();
    assert_eq!(session(at, &["show", "c"]).status.code(), Some(1));
    let output = session(at, &["rm", "a", "absent", "nobody", "b", "c"]);
    refused(&output, "there is no session `nobody`");
    assert!(stderr(&output).contains("there is no session `absent`"), "{}", stderr(&output));
    assert_eq!(said(at, &["list"]), "");
    let same = agentkernel(at).args(["run", "-m", "data:/d", "-m", ".:/d", "-c", "1"]).output().unwrap();
    refused(&same, "two directories are to stand at `/d`");
    // Who wants no hints has none.
    let quiet = agentkernel(at).args(["run", "-q", "-w", "absent", "-c", "1"]).output().unwrap();
    assert!(quiet.status.code() == Some(2) && !stderr(&quiet).contains("hint: "), "{}", stderr(&quiet));
}

/// As on a full disk.
#[test]
fn a_turn_that_cannot_be_committed_is_told_as_it_is() {
    let directory = directory();
    let at = directory.path();
    for (name, flags, x) in [("plain", &[][..], 1), ("over", &["--overlay"], 2)] {
        said(at, &[&["new", name][..], flags].concat());
        turn(at, name, "x = 1\nopen('file', 'w').write('1')");
        // It is what is replaced last.
        let in_the_way = in_session(at, name, "head.json.new");
        fs::create_dir(&in_the_way).unwrap();
        let code = "x = 2\nopen('file', 'w').write('2')\nprint('ran')";
        let output = session(at, &["run", name, "--json", "-c", code]);
        let outcome: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!((outcome["kept"].as_bool(), &outcome["stdout"]), (Some(x == 2), &"ran\n".into()));
        assert_eq!(output.status.code(), Some(2 - x), "{}", stderr(&output));
        assert_eq!(outcome["held"].is_null(), x == 2, "{outcome}");
        if x == 1 {
            let output = session(at, &["run", name, "-c", code]);
            let told = stderr(&output);
            assert!(
                told.contains("cannot write `head.json`") && told.contains("memory stays as it was"),
                "{told}"
            );
        }
        fs::remove_dir(&in_the_way).unwrap();
        assert_eq!(turn(at, name, "print(x, open('file').read())"), format!("{x} 2\n"));
    }
}

#[test]
fn a_turn_that_is_stopped_or_holds_something_leaves_the_state_before() {
    let directory = directory();
    let at = directory.path();
    said(at, &["new", "s", "--timeout", "1s"]);
    turn(at, "s", "x = 1");
    let stopped =
        session(at, &["run", "s", "-c", "x = 2\nopen('file', 'w').write('there')\nwhile True: pass"]);
    assert_eq!(stopped.status.code(), Some(124));
    assert!(
        stderr(&stopped).contains("memory stays as it was") && stderr(&stopped).contains("session new s"),
        "{}",
        stderr(&stopped)
    );
    assert_eq!(turn(at, "s", "print(x, open('file').read())"), "1 there\n");
    let held = session(at, &["run", "s", "-c", "x = 3\nf = open('held.txt', 'w')\nprint('shown')"]);
    assert_eq!((held.status.code(), stdout(&held).as_str()), (Some(1), "shown\n"));
    assert!(
        stderr(&held).contains("held.txt, opened at ") && stderr(&held).contains("hint: "),
        "{}",
        stderr(&held)
    );
    assert_eq!(turn(at, "s", "print(x)"), "1\n");
    let log = log(at, "s");
    let kept: Vec<_> = log.iter().map(|entry| entry["kept"].as_bool().unwrap()).collect();
    assert_eq!(kept, [true, false, true, false, true]);
    assert_eq!((&log[1]["rolled_back"], &log[1]["outcome"]), (&true.into(), &"timed-out".into()));
    assert!(log[3]["held"].as_str().unwrap().contains("held.txt"), "{log:?}");
    refused(&session(at, &["run", "s", "--transactional", "-c", "1"]), "`--transactional` needs files");
}

#[test]
fn forks_snapshots_and_ways_back() {
    let directory = directory();
    let at = directory.path();
    said(at, &["new", "one"]);
    refused(&session(at, &["new", "one"]), "there is a session `one` already");
    refused(&session(at, &["snapshot", "one"]), "at its beginning");
    turn(at, "one", "words = ['a']\nopen('f', 'w').write('1')\ng = iter('xyz')\nnext(g)");
    said(at, &["fork", "one", "two"]);
    refused(&session(at, &["fork", "one", "two"]), "there is a session `two` already");
    assert_eq!(
        turn(at, "two", "words.append('b'); open('f', 'w').write('2'); print(words, next(g))"),
        "['a', 'b'] y\n"
    );
    assert_eq!(turn(at, "one", "print(words, open('f').read(), next(g))"), "['a'] 1 y\n");
    assert_eq!(json(at, &["show", "two", "--json"])["config"]["forked_from"]["turn"], 1);
    // To a file, and to one of its own.
    assert_eq!(
        said(at, &["snapshot", "one", "kept.akimg"]),
        format!("{}\n", at.join("kept.akimg").display())
    );
    assert!(said(at, &["snapshot", "one"]).ends_with("turn-2.akimg\n"));
    assert_eq!(turn(at, "one", "words.clear(); print(next(g))"), "z\n");
    said(at, &["restore", "one", "2"]);
    assert_eq!(turn(at, "one", "print(words, next(g))"), "['a'] z\n");
    said(at, &["restore", "two", "kept.akimg"]);
    assert_eq!(turn(at, "two", "print(words, open('f').read(), next(g))"), "['a'] 2 z\n");
    refused(&session(at, &["restore", "two", "absent.akimg"]), "there is no image");
    fs::write(at.join("junk.akimg"), "junk").unwrap();
    refused(&session(at, &["restore", "two", "junk.akimg"]), "junk.akimg");
    assert_eq!(turn(at, "two", "print(words)"), "['a']\n");
    // What came from a file is not in the journal.
    refused(&session(at, &["replay", "two"]), "cannot be replayed");
    // The beginning.
    said(at, &["reset", "one"]);
    assert_eq!(turn(at, "one", "print('words' in globals(), open('f').read())"), "False 1\n");
    said(at, &["reset", "one", "--files"]);
    assert_eq!(turn(at, "one", "import os; print(os.listdir())"), "[]\n");
    assert_eq!(said(at, &["replay", "one"]), "");
    // A session starts where another one was.
    said(at, &["new", "three", "--image", "kept.akimg"]);
    fs::remove_file(at.join("kept.akimg")).unwrap();
    assert_eq!(turn(at, "three", "words.append('c'); print(words)"), "['a', 'c']\n");
    said(at, &["reset", "three"]);
    assert_eq!(turn(at, "three", "print(words)"), "['a']\n");
}

#[test]
fn a_replay_says_what_went_another_way() {
    let directory = directory();
    let at = directory.path();
    fs::create_dir(at.join("work")).unwrap();
    fs::write(at.join("work/data"), "one").unwrap();
    said(at, &["new", "s", "--workspace", "work"]);
    turn(at, "s", "data = open('data').read()\ncount = 1");
    turn(at, "s", "count += 1\nopen('made', 'a').write('x')");
    turn(at, "s", "print(data)\nlen(data)");
    session(at, &["run", "s", "-c", "count += 1; raise ValueError('v')"]);
    assert_eq!(session(at, &["replay", "s"]).status.code(), Some(0));
    assert_eq!(turn(at, "s", "print(count, data)"), "3 one\n");
    assert_eq!(fs::read_to_string(at.join("work/made")).unwrap(), "x");
    fs::write(at.join("work/data"), "three").unwrap();
    let output = session(at, &["replay", "s"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output).lines().next().unwrap(), "turn 3: the value was `3`, and is `5`");
    assert!(stderr(&output).contains("5 turns replayed, 2 of them"), "{}", stderr(&output));
    assert_eq!(turn(at, "s", "print(count, data)"), "3 three\n");
    assert_eq!(fs::read_to_string(at.join("work/made")).unwrap(), "x");
}

#[test]
fn a_replay_imports_what_lies_beside_each_script() {
    let directory = directory();
    let at = directory.path();
    for (name, number) in [("one", 1), ("two", 2)] {
        let place = at.join("work").join(name);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(format!("helper_{name}.py")), format!("number = {number}")).unwrap();
        let script = format!(
            "import helper_{name}\nnumbers = [*globals().get('numbers', []), helper_{name}.number]\nprint(numbers)"
        );
        fs::write(place.join("script.py"), script).unwrap();
    }
    for flags in [&[][..], &["--overlay"]] {
        said(at, &[&["new", "s", "--workspace", "work"][..], flags].concat());
        assert_eq!(said(at, &["run", "s", "work/one/script.py"]), "[1]\n");
        assert_eq!(turn(at, "s", "open('made', 'w').write('x')"), "");
        assert_eq!(said(at, &["run", "s", "work/two/script.py"]), "[1, 2]\n");
        // What a turn wrote is there for the later ones.
        assert_eq!(turn(at, "s", "numbers.append(open('made').read()); print(numbers)"), "[1, 2, 'x']\n");
        let replayed = session(at, &["replay", "s"]);
        assert_eq!(replayed.status.code(), Some(0), "{}{}", stdout(&replayed), stderr(&replayed));
        assert_eq!(turn(at, "s", "print(numbers)"), "[1, 2, 'x']\n");
        said(at, &["rm", "s"]);
    }
    // Files of the session's own are there over a change of scripts too.
    said(at, &["new", "own", "--mount", "work:/work"]);
    turn(at, "own", "open('made', 'w').write('x')");
    said(at, &["run", "own", "work/one/script.py"]);
    turn(at, "own", "print(open('made').read())");
    assert_eq!(session(at, &["replay", "own"]).status.code(), Some(0));
}

#[test]
fn flags_hold_at_every_turn_from_where_the_session_was_made() {
    let directory = directory();
    let at = directory.path();
    fs::create_dir_all(at.join("a/work")).unwrap();
    fs::create_dir_all(at.join("b/work")).unwrap();
    fs::write(at.join("a/agentkernel.toml"), "env = ['FROM=file']\n").unwrap();
    let new = command(
        at,
        &[
            "new",
            "s",
            "--workspace",
            "work",
            "--env",
            "WORD=w",
            "--memory",
            "64MiB",
            "--mount",
            "../data:/up:rw",
        ],
    )
    .current_dir(at.join("a"))
    .output()
    .unwrap();
    refused(&new, "the store of sessions");
    let new = command(at, &["new", "s", "--workspace", "work", "--env", "WORD=w", "--memory", "64MiB"])
        .current_dir(at.join("a"))
        .output()
        .unwrap();
    assert_eq!(new.status.code(), Some(0), "{}", stderr(&new));
    let code = "import os\nopen('f', 'w').write('x')\nprint(os.environ['WORD'], os.environ['FROM'])\ntry: bytes(100 << 20)\nexcept MemoryError: print('no')";
    let ran = command(at, &["run", "s", "-c", code]).current_dir(at.join("b")).output().unwrap();
    assert_eq!(stdout(&ran), "w file\nno\n", "{}", stderr(&ran));
    assert!(at.join("a/work/f").exists() && !at.join("b/work/f").exists());
    refused(&session(at, &["reset", "s", "--files"]), "are not the session's own");
    // What is wrong is told when the session is made.
    refused(&session(at, &["new", "t", "--workspace", "absent"]), "absent");
    refused(&session(at, &["new", "t", "--image", "none"]), "there is no image `none`");
    refused(&session(at, &["new", "t", "--fuel", "1000000000"]), "cannot be kept here");
    refused(&session(at, &["new", "t", "--workspace", "."]), "the store of sessions");
    assert_eq!(json(at, &["list", "--json"]).as_array().unwrap().len(), 1);
    fs::rename(at.join("a"), at.join("c")).unwrap();
    refused(&session(at, &["run", "s", "-c", "1"]), "where the session was made");
    assert_eq!(said(at, &["rm", "s"]), "");
}

#[test]
fn names_are_no_paths() {
    let directory = directory();
    let at = directory.path();
    let long = "a".repeat(65);
    for name in [
        "",
        ".",
        "..",
        "../x",
        "/tmp/x",
        "a/b",
        "A",
        ".hidden",
        "ä",
        "a b",
        "a\nb",
        "\u{1b}[2J",
        long.as_str(),
    ] {
        for action in [&["new"][..], &["show"], &["rm"], &["log"], &["reset"]] {
            let output = session(at, &[action, &["--", name]].concat());
            refused(&output, "cannot be the name of a session");
            assert!(!stderr(&output).contains('\u{1b}'));
        }
    }
    said(at, &["new", "ok"]);
    refused(&session(at, &["fork", "ok", "../ok"]), "cannot be the name of a session");
    assert_eq!(fs::read_dir(at.join("data/sessions")).unwrap().count(), 1);
}

#[test]
fn what_programs_write_does_not_reach_the_terminal_as_it_is_nor_fill_the_journal() {
    let directory = directory();
    let at = directory.path();
    said(at, &["new", "s"]);
    turn(at, "s", "print('\\x1b[2J' + '\u{202e}')\n'\\x1b]0;x\\x07'");
    let output = session(at, &["run", "s", "-c", "raise ValueError('\\x1b[2J')"]);
    assert_eq!(output.status.code(), Some(1));
    turn(at, "s", "print('y' * 3_000_000)");
    for text in [said(at, &["log", "s"]), said(at, &["show", "s"]), said(at, &["list"])] {
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
    }
    let log = log(at, "s");
    assert_eq!((log[2]["stdout"].as_str().unwrap().len(), &log[2]["truncated"]), (64 << 10, &true.into()));
    assert!(fs::metadata(in_session(at, "s", "journal.jsonl")).unwrap().len() < 100_000);
}

#[test]
fn one_process_at_a_time_has_a_session() {
    let directory = directory();
    let at = directory.path();
    said(at, &["new", "s"]);
    said(at, &["new", "other"]);
    let mut child = command(at, &["run", "s", "-c", "print('on', flush=True); input(); x = 5"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut begun = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    let message = "the session `s` is in use by another process";
    for arguments in
        [&["run", "s", "-c", "1"][..], &["reset", "s"], &["fork", "s", "t"], &["rm", "s"], &["snapshot", "s"]]
    {
        refused(&session(at, arguments), message);
    }
    assert_eq!(json(at, &["show", "s", "--json"])["in_use"], true);
    assert!(said(at, &["list"]).contains("in use"));
    assert_eq!(said(at, &["log", "s"]), "");
    assert_eq!(turn(at, "other", "print(1)"), "1\n");
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(turn(at, "s", "print(x)"), "5\n");
}

#[test]
fn images_of_the_configuration() {
    let directory = directory();
    let at = directory.path();
    fs::write(at.join("prelude.py"), "import json\nprimes = [2, 3, 5]").unwrap();
    let config = "[image.warm]\nprelude = 'prelude.py'\n[image.short]\ncode = 'y = 7'\n[image.bad]\ncode = '1 / 0'\n[image.none]\n\
                  [image.both]\ncode = '1'\nprelude = 'prelude.py'\n[image.tool]\ntools = ['absent']\n[image.lost]\nprelude = 'lost.py'\n";
    fs::write(at.join("agentkernel.toml"), config).unwrap();
    let run = |arguments: &[&str]| agentkernel(at).arg("run").args(arguments).output().unwrap();
    let output = run(&["--image", "warm", "-c", "print(json.dumps(primes))"]);
    assert_eq!(stdout(&output), "[2, 3, 5]\n", "{}", stderr(&output));
    said(at, &["new", "s", "--image", "short"]);
    assert_eq!(turn(at, "s", "y += 1; print(y)"), "8\n");
    said(at, &["reset", "s"]);
    assert_eq!(turn(at, "s", "print(y)"), "7\n");
    said(at, &["snapshot", "s", "s.akimg"]);
    assert_eq!(stdout(&run(&["--image", "s.akimg", "-c", "print(y)"])), "7\n");
    for (name, message) in [
        ("bad", "ZeroDivisionError"),
        ("none", "has nothing in it"),
        ("both", "has both a `prelude` and `code`"),
        ("tool", "there is no tool `absent`"),
        ("lost", "cannot read the prelude"),
        ("other", "there is no image `other`"),
        ("./other.akimg", "there is no image"),
    ] {
        refused(&run(&["--image", name, "-c", "1"]), message);
    }
}

/// Each turn is another process. What tools have open is in none but the first, unless it is made anew.
#[test]
fn resources_of_tools_are_as_declared_in_later_turns() {
    let directory = directory();
    let at = directory.path();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tools").canonicalize().unwrap();
    let configure = |text: &str| {
        let text = format!("tools = [{:?}]\n{text}", tools.join("echo.wasm"));
        fs::write(at.join("agentkernel.toml"), text).unwrap();
    };
    let begin = "from tools.echo.counters import Counter\nk = Counter(5)\nprint(k.next())";
    let look = "try: print(k.next())\nexcept Exception as error: print(type(error).__name__)";
    for (resources, later) in [("kept", "ToolClosed\n"), ("closed", "ToolClosed\n"), ("recreated", "6\n")] {
        configure(&format!("[tool.echo]\nresources = '{resources}'"));
        said(at, &["new", resources]);
        assert_eq!(turn(at, resources, begin), "6\n");
        assert_eq!(turn(at, resources, look), later, "{resources}");
        assert_eq!(turn(at, resources, look), later, "{resources}");
    }
    // What is declared now is not what a session's memory has; where it is, the session goes on.
    refused(&session(at, &["run", "kept", "-c", look]), "`resources` of the tool `echo` are \"recreated\"");
    configure("[tool.echo]\nresources = 'refused'");
    refused(
        &session(at, &["run", "recreated", "-c", look]),
        "`resources` of the tool `echo` were \"recreated\"",
    );
    assert_eq!(turn(at, "kept", look), "ToolClosed\n");
    said(at, &["new", "refused"]);
    let held = session(at, &["run", "refused", "-c", begin]);
    assert_eq!((held.status.code(), stdout(&held).as_str()), (Some(1), "6\n"));
    assert!(stderr(&held).contains("`tools.echo.counters.Counter`"), "{}", stderr(&held));
    assert_eq!(
        turn(at, "refused", "print('k' in globals())"),
        "False\n",
        "its memory is as before that turn"
    );
    // What lies beside tools may declare it; agentkernel.toml comes first.
    fs::create_dir(at.join("t")).unwrap();
    fs::copy(tools.join("echo.wasm"), at.join("t/echo.wasm")).unwrap();
    fs::write(at.join("t/tools.toml"), "[tool.echo]\nresources = 'recreated'").unwrap();
    for (text, later) in [("", "6\n"), ("[tool.echo]\nresources = 'closed'", "ToolClosed\n")] {
        fs::write(at.join("agentkernel.toml"), format!("tools = ['t']\n{text}")).unwrap();
        let name = if text.is_empty() { "beside" } else { "first" };
        said(at, &["new", name]);
        turn(at, name, begin);
        assert_eq!(turn(at, name, look), later, "{text}");
    }
}
