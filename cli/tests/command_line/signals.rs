//! Signals that stop a program.

use super::*;

#[cfg(unix)]
#[test]
fn an_interrupt_stops_the_program() {
    for code in ["print('up', flush=True)\nwhile True: pass", "import time\nprint('up')\ntime.sleep(100)"] {
        let mut child = agentkernel(directory().path())
            .args(["run", "-c", code])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = [0; 2];
        child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        kill(&child, "INT");
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    }
}

#[cfg(unix)]
#[test]
fn a_terminated_run_leaves_no_workspace_behind() {
    let temporary = directory();
    let mut child = agentkernel(directory().path())
        .env("TMPDIR", temporary.path())
        .args(["run", "-c", "open('secret', 'w').write('x')\nprint('up', flush=True)\nwhile True: pass"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 2];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
    kill(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(128 + 15), "{}", stderr(&output));
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

/// Nothing is left to stop but the process, which waits for a reader that sleeps.
#[cfg(unix)]
#[test]
fn an_interrupt_after_the_end_ends_the_process() {
    let directory = directory();
    let code = "import atexit\natexit.register(lambda: open('/d/up', 'w'))\nprint('x' * 500_000)";
    let mut child = agentkernel(directory.path())
        .args(["run", "--mount", ".:/d:rw", "-c", code])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&directory.path().join("up"));
    std::thread::sleep(Duration::from_millis(500));
    kill(&child, "INT");
    let deadline = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the process does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[cfg(unix)]
pub fn kill(child: &std::process::Child, signal: &str) {
    let killed = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
    assert!(killed.unwrap().success());
}

/// Waits until a program has made this file.
#[cfg(unix)]
pub fn wait_for(file: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !file.exists() {
        assert!(Instant::now() < deadline, "{} does not appear", file.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}
