//! Output and input of the program, passed on.

use super::*;

#[test]
fn output_comes_as_it_is_written() {
    let code = "import time\nprint('first', flush=False)\ntime.sleep(0.2)\nwhile True: print('more')";
    let mut child = agentkernel(directory().path())
        .args(["run", "--max-output", "1GiB", "-c", code])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut first = [0; 5];
    out.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"first");
    // The program is stopped when nobody reads it any more.
    drop(out);
    let start = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(141));
    assert!(start.elapsed() < Duration::from_secs(30));
}

/// Nobody reads the output; the time limit holds all the same.
#[cfg(unix)]
#[test]
fn a_reader_that_sleeps_does_not_stretch_the_time_limit() {
    let code = "while True: print('x' * 1000)";
    let start = Instant::now();
    let mut child = agentkernel(directory().path())
        .args(["run", "--timeout", "1s", "--max-output", "1GiB", "-c", code])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let unread = child.stdout.take();
    assert_eq!(child.wait().unwrap().code(), Some(124));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(unread);
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output =
        agentkernel(directory().path()).args(["run", "-c", "print(1)"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("cannot write the program's output"), "{}", stderr(&output));
}

/// The end of a pipe as a parent may leave it: reading or writing does not wait.
#[cfg(unix)]
fn non_blocking<T: std::os::fd::AsFd>(end: T) -> T {
    rustix::io::ioctl_fionbio(&end, true).unwrap();
    end
}

#[cfg(unix)]
#[test]
fn output_that_does_not_wait_is_written_whole() {
    // Far more than a pipe holds.
    const LONG: usize = 1_000_000;
    let code = format!("print('x' * {LONG})\nraise ValueError('y' * {LONG})");
    for json in [false, true] {
        let (mut out, child_out) = std::io::pipe().unwrap();
        let (mut err, child_err) = std::io::pipe().unwrap();
        let directory = directory();
        let mut command = agentkernel(directory.path());
        command.args(["run", "-c", &code]).stdout(non_blocking(child_out)).stderr(non_blocking(child_err));
        if json {
            command.arg("--json");
        }
        let mut child = command.spawn().unwrap();
        drop(command);
        std::thread::sleep(Duration::from_millis(500));
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            err.read_to_string(&mut text).map(|_| text)
        });
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        let errors = errors.join().unwrap().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{errors:.200}");
        assert_eq!(text.matches('x').count() / LONG, 1);
        // JSON has the message once by itself and once in the traceback.
        let (told, times) = if json { (text, 2) } else { (errors, 1) };
        assert_eq!(told.matches('y').count() / LONG, times);
    }
}

#[cfg(unix)]
#[test]
fn input_that_does_not_wait_is_waited_for() {
    for (arguments, input) in [
        (&["run", "-c", "print(input() + input())"][..], ["o\n", "k\n"]),
        (&["run", "-"], ["print('o' +", " 'k')"]),
    ] {
        let (child_in, mut keys) = std::io::pipe().unwrap();
        let directory = directory();
        let mut command = agentkernel(directory.path());
        command.args(arguments).stdin(non_blocking(child_in)).stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        drop(command);
        for part in input {
            std::thread::sleep(Duration::from_millis(500));
            keys.write_all(part.as_bytes()).unwrap();
        }
        drop(keys);
        assert_eq!(stdout(&child.wait_with_output().unwrap()), "ok\n", "{arguments:?}");
    }
}

/// What cannot be said is not said; that is no reason to panic.
#[cfg(target_os = "linux")]
#[test]
fn standard_error_that_is_full_changes_nothing() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for (arguments, code) in [
        (&["run", "no-such-script.py"][..], 2),
        (&["run", "-c", "open('data.csv')"], 1),
        (&["run", "--verbose", "-c", "1"], 0),
        (&["run", "--timeout", "300ms", "-c", "while True: pass"], 124),
        (&["run", "--no-such-option"], 2),
    ] {
        let output = agentkernel(directory().path()).args(arguments).stderr(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}
