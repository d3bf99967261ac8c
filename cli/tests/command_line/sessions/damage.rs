//! Files of sessions that are not as they were written.

use super::*;

fn begin(at: &Path, name: &str, flags: &[&str]) {
    said(at, &[&["new", name][..], flags].concat());
    turn(at, name, "x = 1");
    turn(at, name, "x += 1\nopen('f', 'w').write(str(x))");
}

#[test]
fn a_damaged_session_is_told_of_and_the_rest_is_usable() {
    let directory = directory();
    let at = directory.path();
    begin(at, "sound", &[]);
    for (number, (file, content)) in [
        ("head.json", Some("{\"turn\": 9, \"image\": null}")),
        ("head.json", Some("{\"turn\": 2, \"image\": \"../../x.akimg\"}")),
        ("head.json", Some("\0\0\0\0")),
        ("head.json", None),
        ("journal.jsonl", Some("{}\n")),
        ("journal.jsonl", None),
        ("session.json", Some("{\"format\": 99}")),
        ("session.json", Some("")),
        ("session.json", None),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("d{number}");
        let what = format!("{file} {content:?}");
        begin(at, &name, &[]);
        let path = in_session(at, &name, file);
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        let list = said(at, &["list"]);
        let row = list.lines().find(|line| line.starts_with(&name)).unwrap();
        assert!(row.contains("damaged: "), "{what}: {row}");
        let shown = session(at, &["show", &name]);
        assert!(shown.status.code() == Some(1) && stdout(&shown).contains("cannot be used: "), "{what}");
        refused(&session(at, &["run", &name, "-c", "1"]), "is damaged: ");
        assert_eq!(turn(at, "sound", "print(x)"), "2\n");
        if file == "head.json" {
            assert_eq!(session(at, &["replay", &name]).status.code(), Some(0), "{what}");
            assert_eq!(turn(at, &name, "print(x, open('f').read())"), "2 2\n", "{what}");
        } else if file == "journal.jsonl" {
            said(at, &["reset", &name]);
            assert_eq!(turn(at, &name, "print('x' in globals(), open('f').read())"), "False 2\n", "{what}");
            assert_eq!(in_session(at, &name, "journal.damaged").exists(), content.is_some());
        }
        said(at, &["rm", &name]);
    }
    assert_eq!(json(at, &["list", "--json"]).as_array().unwrap().len(), 1);
}

#[test]
fn an_image_that_does_not_fit_is_made_anew_from_the_journal() {
    let directory = directory();
    let at = directory.path();
    for flags in [&[][..], &["--overlay"]] {
        begin(at, "s", flags);
        let image = in_session(at, "s", "turn-2.akimg");
        let whole = fs::read(&image).unwrap();
        let mut other = whole.clone();
        other[whole.len() / 2] ^= 1;
        for damaged in [Some(&whole[..whole.len() / 2]), Some(&other), Some(b""), None] {
            match damaged {
                Some(damaged) => fs::write(&image, damaged).unwrap(),
                None => fs::remove_file(&image).unwrap(),
            }
            let output = session(at, &["run", "s", "-c", "1"]);
            refused(&output, "the state of the session `s` cannot be taken up: ");
            assert!(stderr(&output).contains("`agentkernel session replay s`"), "{}", stderr(&output));
        }
        assert_eq!(session(at, &["replay", "s"]).status.code(), Some(0));
        assert_eq!(turn(at, "s", "print(x, open('f').read())"), "2 2\n");
        // No turns lead to a state that was restored.
        let snapshot = said(at, &["snapshot", "s"]);
        said(at, &["restore", "s", snapshot.trim_end()]);
        let image = json(at, &["show", "s", "--json"])["last"]["image"].as_str().unwrap().to_owned();
        fs::write(in_session(at, "s", &image), b"").unwrap();
        let output = session(at, &["run", "s", "-c", "1"]);
        refused(&output, "cannot be taken up: ");
        let hint = stderr(&output);
        assert!(hint.contains("session restore s FILE") && hint.contains("session reset"), "{hint}");
        assert!(!hint.contains("session replay"), "{hint}");
        said(at, &["restore", "s", snapshot.trim_end()]);
        assert_eq!(turn(at, "s", "print(x)"), "2\n");
        said(at, &["rm", "s"]);
    }
}

#[test]
fn lost_layers_do_not_take_the_rest_with_them() {
    let directory = directory();
    let at = directory.path();
    begin(at, "s", &["--overlay"]);
    let journal = fs::read(in_session(at, "s", "journal.jsonl")).unwrap();
    fs::write(in_session(at, "s", "layers/log.jsonl"), "junk\n").unwrap();
    refused(&session(at, &["run", "s", "-c", "1"]), "are damaged");
    fs::remove_dir_all(in_session(at, "s", "layers")).unwrap();
    refused(&session(at, &["run", "s", "-c", "1"]), "its layers are those of turn 0");
    assert!(stdout(&session(at, &["show", "s"])).contains("cannot be used: "));
    assert_eq!(fs::read(in_session(at, "s", "journal.jsonl")).unwrap(), journal);
    assert_eq!(session(at, &["replay", "s"]).status.code(), Some(0));
    let code = "import os; print(x, os.listdir())";
    assert_eq!(turn(at, "s", code), "2 []\n");
}

#[test]
fn damaged_layers_are_no_end() {
    let directory = directory();
    let at = directory.path();
    for (way, code, expected) in [
        (&["reset", "s"][..], "print('x' in globals(), os.listdir())", "False []\n"),
        (&["reset", "s", "--files"], "print('x' in globals(), os.listdir())", "False []\n"),
        (&["restore", "s", "kept.akimg"], "print(x, os.listdir())", "2 []\n"),
        (&["replay", "s"], "print(x, os.listdir())", "2 []\n"),
    ] {
        begin(at, "s", &["--overlay"]);
        said(at, &["snapshot", "s", "kept.akimg"]);
        let log = in_session(at, "s", "layers/log.jsonl");
        let whole = fs::read_to_string(&log).unwrap();
        for damage in ["junk\n".to_owned(), whole.replacen("Put", "Pat", 1), whole.replacen("{", "", 1)] {
            fs::write(&log, damage).unwrap();
            let output = session(at, &["run", "s", "-c", "1"]);
            refused(&output, "are damaged");
            assert!(stderr(&output).contains("`agentkernel session reset s`"), "{}", stderr(&output));
            refused(&session(at, &["diff", "s"]), "are damaged");
        }
        let output = session(at, way);
        assert_eq!(output.status.code(), Some(0), "{way:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("layers.damaged"), "{way:?}: {}", stderr(&output));
        assert!(in_session(at, "s", "layers.damaged/files").is_dir());
        assert_eq!(turn(at, "s", &format!("import os; {code}")), expected, "{way:?}");
        assert_eq!(turn(at, "s", "open('f', 'w').write('1'); print(os.listdir())"), "['f']\n", "{way:?}");
        // Once more.
        fs::write(&log, "junk\n").unwrap();
        said(at, &["reset", "s"]);
        assert!(
            ["layers.damaged/files", "layers.damaged.2/files"]
                .iter()
                .all(|kept| in_session(at, "s", kept).is_dir())
        );
        said(at, &["rm", "s"]);
    }
}

#[test]
fn with_an_overlay_the_commit_decides() {
    let directory = directory();
    let at = directory.path();
    begin(at, "s", &["--overlay"]);
    // The head is brought in line, and lines that were not committed are cut off.
    fs::write(in_session(at, "s", "head.json"), "{}").unwrap();
    let journal = in_session(at, "s", "journal.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    let last = text.lines().last().unwrap().replace("\"turn\":2", "\"turn\":3");
    for more in [format!("{last}\n"), last[..last.len() / 2].to_owned(), "\0\0\0\n".to_owned()] {
        fs::write(&journal, format!("{text}{more}")).unwrap();
        fs::write(in_session(at, "s", "turn-3.akimg"), "half").unwrap();
        assert_eq!(log(at, "s").len(), 2);
        assert_eq!(fs::read_to_string(&journal).unwrap(), text);
        assert!(!in_session(at, "s", "turn-3.akimg").exists());
    }
    assert_eq!(turn(at, "s", "print(x, open('f').read())"), "2 2\n");
}
