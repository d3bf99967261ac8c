//! Changes that could not be applied are kept, whatever else fails, and however the process ends.

use super::agent::{command as agent, script};
use super::changes::{changes, command, conflict, listed, not_applied, refused, workspace};
use super::*;

const MOUNTS: [&str; 6] = ["--workspace", "work", "--mount", "work:/d:rw", "--overlay", "--apply"];

/// The name in a message.
fn name(said: &str) -> String {
    let rest = said.split("`agentkernel changes apply ").nth(1).unwrap_or_else(|| panic!("{said}"));
    rest.split('`').next().unwrap().to_owned()
}

/// Puts back the directory that was removed, and takes over what is kept.
fn put_back_and_apply(at: &Path, said: &str) {
    let kept = listed(at);
    assert!(kept.len() == 1 && kept[0]["changes"] == 3, "{kept:?}: {said}");
    let output = changes(at, &["diff", &name(said)]);
    assert!(stdout(&output).contains("added    sub/x"), "{}{}", stdout(&output), stderr(&output));
    assert!(stderr(&output).contains("conflict: `sub` was removed"), "{}", stderr(&output));
    assert!(!at.join("work/new").exists());
    fs::create_dir(at.join("work/sub")).unwrap();
    let output = changes(at, &["apply", &name(said)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(at.join("work/sub/x").exists() && at.join("work/new").exists());
}

#[test]
fn a_directory_that_is_removed_meanwhile_takes_nothing_with_it() {
    let directory = directory();
    let at = directory.path();
    workspace(at);
    fs::create_dir(at.join("work/sub")).unwrap();
    let code = "import os\nopen('sub/x', 'w').write('x')\nopen('new', 'w').write('new')\nos.rmdir('/d/sub')";
    let output = command(at, &[&["run"][..], &MOUNTS, &["-c", code]].concat()).output().unwrap();
    not_applied(&output, "`sub` was removed");
    put_back_and_apply(at, &stderr(&output));
    // As much where it is an agent, for one task or in a conversation.
    for is_alone in [true, false] {
        let directory = script();
        let at = directory.path();
        fs::create_dir(at.join("work/sub")).unwrap();
        let mut asked = agent(at);
        asked.env("AGENTKERNEL_DATA_DIR", at.join("data")).args(&MOUNTS[..4]);
        let output = match is_alone {
            true => asked.arg("Gone").output().unwrap(),
            false => {
                let child = asked.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                let mut child = child.spawn().unwrap();
                child.stdin.take().unwrap().write_all(b"Gone\n").unwrap();
                child.wait_with_output().unwrap()
            }
        };
        assert_eq!(
            (stdout(&output).as_str(), output.status.code()),
            ("written\n", Some(1)),
            "{}",
            stderr(&output)
        );
        put_back_and_apply(at, &stderr(&output));
    }
}

/// What differs is not known then: not even how much.
#[cfg(target_os = "linux")]
#[test]
fn changes_that_cannot_be_compared_are_kept() {
    use std::os::unix::{ffi::OsStrExt, fs::symlink};
    let directory = directory();
    let at = directory.path();
    workspace(at);
    symlink("notes.txt", at.join("work/link")).unwrap();
    let code = "
import os, time
os.remove('link')
os.symlink('new', 'link')
open('new', 'w').write('new')
open('/d/up', 'w').close()
while not os.path.exists('/d/go'): time.sleep(0.01)
os.remove('/d/up')
";
    let mut run = command(at, &[&["run"][..], &MOUNTS, &["-c", code]].concat());
    let child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    signals::wait_for(&at.join("work/up"));
    fs::remove_file(at.join("work/link")).unwrap();
    symlink(std::ffi::OsStr::from_bytes(b"\xff"), at.join("work/link")).unwrap();
    fs::write(at.join("work/go"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    not_applied(&output, "cannot compare the overlay with its directory");
    let kept = listed(at);
    assert!(kept.len() == 1 && kept[0]["changes"].is_null(), "{kept:?}: {}", stderr(&output));
    assert!(stdout(&changes(at, &["list"])).contains("? changes"));
    fs::remove_file(at.join("work/link")).unwrap();
    symlink("notes.txt", at.join("work/link")).unwrap();
    let output = changes(at, &["apply", &name(&stderr(&output)), "--ours", "."]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(fs::read_link(at.join("work/link")).unwrap(), Path::new("new"));
}

#[cfg(unix)]
#[test]
fn a_conversation_that_is_ended_keeps_what_was_to_be_applied() {
    for (signal, code) in [("TERM", 143), ("HUP", 129), ("KILL", -1)] {
        let directory = script();
        let at = directory.path();
        let mut asked = agent(at);
        asked.env("AGENTKERNEL_DATA_DIR", at.join("data")).args(&MOUNTS[..4]);
        asked.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = asked.spawn().unwrap();
        // Of two, the second replaces the first, and has the changes of both.
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"Conflict\n/run open('more', 'w').write('more')\n").unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !listed(at).iter().any(|kept| kept["changes"] == 2) || listed(at).len() != 1 {
            assert!(Instant::now() < deadline, "nothing is kept: {:?}", listed(at));
            std::thread::sleep(Duration::from_millis(20));
        }
        signals::kill(&child, signal);
        let output = child.wait_with_output().unwrap();
        drop(input);
        let kept = listed(at);
        assert!(kept.len() == 1 && kept[0]["changes"] == 2, "{signal}: {kept:?}");
        if code > 0 {
            assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
            assert_eq!(kept[0]["name"], name(&stderr(&output)));
        }
        let output = changes(at, &["apply", kept[0]["name"].as_str().unwrap(), "--ours", "."]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(fs::read_to_string(at.join("work/notes.txt")).unwrap(), "one\ntwo");
        assert_eq!(fs::read_to_string(at.join("work/more")).unwrap(), "more");
    }
}

#[test]
fn what_cannot_be_kept_in_its_place_is_left_in_another() {
    let directory = directory();
    let at = directory.path();
    workspace(at);
    fs::create_dir_all(at.join("data")).unwrap();
    fs::create_dir(at.join("tmp")).unwrap();
    fs::write(at.join("data/changes"), "in the way").unwrap();
    let code = "open('notes.txt', 'a').write('two\\n')\nopen('/d/notes.txt', 'a').write('theirs')";
    let mut run = command(at, &[&["run"][..], &MOUNTS, &["-c", code]].concat());
    let output = run.env("TMPDIR", at.join("tmp")).output().unwrap();
    not_applied(&output, "`notes.txt` was changed");
    let said = stderr(&output);
    let left =
        said.split("the changes are in `").nth(1).unwrap_or_else(|| panic!("{said}")).split('`').next();
    let left = PathBuf::from(left.unwrap());
    assert!(left.starts_with(at.join("tmp")) && said.contains("data/changes`"), "{said}");
    // As it is said.
    fs::remove_file(at.join("data/changes")).unwrap();
    assert!(listed(at).is_empty());
    let name = left.file_name().unwrap().to_str().unwrap();
    fs::rename(&left, at.join("data/changes").join(name)).unwrap();
    let output = changes(at, &["apply", name, "--ours", "."]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(at.join("work/notes.txt")).unwrap(), "one\ntwo\n");
}

#[test]
fn a_content_that_is_lost_is_told() {
    let directory = directory();
    let at = directory.path();
    workspace(at);
    let name = conflict(at, "");
    let contents = at.join("data/changes").join(&name).join("layers/files");
    let all: Vec<_> = fs::read_dir(&contents).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(all.len(), 1);
    fs::remove_file(&all[0]).unwrap();
    // However often it is looked at.
    for action in [&["diff"][..], &["apply", "--ours", "."], &["apply", "--ours", "."]] {
        let output = changes(at, &[&action[..1], &[&name], &action[1..]].concat());
        refused(&output, "are damaged");
        assert!(stderr(&output).contains("is gone"), "{}", stderr(&output));
    }
    assert_eq!(fs::read_to_string(at.join("work/notes.txt")).unwrap(), "one\ntheirs");
}
