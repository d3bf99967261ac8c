//! Files that programs keep open while the overlay is forked, dropped or applied.

use std::fs;

use agentkernel::Overlay;
use serde_json::json;

use super::{answer, over, start};

/// What makes the file that `log` has open no file of the overlay any more.
type Leave = (&'static str, fn(&Overlay, &mut agentkernel::Session));

const WAYS_TO_LEAVE: [Leave; 3] = [
    ("discarded", |overlay, _| overlay.discard().unwrap()),
    ("removed", |_, session| drop(answer(session, "os.unlink('log'); 0"))),
    ("replaced", |_, session| drop(answer(session, "write('other', 'x'); os.rename('other', 'log'); 0"))),
];

#[test]
fn a_file_that_is_kept_open_does_not_write_into_a_fork() {
    for (way, leave) in WAYS_TO_LEAVE {
        for lasting in [false, true] {
            let (directory, overlay, mut session) = over(&[]);
            answer(&mut session, "log = open('log', 'a'); log.write('one'); log.flush(); 0");
            let fork = match lasting {
                true => overlay.fork_into(directory.path().join("fork")).unwrap(),
                false => overlay.fork().unwrap(),
            };
            leave(&overlay, &mut session);
            // It has its content for itself, as a file without a name.
            let more = "log.write('two'); log.flush(); os.fstat(log.fileno()).st_size";
            assert_eq!(answer(&mut session, more), json!(6), "{way}");
            assert_eq!(answer(&mut start(&fork), "read('log')"), json!("one"), "{way}, lasting: {lasting}");
        }
    }
}

#[test]
fn a_file_that_is_kept_open_over_an_apply_is_changed_in_the_overlay() {
    for (name, begin) in [
        ("new", "log = open('log', 'a')"),
        ("changed", "log = open('old', 'a')"),
        ("below", "os.makedirs('d/e'); log = open('d/e/log', 'a')"),
        ("moved", "log = open('old', 'a'); os.mkdir('d'); os.rename('old', 'd/log')"),
        ("linked", "log = open('log', 'a'); os.link('log', 'other'); os.unlink('log')"),
        ("unchanged", "log = open('old', 'a'); write('new', 'x')"),
    ] {
        let (directory, overlay, mut session) = over(&[("old", "")]);
        let root = directory.path().join("root");
        let path = answer(
            &mut session,
            &format!(
                "{begin}; log.write('one'); log.flush()
number = os.fstat(log.fileno()).st_ino
[p for p in ('log', 'old', 'd/e/log', 'd/log', 'other') if os.path.exists(p) and os.stat(p).st_ino == number][0]"
            ),
        );
        let path = path.as_str().unwrap().to_owned();
        let reader = format!("reader = open({path:?}); reader.read(1); 0");
        answer(&mut session, &reader);
        for (round, text) in ["one", "onetwo", "onetwotwo"].into_iter().enumerate() {
            overlay.apply().unwrap();
            assert_eq!(fs::read_to_string(root.join(&path)).unwrap(), text, "{name}, round {round}");
            let look = format!(
                "log.write('two'); log.flush(); reader.seek(0)
[read({path:?}), reader.read(), os.fstat(log.fileno()).st_ino == os.stat({path:?}).st_ino]"
            );
            let more = format!("{text}two");
            assert_eq!(answer(&mut session, &look), json!([more, more, true]), "{name}, round {round}");
            assert_eq!(fs::read_to_string(root.join(&path)).unwrap(), text, "{name}, round {round}");
            assert_eq!(overlay.diff().unwrap().changes.len(), 1, "{name}, round {round}");
        }
    }
}

#[test]
fn a_file_that_is_kept_open_over_an_apply_can_lose_its_name() {
    for lose in ["os.unlink('log')", "write('other', 'x'); os.rename('other', 'log')"] {
        let (directory, overlay, mut session) = over(&[]);
        answer(&mut session, "log = open('log', 'a'); log.write('one'); log.flush(); 0");
        overlay.apply().unwrap();
        let code = format!("{lose}; log.write('two'); log.flush(); os.fstat(log.fileno()).st_size");
        assert_eq!(answer(&mut session, &code), json!(6), "{lose}");
        assert_eq!(fs::read_to_string(directory.path().join("root/log")).unwrap(), "one");
        let left = answer(&mut session, "os.path.exists('log') and read('log')");
        assert!(left == json!(false) || left == json!("x"), "{lose}: {left}");
    }
}

#[test]
fn a_file_that_somebody_else_replaced_after_an_apply_is_not_written() {
    let (directory, overlay, mut session) = over(&[]);
    answer(&mut session, "log = open('log', 'a'); log.write('one'); log.flush(); 0");
    overlay.apply().unwrap();
    let path = directory.path().join("root/log");
    fs::remove_file(&path).unwrap();
    let refused = "
def more():
    log.write('two'); log.flush()
error_of(more) is not None";
    assert_eq!(answer(&mut session, refused), json!(true));
    fs::create_dir(&path).unwrap();
    assert_eq!(answer(&mut session, "error_of(log.flush) is not None"), json!(true));
    assert!(overlay.diff().unwrap().changes.iter().all(|change| change.path != "log"));
}

#[test]
fn a_file_that_is_kept_open_over_a_discard_is_that_of_the_directory() {
    let (directory, overlay, mut session) = over(&[("log", "zero")]);
    answer(&mut session, "log = open('log', 'a'); log.write('one'); log.flush(); 0");
    overlay.discard().unwrap();
    assert_eq!(answer(&mut session, "log.write('two'); log.flush(); read('log')"), json!("zerotwo"));
    assert_eq!(fs::read_to_string(directory.path().join("root/log")).unwrap(), "zero");
    // One that the program had put in its place is gone.
    overlay.discard().unwrap();
    answer(
        &mut session,
        "log.close(); os.unlink('log'); log = open('log', 'a'); log.write('one'); log.flush(); 0",
    );
    overlay.discard().unwrap();
    assert_eq!(answer(&mut session, "log.write('two'); log.flush(); read('log')"), json!("zero"));
}
