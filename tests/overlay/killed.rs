//! Processes that are killed while they apply an overlay or change one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use agentkernel::Overlay;
use serde_json::json;

use super::{answer, contents, many, names, start};

const PLACE: &str = "AGENTKERNEL_TEST_OVERLAY";

/// Runs a test of this file that is none, in a process of its own, until it says that it begins.
fn begin(test: &str, place: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([&format!("killed::{test}"), "--exact", "--ignored", "--nocapture"])
        .env(PLACE, place)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let begun = output.lines().map_while(Result::ok).any(|line| line.contains("it begins"));
    assert!(begun, "the child does not begin");
    child
}

fn kill(mut child: Child) {
    // SIGKILL, which nothing can prepare for.
    child.kill().unwrap();
    child.wait().unwrap();
}

fn overlay_of(place: &Path) -> Overlay {
    Overlay::open(place.join("root"), place.join("layers")).unwrap()
}

fn place() -> PathBuf {
    std::env::var_os(PLACE).expect("a test of this file starts it").into()
}

/// A process that is started holds all locks of this one until its program begins.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
#[ignore = "started by the tests of this file"]
fn applies() {
    let overlay = overlay_of(&place());
    println!("it begins");
    overlay.apply().unwrap();
}

#[test]
fn a_killed_apply_is_finished_or_never_was() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let change = "
for number in range(0, 6):
    shutil.rmtree(f'd{number:04}')
for file in range(40):
    write(f'd0006/f{file:02}', 'changed')
os.rename('d0007', 'moved'); os.rename('d0008', 'd0007'); os.makedirs('new/deep')
for file in range(40):
    write(f'new/deep/{file}', 'new')
os.rename('d0009/f10', 'd0007/f10')
0";
    let (mut before_seen, mut after_seen) = (0, 0);
    let mut longest = Duration::from_millis(20);
    for round in 0..24u32 {
        for name in ["root", "layers"] {
            let _ = fs::remove_dir_all(place.join(name));
        }
        many(&place.join("root"), 1000);
        let overlay = overlay_of(place);
        answer(&mut start(&overlay), change);
        let before = contents(&place.join("root"));
        let told = overlay.diff().unwrap();
        drop(overlay);
        let child = begin("applies", place);
        if round == 0 {
            // How long it takes.
            let begun = Instant::now();
            let mut child = child;
            // (It may fail to say so.)
            child.wait().unwrap();
            longest = begun.elapsed();
            assert!(overlay_of(place).diff().unwrap().changes.is_empty());
            continue;
        }
        thread::sleep(longest * (round % 12) / 9);
        kill(child);
        let overlay = overlay_of(place);
        let after = contents(&place.join("root"));
        if after == before {
            before_seen += 1;
            assert_eq!(overlay.diff().unwrap(), told);
            overlay.apply().unwrap();
        } else {
            after_seen += 1;
            assert!(overlay.diff().unwrap().changes.is_empty());
        }
        let root = place.join("root");
        assert_eq!(names(&root).unwrap(), ["d0006", "d0007", "d0009", "moved", "new"]);
        assert_eq!(fs::read_dir(root.join("new/deep")).unwrap().count(), 40);
        assert_eq!(names(&root.join("d0009")).unwrap().len(), 99);
        assert_eq!(fs::read(root.join("d0006/f39")).unwrap(), b"changed");
        assert_eq!(names(place).unwrap(), ["layers", "root"]);
    }
    println!("killed before it was decided: {before_seen}, after: {after_seen}");
    assert!(before_seen > 0 && after_seen > 0, "{before_seen} and {after_seen}");
}

#[test]
#[ignore = "started by the tests of this file"]
fn changes() {
    let overlay = overlay_of(&place());
    let mut session = start(&overlay);
    println!("it begins");
    for number in 0..100_000i64 {
        let checkpoint = overlay.checkpoint();
        let code = format!(
            "
write('one', '{number}'); os.makedirs('d/{number}'); write('d/{number}/f', '{number}')
if {number} > 2: shutil.rmtree('d/{}')
write('two', '{number}'); 0",
            number - 2
        );
        answer(&mut session, &code);
        checkpoint.commit_as(number.unsigned_abs()).unwrap();
    }
}

#[test]
fn a_killed_turn_is_kept_or_dropped_as_a_whole() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    fs::create_dir(place.join("root")).unwrap();
    fs::write(place.join("root/one"), "none").unwrap();
    let mut numbers = Vec::new();
    let mut label = None;
    for round in 0..25u64 {
        let child = begin("changes", place);
        thread::sleep(Duration::from_millis(3 + 7 * (round % 10)));
        kill(child);
        let overlay = overlay_of(place);
        let look = "
one = read('one')
same = one == 'none' or [read('two'), read(f'd/{one}/f')] == [one, one]
same and [one, len(os.listdir('d')) if one != 'none' else 0]";
        let told = answer(&mut start(&overlay), look);
        assert_ne!(told, json!(false));
        let number = told[0].as_str().unwrap().to_owned();
        assert!(told[1].as_u64().unwrap() <= 3, "{told}");
        // The label is that of the last turn that is there; dropping the changes leaves it.
        label = number.parse().ok().or(label);
        assert_eq!(overlay.label(), label);
        numbers.push(number);
        overlay.discard().unwrap();
        assert_eq!(overlay.label(), label);
        assert_eq!(overlay.held_bytes(), 0);
    }
    println!("{numbers:?}");
    assert!(numbers.iter().any(|number| number != "none"), "{numbers:?}");
    assert_eq!(fs::read_to_string(place.join("root/one")).unwrap(), "none");
}
