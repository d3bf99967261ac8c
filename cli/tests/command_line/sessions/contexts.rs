//! `session new --context`: data that all turns read, and that must stay what it was.

use super::*;

const READ: &str = "from agentkernel import context\nprint(len(context), context[seen:seen + 3]); seen += 3";

fn data(at: &Path) {
    fs::create_dir(at.join("logs")).unwrap();
    fs::write(at.join("logs/a.txt"), "abcdef").unwrap();
    fs::write(at.join("logs/b.txt"), "ghi").unwrap();
}

/// A write that a clock of any grain can see.
fn write(file: &Path, text: &str) {
    std::thread::sleep(Duration::from_millis(20));
    fs::write(file, text).unwrap();
}

#[test]
fn a_context_is_read_over_turns_forks_snapshots_and_replays() {
    let directory = directory();
    let at = directory.path();
    data(at);
    fs::create_dir(at.join("elsewhere")).unwrap();
    fs::write(at.join("more.txt"), "jkl").unwrap();
    said(at, &["new", "s", "--overlay", "-C", "logs", "--context", "more.txt", "--timeout", "5s"]);
    turn(
        at,
        "s",
        "from agentkernel import context\nseen = 0\nmatches = iter(context.search('[adgj]', limit=9))",
    );
    assert_eq!(turn(at, "s", READ), "12 abc\n");
    // From another directory, too.
    let ran = command(at, &["run", "s", "-c", READ]).current_dir(at.join("elsewhere")).output().unwrap();
    assert_eq!(stdout(&ran), "12 def\n", "{}", stderr(&ran));
    assert_eq!(turn(at, "s", "print(next(matches).text, next(matches).file)"), "a a.txt\n");
    said(at, &["fork", "s", "t"]);
    said(at, &["snapshot", "s"]);
    assert_eq!(turn(at, "t", READ), "12 ghi\n");
    assert_eq!(turn(at, "s", READ), "12 ghi\n");
    // A turn that is taken back leaves the place in it.
    let stopped = session(at, &["run", "s", "--transactional", "-c", "seen = 0; raise ValueError"]);
    assert_eq!(stopped.status.code(), Some(1));
    assert_eq!(turn(at, "s", READ), "12 jkl\n");
    assert_eq!(turn(at, "s", "print(next(matches).text)"), "g\n");
    assert_eq!(session(at, &["replay", "s"]).status.code(), Some(0));
    assert_eq!(turn(at, "s", "print(seen, next(matches).text)"), "12 j\n");
    said(at, &["restore", "s", "4"]);
    assert_eq!(turn(at, "s", READ), "12 ghi\n");
    said(at, &["reset", "s"]);
    assert_eq!(turn(at, "s", "from agentkernel import context\nprint(context)"), "abcdefghijkl\n");
    // Where there is none, the program is told how to get one.
    said(at, &["new", "none"]);
    let output = session(at, &["run", "none", "-c", "from agentkernel import context"]);
    assert!(stderr(&output).contains("--context"), "{}", stderr(&output));
}

#[test]
fn one_that_was_changed_is_refused_until_it_is_taken_as_it_is() {
    let directory = directory();
    let at = directory.path();
    data(at);
    said(at, &["new", "s", "--context", "logs"]);
    turn(at, "s", "from agentkernel import context\nsize = len(context)");
    let stands = |name: &str| {
        let log = log(at, name);
        log.last().unwrap()["turn"].as_u64().unwrap()
    };
    for (change, told) in [
        (
            &(|| write(&at.join("logs/c.txt"), "new")) as &dyn Fn(),
            "had 2 files of 9 bytes, and has 3 files of 12 bytes",
        ),
        (&|| fs::remove_file(at.join("logs/c.txt")).unwrap(), ""),
        (&|| write(&at.join("logs/b.txt"), "GHI"), "another content or another time"),
        (
            &|| fs::rename(at.join("logs"), at.join("gone")).unwrap(),
            "cannot be opened: cannot read the context `logs`",
        ),
    ] {
        change();
        let output = session(at, &["run", "s", "-c", "size = 0"]);
        if told.is_empty() {
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            assert!(said(at, &["show", "s"]).contains("ready"));
            continue;
        }
        refused(&output, told);
        // So is it told without a turn.
        let shown = session(at, &["show", "s"]);
        assert_eq!(shown.status.code(), Some(1), "{}", stdout(&shown));
        assert!(stdout(&shown).contains("cannot be used: the context of") && stdout(&shown).contains(told));
        let problem = json(at, &["show", "s", "--json"])["problem"].as_str().unwrap().to_owned();
        assert!(problem.contains(told), "{problem}");
        assert!(
            !stderr(&output).contains("`logs` is not what") || stderr(&output).contains("session replay s")
        );
        // Nothing ran, and nothing became of it.
        assert_eq!(stands("s"), if told.contains("3 files") { 1 } else { 2 });
    }
    // What is gone cannot be replayed over, or begun with.
    refused(&session(at, &["replay", "s"]), "cannot be opened");
    refused(&session(at, &["reset", "s"]), "cannot be opened");
    fs::rename(at.join("gone"), at.join("logs")).unwrap();
    write(&at.join("logs/a.txt"), "abcdefgh");
    said(at, &["fork", "s", "t"]);
    // Both ways to take it as it is.
    let replayed = session(at, &["replay", "s"]);
    assert_eq!(replayed.status.code(), Some(0), "{}", stderr(&replayed));
    assert_eq!(turn(at, "s", "print(size, len(context))"), "0 11\n");
    refused(&session(at, &["run", "t", "-c", "1"]), "is not what it was");
    said(at, &["reset", "t"]);
    assert_eq!(turn(at, "t", "from agentkernel import context\nprint(len(context))"), "11\n");
    // A fork has what was taken.
    said(at, &["fork", "s", "u"]);
    assert_eq!(turn(at, "u", "print(len(context))"), "11\n");
    write(&at.join("logs/a.txt"), "a");
    for name in ["s", "t", "u"] {
        refused(&session(at, &["run", name, "-c", "1"]), "is not what it was");
    }
    // A state from a file does not make it another context.
    said(at, &["snapshot", "s"]);
    let turn = stands("s").to_string();
    said(at, &["restore", "s", &turn]);
    refused(&session(at, &["run", "s", "-c", "1"]), "is not what it was");
}

/// A state has the context that it was made over, wherever the session has come meanwhile.
#[test]
fn a_restored_state_is_of_the_context_that_it_was_made_over() {
    let directory = directory();
    let at = directory.path();
    fs::write(at.join("data.txt"), "abcdef").unwrap();
    let begin = "from agentkernel import context\nseen = 0";
    let read = "print(len(context), context[seen:seen + 3])";
    said(at, &["new", "s", "--context", "data.txt"]);
    turn(at, "s", begin);
    said(at, &["snapshot", "s"]);
    said(at, &["snapshot", "s", "s.akimg"]);
    // One of before states had it in them.
    said(at, &["new", "none"]);
    turn(at, "none", "seen = 0");
    let unmarked = in_session(at, "s", "snapshots/turn-2.akimg");
    turn(at, "s", begin);
    said(at, &["snapshot", "none", unmarked.to_str().unwrap()]);
    fs::rename(at.join("data.txt"), at.join("before.txt")).unwrap();
    write(&at.join("data.txt"), "uvwxyzuvw");
    said(at, &["reset", "s"]);
    turn(at, "s", begin);
    assert_eq!(turn(at, "s", read), "9 uvw\n");
    said(at, &["snapshot", "s"]);
    said(at, &["new", "other", "--context", "data.txt"]);
    for (name, file) in [("s", "2"), ("s", "1"), ("s", "s.akimg"), ("other", "s.akimg")] {
        said(at, &["restore", name, file]);
        let output = session(at, &["run", name, "-c", read]);
        refused(&output, "`data.txt` had 6 bytes, and has 9");
        // It can be followed.
        let hint = stderr(&output);
        assert!(
            hint.contains(&format!("session restore {name} FILE")) && hint.contains("session reset"),
            "{hint}"
        );
        assert!(!hint.contains("session replay"), "{hint}");
        refused(&session(at, &["replay", name]), "cannot be replayed");
    }
    said(at, &["fork", "s", "t"]);
    refused(&session(at, &["run", "t", "-c", read]), "had 6 bytes, and has 9");
    said(at, &["restore", "s", "5"]);
    assert_eq!(turn(at, "s", read), "9 uvw\n");
    // Nor is an image of it one to begin with.
    let begun = ["new", "begun", "--context", "data.txt", "--image", "s.akimg"];
    refused(&session(at, &begun), "was made over another context: `data.txt` had 6 bytes, and has 9");
    for command in [&["run", "-c", read][..], &["mcp", "serve"]] {
        let over = ["--context", "data.txt", "--image", "s.akimg"];
        let output = agentkernel(at).args(command).args(over).output().unwrap();
        refused(&output, "was made over another context: `data.txt` had 6 bytes, and has 9");
    }
    said(at, &["reset", "other"]);
    assert_eq!(turn(at, "other", &format!("{begin}\n{read}")), "9 uvw\n");
    // Where it is what it was then, it goes on, and what was made over the other does not.
    fs::rename(at.join("before.txt"), at.join("data.txt")).unwrap();
    refused(&session(at, &["run", "s", "-c", read]), "had 9 bytes, and has 6");
    for file in ["1", "s.akimg"] {
        said(at, &["restore", "s", file]);
        assert_eq!(turn(at, "s", read), "6 abc\n");
    }
    assert_eq!(turn(at, "t", "print(seen)"), "0\n");
    said(at, &begun);
    assert_eq!(turn(at, "begun", read), "6 abc\n");
    write(&at.join("data.txt"), "uvwxyzuvw");
    for arguments in [&["run", "begun", "-c", read][..], &["reset", "begun"], &["replay", "begun"]] {
        let output = session(at, arguments);
        refused(&output, "had 6 bytes, and has 9");
        assert!(stderr(&output).contains("make a session without `--image`"), "{}", stderr(&output));
    }
    assert!(log(at, "s").last().unwrap()["context"].is_null());
    assert!(log(at, "s").iter().any(|step| step["kind"] == "restored" && step["context"].is_object()));
}

#[test]
fn what_cannot_be_one_is_told_when_the_session_is_made() {
    let directory = directory();
    let at = directory.path();
    data(at);
    fs::create_dir(at.join("work")).unwrap();
    fs::write(at.join("work/data.txt"), "x").unwrap();
    fs::write(at.join("broken.gz"), b"\x1f\x8b\x08junk").unwrap();
    refused_or_not(&session(at, &["new", "s", "--context", "absent"]), "cannot read the context `absent`");
    refused_or_not(&session(at, &["new", "s", "--context", "broken.gz"]), "broken.gz");
    refused(&session(at, &["new", "s", "--context", "/dev/null"]), "neither a regular file nor a directory");
    // Its own programs would change it.
    let within = ["new", "s", "--workspace", "work", "--context", "work/data.txt"];
    refused(&session(at, &within), "lies in a directory that the program may write to");
    refused(&session(at, &["new", "s", "--mount", "logs:/logs:rw", "--context", "logs"]), "may write to");
    fs::create_dir(at.join("logs/out")).unwrap();
    let around = ["new", "s", "--workspace", "logs/out", "--context", "logs"];
    refused(&session(at, &around), "lies in the context `logs`");
    // Of mounts an overlay keeps nothing apart.
    for (mount, told) in
        [("logs:/logs:rw", "may write to"), ("logs/out:/out:rw", "lies in the context `logs`")]
    {
        let output = session(at, &["new", "s", "--overlay", "-w", "work", "-m", mount, "-C", "logs"]);
        refused(&output, told);
        assert!(stderr(&output).contains("and not write to it"), "{}", stderr(&output));
        assert!(!stderr(&output).contains("--overlay"), "{}", stderr(&output));
    }
    assert_eq!(json(at, &["list", "--json"]).as_array().unwrap().len(), 0);
    said(at, &["new", "s", "--overlay", "-w", "work", "-m", "logs:/logs", "-C", "logs"]);
    said(at, &["rm", "s"]);
    said(at, &[&around[..], &["--overlay"]].concat());
    said(at, &["rm", "s"]);
    said(at, &[&within[..], &["--overlay"]].concat());
    turn(at, "s", "open('data.txt', 'w').write('changed')");
    assert_eq!(
        turn(at, "s", "from agentkernel import context\nprint(context, open('data.txt').read())"),
        "x changed\n"
    );
    // Once that is applied, it is another one.
    said(at, &["apply", "s"]);
    refused(&session(at, &["run", "s", "-c", "1"]), "had 1 bytes, and has 7");
}

/// An error of misuse; the message says all that there is to do.
#[track_caller]
fn refused_or_not(output: &Output, message: &str) {
    assert_eq!(output.status.code(), Some(2), "{}", stderr(output));
    assert!(stderr(output).contains(message), "{}", stderr(output));
}

#[test]
fn names_of_files_do_not_reach_the_terminal_as_they_are() {
    let directory = directory();
    let at = directory.path();
    let name = "log\u{1b}[2J";
    fs::write(at.join(name), "x").unwrap();
    said(at, &["new", "s", "--context", name]);
    write(&at.join(name), "xx");
    let output = session(at, &["run", "s", "-c", "1"]);
    refused(&output, "had 1 bytes, and has 2");
    assert!(!stderr(&output).contains('\u{1b}'), "{}", stderr(&output));
}

/// Whenever a process ends that takes a context as it is now, memory is never of another one than what is read.
#[test]
fn a_killed_replay_or_reset_leaves_no_memory_over_another_context() {
    let directory = directory();
    let at = directory.path();
    let (mut before, mut after) = (0, 0);
    for (round, overlay) in [&[][..], &["--overlay"]].into_iter().cycle().take(14).enumerate() {
        fs::write(at.join("data.txt"), "abc").unwrap();
        said(at, &[&["new", "s", "--context", "data.txt"], overlay].concat());
        turn(at, "s", "from agentkernel import context\nsize = len(context)");
        write(&at.join("data.txt"), "abcdef");
        let action = if round % 4 < 2 { "replay" } else { "reset" };
        let mut child =
            command(at, &[action, "s"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(12 * round as u64));
        let _ = child.kill();
        child.wait().unwrap();
        let code =
            "from agentkernel import context\nprint(globals().get('size', len(context)), len(context))";
        let output = session(at, &["run", "s", "-c", code]);
        match output.status.code() {
            Some(0) => {
                after += 1;
                assert_eq!(stdout(&output), "6 6\n", "round {round}");
            }
            _ => {
                before += 1;
                refused(&output, "had 3 bytes, and has 6");
            }
        }
        // Either way it can be done now.
        assert_eq!(session(at, &[action, "s"]).status.code(), Some(0));
        assert_eq!(turn(at, "s", code), "6 6\n");
        said(at, &["rm", "s"]);
    }
    assert!(before > 0, "{after} of them were done before they were killed");
}
