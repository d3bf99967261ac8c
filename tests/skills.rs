//! Skills: saved, imported later, kept when they are replaced, and what hostile programs make of them.

use std::fs;
use std::path::Path;

use agentkernel::{ErrorKind, Outcome, Recording, Replaying, Session, Skills};
use agentkernel_tests::{kernel, limits, raised, repr, run as run_without, value};

const IMPORT: &str = "from agentkernel import skills, SkillError\n";

fn session(skills: &Skills) -> Session {
    kernel().session().skills(skills.clone()).limits(limits()).start().unwrap()
}

fn run(skills: &Skills, code: &str) -> Outcome {
    session(skills).run_blocking(format!("{IMPORT}{code}")).unwrap()
}

fn seen(skills: &Skills, code: &str) -> String {
    repr(&mut session(skills), &format!("{IMPORT}{code}"))
}

fn writable(directory: &Path) -> Skills {
    Skills::open_writable(directory).unwrap()
}

fn files(directory: &Path) -> Vec<String> {
    let mut files: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    files
}

#[test]
fn a_skill_is_saved_found_and_imported_later() {
    let directory = tempfile::tempdir().unwrap();
    let skills = writable(directory.path());
    let save = "
skills.save('dates', '''import re

def parse(text):
    \"\"\"Day, month, year.\"\"\"
    return tuple(map(int, re.split('[.]', text)))
''', 'Parses dates as Germans write them')
skills.save('greeting', 'def greet(): return \"hello\"', 'Says hello')";
    assert!(run(&skills, save).ending.is_kept());
    let text = fs::read_to_string(directory.path().join("dates.py")).unwrap();
    assert!(
        text.starts_with("# skill: Parses dates as Germans write them\n# version: 1\n\nimport re\n"),
        "{text}"
    );
    // Another process, which may only read.
    let skills = Skills::open(directory.path()).unwrap();
    assert_eq!(seen(&skills, "from skills import dates\ndates.parse('31.1.2026')"), "(31, 1, 2026)");
    assert_eq!(seen(&skills, "from skills.dates import parse\nparse.__module__"), "'skills.dates'");
    assert_eq!(
        seen(&skills, "skills.list()"),
        "[dates (version 1): Parses dates as Germans write them, greeting (version 1): Says hello]"
    );
    assert_eq!(seen(&skills, "[s.name for s in skills.search('german date')]"), "['dates']");
    assert_eq!(seen(&skills, "[s.name for s in skills.search('HELLO')]"), "['greeting']");
    assert_eq!(seen(&skills, "skills.search('zebra')"), "[]");
    assert!(seen(&skills, "skills.show('dates')").starts_with("'import re\\n\\ndef parse"));
    assert_eq!(seen(&skills, "import skills as s\ndir(s)"), "['dates', 'greeting']");
    assert_eq!(seen(&skills, "skills"), "<agentkernel.skills: dates, greeting>");
    let outcome = run(&skills, "from skills import absent");
    let (kind, message) = raised(&outcome);
    assert!(kind == "ImportError" && message.contains("there is no skill `absent`"), "{kind}: {message}");
    // An exception shows the skill's own lines.
    let outcome = run(&skills, "from skills import dates\ndates.parse('x')");
    let agentkernel::Ending::Raised(exception) = &outcome.ending else { panic!("{:?}", outcome.ending) };
    let frame = exception.frames.last().unwrap();
    assert_eq!((frame.file.as_str(), frame.line, frame.function.as_str()), ("skills/dates.py", 5, "parse"));
    assert!(frame.source.as_ref().unwrap().contains("re.split"));
}

#[test]
fn what_is_replaced_and_deleted_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let skills = writable(directory.path());
    let code = "
import skills as kept
versions = []
for n in (1, 2, 2, 3):
    versions.append(skills.save('x', f'value = {n}', 'A value').version)
    from skills import x
    assert x.value == n, (x.value, n)
versions";
    assert_eq!(seen(&skills, code), "[1, 2, 2, 3]");
    let history = directory.path().join(".history/x");
    assert_eq!(files(&history), ["1.py", "2.py"]);
    assert!(fs::read_to_string(history.join("2.py")).unwrap().ends_with("value = 2\n"));
    assert_eq!(seen(&skills, "skills.delete('x'); skills.list()"), "[]");
    assert_eq!(files(&history), ["1.py", "2.py", "3.py"]);
    assert_eq!(raised(&run(&skills, "skills.delete('x')")).0, "agentkernel.SkillError");
    assert_eq!(seen(&skills, "skills.save('x', 'value = 4', 'A value').version"), "4");
    // The oldest go.
    seen(&skills, "for n in range(20): skills.save('x', f'value = -{n}', 'A value')\n1");
    assert_eq!(files(&history).len(), 10);
    assert_eq!(skills.get("x").unwrap().0.version, 24);
    assert_eq!(files(directory.path()), [".history", ".lock", "x.py"]);
}

#[test]
fn people_write_skills_too() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("own.py"), "\"\"\"Counts things.\"\"\"\n\ndef count(x): return len(x)\n")
        .unwrap();
    fs::write(directory.path().join("not-a-name.py"), "x = 1").unwrap();
    fs::write(directory.path().join("list.py"), "x = 1").unwrap();
    fs::write(directory.path().join("README.md"), "x").unwrap();
    fs::write(directory.path().join("bad.py"), b"\xff").unwrap();
    fs::create_dir(directory.path().join("folder.py")).unwrap();
    let skills = writable(directory.path());
    assert_eq!(seen(&skills, "skills.list()"), "[own (version 1): Counts things.]");
    assert_eq!(seen(&skills, "from skills import own\nown.count('abc')"), "3");
    assert_eq!(seen(&skills, "skills.save('own', 'def count(x): return 0', 'Counts').version"), "2");
    assert!(
        fs::read_to_string(directory.path().join(".history/own/1.py")).unwrap().contains("Counts things.")
    );
    assert_eq!(raised(&run(&skills, "skills.show('bad')")).0, "agentkernel.SkillError");
}

#[test]
fn nothing_is_saved_without_the_grant() {
    let directory = tempfile::tempdir().unwrap();
    writable(directory.path()).save("x", "value = 1", "A value").unwrap();
    let skills = Skills::open(directory.path()).unwrap();
    for code in ["skills.save('y', 'value = 2', 'Another')", "skills.delete('x')"] {
        let outcome = run(&skills, code);
        let (kind, message) = raised(&outcome);
        assert_eq!(kind, "PermissionError", "{code}");
        assert!(message.contains("`--skills-write DIR`") && message.contains("write = true"), "{message}");
    }
    assert_eq!(skills.save("y", "value = 2", "Another").unwrap_err().kind(), ErrorKind::Grant);
    // Nor does the program find another way to the directory.
    let outcome = run(&skills, "import os\nopen('/skills/x.py', 'w')");
    assert_ne!(raised(&outcome).0, "");
    let outcome = run_without(&format!("{IMPORT}skills.list()"));
    let (kind, message) = raised(&outcome);
    assert_eq!(kind, "PermissionError");
    assert!(message.contains("`--skills DIR`") && message.contains("[skills]"), "{message}");
    assert_eq!(raised(&run_without("from skills import x")).0, "ModuleNotFoundError");
    let outer = directory.path().parent().unwrap().join(directory.path().file_name().unwrap());
    let error = kernel().session().skills(skills.clone()).workspace(outer).start().err().unwrap();
    assert!(error.to_string().contains("may write to"), "{error}");
}

#[test]
fn names_lead_nowhere() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("skills");
    fs::create_dir(&directory).unwrap();
    fs::write(parent.path().join("outside.py"), "secret = 1").unwrap();
    let skills = writable(&directory);
    let code = "
names = ['../outside', '..', '.', '', '/etc/x', 'a/b', 'a.b', '.history', '__init__', '_x', 'class', 'list', 'print', 'a\\0', 'ä',
    'CON', 'skills', 'x' * 65, '../../x', 'x\\n', 'json', '.lock']
tried = 0
for name in names:
    for act in (lambda: skills.save(name, 'x = 1', 'd'), lambda: skills.delete(name), lambda: skills.show(name)):
        try:
            act()
        except (SkillError, ValueError):
            tried += 1
tried == 3 * len(names)";
    assert_eq!(seen(&skills, code), "True");
    // The same past the module.
    let code = "
from agentkernel import _calls
import json
found = []
for name in names:
    for function, head in ((3, json.dumps({'name': name, 'description': 'd'}).encode()), (4, name.encode()), (2, name.encode())):
        try:
            _calls.call(0xFF000600 + function, head, b'x = 1')
            found.append(name)
        except _calls.Failure as error:
            pass
found";
    let names = "names = ['../outside', '..', '', '/etc/x', 'a/b', '.history', '__init__', 'class', 'x\\n', 'a\\\\b', '.x.py.new']";
    assert_eq!(seen(&skills, &format!("{names}{code}")), "[]");
    assert_eq!(files(parent.path()), ["outside.py", "skills"]);
    for import in ["skills.list", "skills._x", "skills.outside"] {
        let outcome = run(&skills, &format!("import {import}"));
        assert!(["ImportError", "ModuleNotFoundError"].contains(&raised(&outcome).0), "{import}");
    }
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    use std::os::unix::fs::symlink;
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("skills");
    fs::create_dir(&directory).unwrap();
    fs::write(parent.path().join("outside.py"), "secret = 1\n").unwrap();
    symlink("../outside.py", directory.join("leak.py")).unwrap();
    symlink("..", directory.join(".history")).unwrap();
    let skills = writable(&directory);
    assert_eq!(seen(&skills, "skills.list()"), "[]");
    assert_eq!(raised(&run(&skills, "skills.show('leak')")).0, "agentkernel.SkillError");
    assert_eq!(raised(&run(&skills, "from skills import leak")).0, "ImportError");
    run(&skills, "skills.save('leak', 'x = 1', 'd')");
    run(&skills, "skills.save('fresh', 'x = 1', 'd')");
    run(&skills, "skills.save('fresh', 'x = 2', 'd')");
    assert_eq!(fs::read_to_string(parent.path().join("outside.py")).unwrap(), "secret = 1\n");
    assert_eq!(files(parent.path()), ["outside.py", "skills"]);
}

#[test]
fn what_is_no_skill_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let skills = writable(directory.path());
    for (code, kind) in [
        ("skills.save('x', 'def f(:', 'd')", "SyntaxError"),
        ("skills.save('x', '', 'd')", "agentkernel.SkillError"),
        ("skills.save('x', 'x = 1', '')", "agentkernel.SkillError"),
        ("skills.save('x', 'x = 1', 'a\\nb')", "agentkernel.SkillError"),
        ("skills.save('x', 'x = 1', '\\x1b[2J')", "agentkernel.SkillError"),
        ("skills.save('x', 'x = 1', '\\u202e')", "agentkernel.SkillError"),
        ("skills.save('x', 'x = 1', 'd' * 301)", "agentkernel.SkillError"),
        ("skills.save('x', '#' * (257 << 10), 'd')", "agentkernel.SkillError"),
        ("skills.save('x', b'x = 1', 'd')", "TypeError"),
    ] {
        assert_eq!(raised(&run(&skills, code)).0, kind, "{code}");
    }
    assert_eq!(files(directory.path()), Vec::<String>::new());
    run(&skills, "skills.save('Xy', 'x = 1', 'd')");
    assert_eq!(raised(&run(&skills, "skills.save('xy', 'x = 1', 'd')")).0, "agentkernel.SkillError");
}

#[test]
fn floods_are_limited() {
    let directory = tempfile::tempdir().unwrap();
    let skills = writable(directory.path());
    for number in 0..499 {
        fs::write(directory.path().join(format!("s{number}.py")), "x = 1").unwrap();
    }
    let code = "
saved = 0
try:
    for n in range(1000):
        skills.save(f'flood{n}', 'x = 1', 'd')
        saved += 1
except SkillError as error:
    message = str(error)
(saved, '500 skills' in message)";
    assert_eq!(seen(&skills, code), "(1, True)");
    assert_eq!(seen(&skills, "skills.save('flood0', 'x = 2', 'd').version"), "2");
}

#[test]
fn two_processes_save_whole_files() {
    let directory = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let skills = writable(directory.path());
            scope.spawn(move || {
                for number in 0..25 {
                    let code = format!("value = '{}'\n", format!("{writer}-{number} ").repeat(500));
                    skills.save("shared", &code, "d").unwrap();
                    let (_, code) = skills.get("shared").unwrap();
                    assert!(code.starts_with("value = '") && code.ends_with("'\n") && code.len() > 2000);
                }
            });
        }
    });
    let (skill, _) = writable(directory.path()).get("shared").unwrap();
    assert_eq!(skill.version, 100);
}

#[test]
fn a_replay_has_the_skills_of_its_recording() {
    let directory = tempfile::tempdir().unwrap();
    let cassette = tempfile::tempdir().unwrap();
    let path = cassette.path().join("run.jsonl");
    let skills = writable(directory.path());
    skills.save("x", "value = 1", "d").unwrap();
    let code = format!("{IMPORT}from skills import x\nskills.save('y', 'value = 2', 'd')\nx.value");
    let recording = Recording::create(&path).unwrap();
    let session = kernel().session().skills(skills.clone());
    let outcome = session.record(&recording).start().unwrap().run_blocking(code.as_str()).unwrap();
    assert_eq!(value(&outcome).repr, "1");
    recording.finish().unwrap();
    skills.save("x", "value = 5", "d").unwrap();
    skills.delete("y").unwrap();
    let replaying = Replaying::open(&path).unwrap();
    let session = kernel().session().skills(skills.clone());
    let outcome = session.replay(&replaying).start().unwrap().run_blocking(code.as_str()).unwrap();
    assert_eq!(value(&outcome).repr, "1");
    replaying.finish().unwrap();
    assert!(skills.get("y").is_err(), "a replay keeps nothing");
}
