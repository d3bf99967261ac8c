//! Processes that are killed at any moment of a turn.

use super::*;

const ROUNDS: u64 = 36;

/// Kills turns at random moments, of the whole process and of what comes after the program; gives how many were
/// kept and how many were not.
fn kill_turns(flags: &[&str], files: impl Fn(i64, i64) -> bool) -> (usize, usize) {
    let directory = directory();
    let at = directory.path();
    said(at, &[&["new", "s"][..], flags].concat());
    turn(at, "s", "n = 0\nopen('n', 'w').write('0')\ndef more():\n    while True: yield n\nit = more()");
    let began = Instant::now();
    turn(at, "s", "pass");
    let whole = began.elapsed();
    let (mut before, mut kept) = (0, 0);
    for round in 0..ROUNDS {
        let number = 3 + 2 * round;
        let mut child = command(at, &["run", "s", "-c", "n += 1\nwith open('n', 'w') as f: f.write(str(n))"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let dice = (round * 7919 + u64::from(std::process::id())) % 97;
        let journal = in_session(at, "s", "journal.jsonl");
        let length = fs::metadata(&journal).unwrap().len();
        let begun = |round: u64| match round % 3 {
            0 => true,
            1 => fs::metadata(&journal).is_ok_and(|found| found.len() > length),
            _ => in_session(at, "s", &format!("turn-{number}.akimg")).exists(),
        };
        while !begun(round) && child.try_wait().unwrap().is_none() {
            std::hint::spin_loop();
        }
        std::thread::sleep(match round % 3 {
            0 => whole.mul_f64(dice as f64 / 97.0),
            _ => Duration::from_micros(dice * dice),
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let shown = turn(at, "s", "assert next(it) == n\nprint(n, open('n').read())");
        let (memory, file) =
            shown.trim_end_matches('\n').split_once(' ').unwrap_or_else(|| panic!("{shown}"));
        let (memory, file): (i64, i64) = (memory.parse().unwrap(), file.parse().unwrap_or(-1));
        assert!(files(memory, file), "memory {memory}, files {file}");
        let log = log(at, "s");
        let told = log.iter().filter(|entry| entry["code"].as_str().unwrap().starts_with("n += 1")).count();
        assert_eq!(told as i64, memory, "the journal has {told}");
        // Numbers have no gaps.
        let numbers: Vec<_> = log.iter().map(|entry| entry["turn"].as_u64().unwrap()).collect();
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
        match memory as usize > kept {
            true => kept = memory as usize,
            false => {
                before += 1;
                // So that the next one has the same number.
                turn(at, "s", "pass");
                continue;
            }
        }
    }
    let problem = json(at, &["show", "s", "--json"])["problem"].clone();
    assert_eq!(problem, Value::Null);
    let names: Vec<_> =
        fs::read_dir(in_session(at, "s", "")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names.iter().filter(|name| name.to_string_lossy().contains("akimg")).count(), 1, "{names:?}");
    (kept, before)
}

#[test]
fn memory_files_and_journal_agree_with_an_overlay() {
    let (kept, before) = kill_turns(&["--overlay"], |memory, file| memory == file);
    println!("kept {kept}, not kept {before}");
    assert!(kept > 0 && before > 0, "kept {kept}, not kept {before}");
}

#[test]
fn memory_and_journal_agree_without_one() {
    // A plain directory has what was written; the file may have been emptied last.
    let (kept, before) = kill_turns(&[], |memory, file| file == -1 || file == memory || file >= memory);
    println!("kept {kept}, not kept {before}");
    assert!(kept > 0 && before > 0, "kept {kept}, not kept {before}");
}
