//! Sessions and runs whose files are kept apart from the directory.

use super::*;

fn workspace(at: &Path) -> PathBuf {
    let work = at.join("work");
    fs::create_dir(&work).unwrap();
    fs::write(work.join("notes"), "one\n").unwrap();
    work
}

#[test]
fn changes_are_shown_applied_and_dropped() {
    let directory = directory();
    let at = directory.path();
    let work = workspace(at);
    said(at, &["new", "s", "--workspace", "work", "--overlay"]);
    turn(
        at,
        "s",
        "with open('notes', 'a') as f: f.write('two\\n')\nwith open('new', 'wb') as f: f.write(b'\\0')",
    );
    assert_eq!(fs::read_to_string(work.join("notes")).unwrap(), "one\n");
    let diff = said(at, &["diff", "s"]);
    assert!(
        diff.contains("added    new (not text)\n")
            && diff.contains("changed  notes\n")
            && diff.contains("\n+two\n"),
        "{diff}"
    );
    assert_eq!(json(at, &["diff", "s", "--json"])["changes"][0]["kind"], "added");
    said(at, &["fork", "s", "t"]);
    turn(at, "t", "import os; os.remove('notes')");
    said(at, &["apply", "s"]);
    assert_eq!(fs::read_to_string(work.join("notes")).unwrap(), "one\ntwo\n");
    assert_eq!(said(at, &["diff", "s"]), "");
    // The other one began with what has changed since.
    let output = session(at, &["apply", "t"]);
    refused(&output, "was changed meanwhile");
    assert!(work.join("notes").exists());
    let diff = session(at, &["diff", "t"]);
    assert!(stderr(&diff).contains("conflict: `notes` was changed in the directory"), "{}", stderr(&diff));
    assert_eq!(json(at, &["diff", "t", "--json"])["conflicts"].as_array().unwrap().len(), 2);
    refused(&session(at, &["apply", "t", "--theirs", "new"]), "not every conflict is settled");
    said(at, &["discard", "t"]);
    assert_eq!(turn(at, "t", "print(open('notes').read())"), "one\ntwo\n\n");
    // Or one side is said to hold.
    turn(at, "t", "with open('notes', 'w') as f: f.write('ours')");
    fs::write(work.join("notes"), "theirs").unwrap();
    said(at, &["apply", "t", "--ours", "notes"]);
    assert_eq!(fs::read_to_string(work.join("notes")).unwrap(), "ours");
    fs::write(work.join("notes"), "one\ntwo\n").unwrap();
    // State and files go on after both.
    assert_eq!(turn(at, "s", "x = 1; print(open('notes').read())"), "one\ntwo\n\n");
    said(at, &["reset", "s", "--files"]);
    assert_eq!(turn(at, "s", "print('x' in globals())"), "False\n");
    said(at, &["new", "plain", "--workspace", "work"]);
    refused(&session(at, &["diff", "plain"]), "has no overlay");
    said(at, &["new", "own", "--overlay"]);
    turn(at, "own", "open('f', 'w').write('x')");
    assert!(said(at, &["diff", "own"]).starts_with("added    f\n"));
    said(at, &["fork", "own", "own2"]);
    said(at, &["rm", "own"]);
    assert_eq!(turn(at, "own2", "print(open('f').read())"), "x\n");
    refused(&session(at, &["apply", "own2"]), "has no directory");
}

#[test]
fn a_transaction_keeps_all_or_nothing() {
    let directory = directory();
    let at = directory.path();
    said(at, &["new", "s", "--overlay", "--timeout", "1s"]);
    turn(
        at,
        "s",
        "n = 0\ndef put(x):\n  global n\n  n = x\n  with open('n', 'w') as f: f.write(str(x))\nput(1)",
    );
    let both = "print(n, open('n').read())";
    for (code, exit, ending) in [
        ("put(2); 1 / 0", 1, "raised"),
        ("put(2); raise SystemExit(3)", 3, "exited"),
        ("put(2)\nwhile True: pass", 124, "timed-out"),
        ("put(2); held = open('held', 'w')", 1, "completed"),
    ] {
        let output = session(at, &["run", "s", "--transactional", "-c", code]);
        assert_eq!(output.status.code(), Some(exit), "{code}: {}", stderr(&output));
        assert_eq!(turn(at, "s", both), "1 1\n", "{code}");
        let log = log(at, "s");
        let entry = &log[log.len() - 2];
        assert_eq!(
            (&entry["outcome"], &entry["kept"], &entry["files_kept"]),
            (&ending.into(), &false.into(), &false.into()),
            "{code}"
        );
    }
    said(at, &["run", "s", "--transactional", "-c", "put(3); raise SystemExit(0)"]);
    assert_eq!(turn(at, "s", both), "3 3\n");
    // Otherwise what raises is kept, and a turn that is stopped leaves its files.
    session(at, &["run", "s", "-c", "put(4); 1 / 0"]);
    assert_eq!(turn(at, "s", both), "4 4\n");
    session(at, &["run", "s", "-c", "put(5)\nwhile True: pass"]);
    assert_eq!(turn(at, "s", both), "4 5\n");
    session(at, &["run", "s", "-c", "put(6); held = open('held', 'w')"]);
    assert_eq!(turn(at, "s", both), "4 5\n");
}

#[test]
fn a_run_over_a_directory() {
    let directory = directory();
    let at = directory.path();
    let work = workspace(at);
    let run = |arguments: &[&str], code: &str| {
        agentkernel(at)
            .args(["run", "--overlay", "--workspace", "work"])
            .args(arguments)
            .args(["-c", code])
            .output()
            .unwrap()
    };
    let notes = || fs::read_to_string(work.join("notes")).unwrap();
    let write = "open('notes', 'w').write('new'); print(open('notes').read())";
    let output = run(&[], write);
    assert_eq!((stdout(&output).as_str(), notes().as_str()), ("new\n", "one\n"));
    assert!(
        stderr(&output).contains("changed  notes") && stderr(&output).contains("were dropped"),
        "{}",
        stderr(&output)
    );
    let output = run(&["--apply"], "open('notes', 'w').write('x'); 1 / 0");
    assert_eq!((output.status.code(), notes().as_str()), (Some(1), "one\n"));
    let output = run(&["--apply"], write);
    assert_eq!((output.status.code(), notes().as_str()), (Some(0), "new"));
    assert!(stderr(&output).contains("were applied"), "{}", stderr(&output));
    assert_eq!(stderr(&run(&["--quiet"], "open('notes', 'w').write('x')")), "");
    let mut child = agentkernel(at)
        .args([
            "run",
            "--overlay",
            "--apply",
            "-w",
            "work",
            "-c",
            "open('notes', 'w').write('mine'); print(flush=True); input()",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    fs::write(work.join("notes"), "somebody else's").unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let output = child.wait_with_output().unwrap();
    changes::not_applied(&output, "was changed meanwhile");
    assert_eq!(notes(), "somebody else's");
    refused(
        &agentkernel(at).args(["run", "--overlay", "-c", "1"]).output().unwrap(),
        "no directory to lie over",
    );
    let output = agentkernel(at).args(["run", "--apply", "-w", "work", "-c", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
