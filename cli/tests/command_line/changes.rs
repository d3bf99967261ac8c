//! `agentkernel changes`: what could not be applied, and what becomes of it.

use super::*;

pub fn command(at: &Path, arguments: &[&str]) -> Command {
    let mut command = agentkernel(at);
    command.env("AGENTKERNEL_DATA_DIR", at.join("data")).args(arguments);
    command
}

pub fn changes(at: &Path, arguments: &[&str]) -> Output {
    command(at, &[&["changes"], arguments].concat()).output().unwrap()
}

#[track_caller]
pub fn refused(output: &Output, message: &str) {
    assert_eq!(output.status.code(), Some(2), "{}{}", stdout(output), stderr(output));
    assert!(stderr(output).contains(message) && stderr(output).contains("\nhint: "), "{}", stderr(output));
}

/// A run whose changes could not be taken over.
#[track_caller]
pub fn not_applied(output: &Output, message: &str) {
    assert_eq!(output.status.code(), Some(1), "{}{}", stdout(output), stderr(output));
    assert!(stderr(output).contains(message) && stderr(output).contains("\nhint: "), "{}", stderr(output));
}

pub fn listed(at: &Path) -> Vec<Value> {
    serde_json::from_str(&stdout(&changes(at, &["list", "--json"]))).unwrap()
}

/// A directory of files, as it is before anything.
pub fn workspace(at: &Path) {
    fs::create_dir(at.join("work")).unwrap();
    fs::write(at.join("work/notes.txt"), "one\n").unwrap();
}

/// A run whose changes meet others' in the directory; gives their name. Who puts the file back undoes the conflict.
pub fn conflict(at: &Path, code: &str) -> String {
    let before = fs::metadata(at.join("work/notes.txt")).unwrap().modified().unwrap();
    // What was touched a moment ago is told by its content, whenever it is put back.
    let touch = "import os\nat = os.stat('/d/notes.txt')\nos.utime('/d/notes.txt', ns=(at.st_atime_ns, at.st_mtime_ns))";
    let write = "open('notes.txt', 'a').write('two\\n')\nopen('/d/notes.txt', 'a').write('theirs')";
    let all = format!("{code}\n{touch}\n{write}");
    let mounts = ["--workspace", "work", "--mount", "work:/d:rw", "--overlay", "--apply"];
    let output = command(at, &[&["run"][..], &mounts, &["-c", &all]].concat()).output().unwrap();
    not_applied(&output, "`notes.txt` was changed");
    let said = stderr(&output);
    let name =
        said.split("`agentkernel changes apply ").nth(1).unwrap().split('`').next().unwrap().to_owned();
    assert!(name.starts_with("run-") && name.len() == 10, "{name}");
    assert_eq!(fs::read_to_string(at.join("work/notes.txt")).unwrap(), "one\ntheirs");
    set(at, "one\ntheirs", before);
    name
}

/// The file that the tests contend for, changed at some time.
fn set(at: &Path, text: &str, time: std::time::SystemTime) {
    let mut file = fs::File::options().write(true).truncate(true).open(at.join("work/notes.txt")).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.set_modified(time).unwrap();
}

fn put_back(at: &Path) {
    let time = fs::metadata(at.join("work/notes.txt")).unwrap().modified().unwrap();
    set(at, "one\n", time);
}

#[test]
fn who_reads_nothing_of_a_run_has_its_changes_or_is_told() {
    let directory = directory();
    let at = directory.path();
    workspace(at);
    let run = |code: &str| {
        let mut command = command(at, &["run", "--workspace", "work", "--overlay", "--apply", "-c", code]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        stderr(&child.wait_with_output().unwrap())
    };
    let told = run("open('new', 'w').write('text')\nprint('on')");
    let applied = at.join("work/new").exists();
    assert!(applied == told.contains("were applied") && applied != told.contains("were dropped"), "{told}");
    // It is stopped where nobody reads on.
    let told = run("open('more', 'w').write('text')\nwhile True: print('on')");
    assert!(told.contains("were dropped") && !at.join("work/more").exists(), "{told}");
}

#[test]
fn what_two_have_changed_in_the_same_way_is_a_conflict() {
    let directory = directory();
    let at = directory.path();
    workspace(at);
    let mounts = ["--workspace", "work", "--mount", "work:/d:rw", "--overlay", "--apply"];
    let code = "for place in ['.', '/d']: open(f'{place}/notes.txt', 'w').write('the same')";
    let output = command(at, &[&["run"][..], &mounts, &["-c", code]].concat()).output().unwrap();
    not_applied(&output, "`notes.txt` was changed");
    let code = "import os\nfor place in ['.', '/d']: os.remove(f'{place}/notes.txt')";
    let output = command(at, &[&["run"][..], &mounts, &["-c", code]].concat()).output().unwrap();
    not_applied(&output, "`notes.txt`");
}

#[test]
fn changes_to_a_directory_whose_name_is_no_text_are_kept() {
    use std::os::unix::ffi::OsStrExt;
    let directory = directory();
    let at = directory.path();
    let odd = at.join(std::ffi::OsStr::from_bytes(b"w\xff"));
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("notes.txt"), "one\n").unwrap();
    let mounts = ["--workspace", ".", "--mount", ".:/d:rw", "--overlay", "--apply"];
    let code = "open('notes.txt', 'a').write('two\\n')\nopen('/d/notes.txt', 'a').write('theirs')";
    let mut run = command(at, &[&["run"][..], &mounts, &["-c", code]].concat());
    let output = run.current_dir(&odd).output().unwrap();
    not_applied(&output, "`notes.txt` was changed");
    let listed = listed(at);
    let name = listed[0]["name"].as_str().unwrap();
    assert!(listed[0]["directory"].as_str().unwrap().ends_with("w\u{fffd}"), "{listed:?}");
    let applied = changes(at, &["apply", name, "--ours", "."]);
    assert_eq!(applied.status.code(), Some(0), "{}", stderr(&applied));
    assert_eq!(fs::read_to_string(odd.join("notes.txt")).unwrap(), "one\ntwo\n");
}

#[test]
fn they_are_listed_shown_applied_and_dropped() {
    let directory = directory();
    let at = directory.path();
    workspace(at);
    let output = changes(at, &["list"]);
    assert_eq!((stdout(&output).as_str(), stderr(&output).contains("no changes are kept")), ("", true));
    let name = conflict(at, "open('new\\x1b.txt', 'w').write('new')");
    let (said, all) = (stdout(&changes(at, &["list"])), listed(at));
    let doctor = stdout(&command(at, &["doctor"]).output().unwrap());
    assert!(doctor.contains("data/changes`, 1 set that could not be applied"), "{doctor}");
    assert!(said.starts_with(&name) && said.contains("2 changes") && said.contains("work\n"), "{said}");
    assert_eq!((&all[0]["name"], &all[0]["changes"]), (&name.clone().into(), &2.into()));
    assert!(all[0]["why"].as_str().unwrap().contains("`notes.txt` was changed"), "{all:?}");
    let output = changes(at, &["diff", &name]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("added    new") && stdout(&output).contains("\n+two\n"),
        "{}",
        stdout(&output)
    );
    assert!(
        stderr(&output).contains("conflict: `notes.txt` was changed in the directory"),
        "{}",
        stderr(&output)
    );
    let diff: Value = serde_json::from_str(&stdout(&changes(at, &["diff", &name, "--json"]))).unwrap();
    assert_eq!(diff["conflicts"], serde_json::json!([{ "path": "notes.txt", "kind": "changed" }]));
    assert_eq!(diff["changes"].as_array().unwrap().len(), 2);
    // All or nothing, and nothing is lost by trying.
    let output = changes(at, &["apply", &name]);
    refused(&output, "`notes.txt` was changed");
    assert!(stderr(&output).contains(&format!("changes discard {name}")), "{}", stderr(&output));
    assert!(!at.join("work/new\u{1b}.txt").exists() && listed(at).len() == 1);
    put_back(at);
    let output = changes(at, &["apply", &name]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("2 changes applied to"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(at.join("work/notes.txt")).unwrap(), "one\ntwo\n");
    assert_eq!(fs::read_to_string(at.join("work/new\u{1b}.txt")).unwrap(), "new");
    assert!(listed(at).is_empty());
    refused(&changes(at, &["apply", &name]), "there is no set of changes");
    // Dropped, the directory is not touched.
    put_back(at);
    let (one, other) = (conflict(at, ""), {
        put_back(at);
        conflict(at, "")
    });
    assert_eq!(listed(at).len(), 2);
    assert_eq!(changes(at, &["discard", &one, &other]).status.code(), Some(0));
    assert!(listed(at).is_empty());
    assert_eq!(fs::read_to_string(at.join("work/notes.txt")).unwrap(), "one\ntheirs");
}

#[test]
fn each_conflict_is_settled_for_one_side() {
    let directory = directory();
    let at = directory.path();
    workspace(at);
    for name in ["a", "b"] {
        fs::write(at.join("work").join(name), name).unwrap();
    }
    let code = "for name in ['a', 'b', 'new']:\n  open(name, 'w').write('ours')\n  open('/d/' + name, 'w').write('theirs!')";
    let name = conflict(at, code);
    let apply = |flags: &[&str]| changes(at, &[&["apply", &name], flags].concat());
    // Nothing is settled by halves, nor where there is nothing to be settled.
    refused(&apply(&["--ours", "a", "--theirs", "b"]), "not every conflict is settled: `new` was made");
    refused(&apply(&["--ours", "absent"]), "there is no conflict at `absent`");
    refused(&apply(&["--ours", "a", "--theirs", "a", "--theirs", "."]), "both sides are named for `a`");
    refused(&apply(&["--ours", ".", "--theirs", "./"]), "both sides are named for `.`");
    refused(&apply(&[]), "was changed meanwhile");
    assert_eq!(fs::read_to_string(at.join("work/a")).unwrap(), "theirs!");
    let output = apply(&["--ours", "./a", "--theirs", "b", "--theirs", "new", "--ours", "notes.txt"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("2 changes applied"), "{}", stderr(&output));
    for (file, text) in [("a", "ours"), ("b", "theirs!"), ("new", "theirs!"), ("notes.txt", "one\ntwo\n")] {
        assert_eq!(fs::read_to_string(at.join("work").join(file)).unwrap(), text, "{file}");
    }
    assert!(listed(at).is_empty());
    fs::write(at.join("work/notes.txt"), "one\n").unwrap();
    // At each the longest path holds.
    let name = conflict(at, code);
    let output = changes(at, &["apply", &name, "--ours", ".", "--theirs", "b", "--theirs", "notes.txt"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for (file, text) in [("a", "ours"), ("b", "theirs!"), ("new", "ours"), ("notes.txt", "one\ntheirs")] {
        assert_eq!(fs::read_to_string(at.join("work").join(file)).unwrap(), text, "{file}");
    }
    fs::write(at.join("work/notes.txt"), "one\n").unwrap();
    let name = conflict(at, "");
    assert_eq!(changes(at, &["apply", &name, "--theirs", "."]).status.code(), Some(0));
    assert_eq!(fs::read_to_string(at.join("work/notes.txt")).unwrap(), "one\ntheirs");
    assert!(listed(at).is_empty());
}

/// What is said of conflicts counts with an apply that succeeds, and only then.
#[test]
fn an_apply_that_fails_settles_nothing() {
    let directory = directory();
    let at = directory.path();
    workspace(at);
    let work = at.join("work").canonicalize().unwrap();
    let code = format!(
        "import hashlib\nprint(hashlib.sha256({:?}.encode()).hexdigest())",
        work.display().to_string()
    );
    let record = stdout(&command(at, &["run", "-c", &code]).output().unwrap());
    for side in ["--ours", "--theirs"] {
        fs::write(at.join("work/notes.txt"), "one\n").unwrap();
        let name = conflict(at, "open('new', 'w').write('new')");
        let apply = |side| changes(at, &["apply", &name, side, "."]);
        // What is done cannot be written down.
        let blocked = at.join("data/applies").join(format!("{}.new", record.trim()));
        fs::create_dir(&blocked).unwrap();
        let output = apply(side);
        refused(&output, "cannot change the directory");
        assert!(!at.join("work/new").exists() && listed(at).len() == 1);
        refused(&changes(at, &["apply", &name]), "`notes.txt` was changed");
        fs::remove_dir(&blocked).unwrap();
        let output = apply("--ours");
        assert_eq!(output.status.code(), Some(0), "{side}: {}", stderr(&output));
        assert_eq!(fs::read_to_string(at.join("work/notes.txt")).unwrap(), "one\ntwo\n");
        fs::remove_file(at.join("work/new")).unwrap();
    }
}

#[test]
fn what_is_damaged_foreign_in_use_or_nowhere_is_refused() {
    let directory = directory();
    let at = directory.path();
    workspace(at);
    let name = conflict(at, "");
    let kept = at.join("data/changes").join(&name);
    for wrong in ["", "..", "../sessions", "/etc", "A", "a/b", "\u{1b}[2J", "absent"] {
        for action in ["diff", "apply", "discard"] {
            let output = changes(at, &[action, "--", wrong]);
            refused(&output, "set of changes");
            assert!(!stderr(&output).contains('\u{1b}'), "{}", stderr(&output));
        }
    }
    // Programs get nowhere near them.
    let output = command(at, &["run", "--workspace", "data/changes", "-c", "1"]).output().unwrap();
    refused(&output, "the store of changes");
    let lock = fs::File::options().write(true).create(true).truncate(false).open(kept.join("lock")).unwrap();
    lock.lock().unwrap();
    for action in ["diff", "apply", "discard"] {
        refused(&changes(at, &[action, &name]), "is in use by another process");
    }
    drop(lock);
    let about = fs::read_to_string(kept.join("changes.json")).unwrap();
    for text in ["", "{}", "junk", &about.replace("\"format\": 1", "\"format\": 2")] {
        fs::write(kept.join("changes.json"), text).unwrap();
        for action in ["diff", "apply"] {
            refused(&changes(at, &[action, &name]), "are damaged");
        }
        assert!(stdout(&changes(at, &["list"])).contains("damaged: "));
        assert!(listed(at)[0]["problem"].is_string());
    }
    fs::write(kept.join("changes.json"), &about).unwrap();
    // They are those of that directory.
    fs::rename(at.join("work"), at.join("gone")).unwrap();
    refused(&changes(at, &["apply", &name]), "is gone");
    fs::rename(at.join("gone"), at.join("work")).unwrap();
    fs::create_dir(at.join("other")).unwrap();
    let work = at.join("work").canonicalize().unwrap().display().to_string();
    let other = at.join("other").canonicalize().unwrap().display().to_string();
    fs::write(kept.join("changes.json"), about.replace(&work, &other)).unwrap();
    let output = changes(at, &["apply", &name]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!(fs::read_dir(at.join("other")).unwrap().count(), 0);
    fs::write(kept.join("changes.json"), &about).unwrap();
    fs::rename(kept.join("layers"), kept.join("aside")).unwrap();
    refused(&changes(at, &["diff", &name]), "their layers are gone");
    fs::rename(kept.join("aside"), kept.join("layers")).unwrap();
    fs::write(kept.join("layers/log.jsonl"), "junk\n").unwrap();
    let output = changes(at, &["apply", &name]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    // All of it can be dropped.
    assert_eq!(changes(at, &["discard", &name]).status.code(), Some(0));
    assert!(listed(at).is_empty() && !kept.exists());
}

#[cfg(unix)]
#[test]
fn what_others_could_have_written_is_not_applied() {
    use std::os::unix::fs::PermissionsExt;
    let directory = directory();
    let at = directory.path();
    workspace(at);
    let name = conflict(at, "");
    put_back(at);
    let kept = at.join("data/changes").join(&name);
    for place in [kept.clone(), kept.join("layers")] {
        let before = fs::metadata(&place).unwrap().permissions();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
        refused(&changes(at, &["apply", &name]), "are not to be trusted");
        refused(&changes(at, &["diff", &name]), "are not to be trusted");
        assert!(listed(at)[0]["problem"].as_str().unwrap().contains("written by others"));
        fs::set_permissions(&place, before).unwrap();
    }
    assert_eq!(changes(at, &["apply", &name]).status.code(), Some(0));
    assert_eq!(fs::read_to_string(at.join("work/notes.txt")).unwrap(), "one\ntwo\n");
}

/// Whenever the process ends, what it has not applied can still be applied by the same command, and nothing is applied
/// in part.
#[test]
fn a_killed_apply_loses_nothing_and_settles_nothing() {
    const FILES: usize = 60;
    let directory = directory();
    let at = directory.path();
    workspace(at);
    let made = || (0..FILES).filter(|number| at.join(format!("work/f{number}")).exists()).count();
    let (mut before, mut after) = (0, 0);
    for round in 0..12u64 {
        fs::write(at.join("work/notes.txt"), "one\n").unwrap();
        let code = format!("for n in range({FILES}): open(f'f{{n}}', 'w').write('x' * 5000)");
        let name = conflict(at, &code);
        let apply = ["changes", "apply", &name, "--ours", "."];
        let mut child = command(at, &apply).stderr(Stdio::null()).spawn().unwrap();
        // What is new is being made there, in the order of the names.
        let stage = at.join(".agentkernel-apply-work");
        while !stage.exists() && child.try_wait().unwrap().is_none() {
            std::hint::spin_loop();
        }
        std::thread::sleep(Duration::from_millis(4) * (round / 2) as u32);
        let _ = child.kill();
        child.wait().unwrap();
        // The next overlay over the directory finishes what was begun.
        let output = command(at, &["run", "--workspace", "work", "--overlay", "-c", "0"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        match made() {
            0 => before += 1,
            FILES => after += 1,
            some => panic!("round {round}: {some} of {FILES} files"),
        }
        let is_before = made() == 0;
        if is_before {
            refused(&changes(at, &["apply", &name]), "`notes.txt` was changed");
        }
        if !listed(at).is_empty() {
            let output = match is_before {
                true => command(at, &apply).output().unwrap(),
                false => changes(at, &["apply", &name]),
            };
            assert_eq!(output.status.code(), Some(0), "round {round}: {}", stderr(&output));
        }
        assert_eq!(made(), FILES, "round {round}");
        assert_eq!(fs::read_to_string(at.join("work/notes.txt")).unwrap(), "one\ntwo\n");
        assert!(listed(at).is_empty());
        (0..FILES).for_each(|number| fs::remove_file(at.join(format!("work/f{number}"))).unwrap());
    }
    println!("killed before it was decided: {before}, after: {after}");
    assert!(before > 0, "{after} of them were done before they were killed");
}
