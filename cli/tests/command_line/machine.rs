//! The cache, and what is said about the machine.

#[cfg(target_os = "linux")]
use super::terminal::Terminal;
use super::*;

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_the_spinner_and_the_output() {
    let directory = directory();
    let program = "run --cache-dir fresh -c 'print(6*7)'";
    let mut terminal = Terminal::start(directory.path(), program);
    terminal.see("compiling Python for this machine");
    terminal.see("42");
    assert_eq!(terminal.exit_code(), Some(0));
}

#[test]
fn the_cache_is_shown_cleared_and_filled() {
    let directory = directory();
    let cache = directory.path().join("cache");
    let command = |arguments: &[&str]| {
        let output = agentkernel(directory.path())
            .env("AGENTKERNEL_CACHE_DIR", &cache)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        (stdout(&output), stderr(&output))
    };
    assert!(command(&["cache", "info"]).0.contains("empty"));
    let (out, err) = command(&["cache", "warm"]);
    assert!(out.contains("ready") && err.contains("compiling Python"), "{out}{err}");
    assert!(command(&["cache", "info"]).0.contains("sound"));
    // What is there is not compiled again; what is damaged is.
    assert!(!command(&["run", "-c", "1"]).1.contains("compiling"));
    let entry =
        fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    let compiled = entry.join("guest.cwasm");
    let length = fs::metadata(&compiled).unwrap().len();
    fs::OpenOptions::new().write(true).open(&compiled).unwrap().set_len(length / 2).unwrap();
    assert!(command(&["cache", "info"]).0.contains("cut short"));
    let (out, err) = command(&["run", "-c", "print(6 * 7)"]);
    assert!(out == "42\n" && err.contains("compiling"), "{out}{err}");
    // The options of `cache` may stand on either side of the action.
    for arguments in [["cache", "info", "--cache-dir", "other"], ["cache", "--cache-dir", "other", "info"]] {
        assert!(command(&arguments).0.contains("other\n  empty"), "{arguments:?}");
    }
    assert!(command(&["cache", "clear"]).0.contains("freed"));
    assert!(command(&["cache", "info"]).0.contains("empty"));
}

#[test]
fn doctor_completions_and_version_speak() {
    let directory = directory();
    let output = agentkernel(directory.path()).arg("doctor").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    for part in ["interpreter: CPython 3.14", "cache:", "session: started", "limits: 60 s"] {
        assert!(stdout(&output).contains(part), "{part}: {}", stdout(&output));
    }
    let output = agentkernel(directory.path()).args(["doctor", "--workspace", "absent"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = agentkernel(directory.path()).args(["completions", shell]).output().unwrap();
        assert!(stdout(&output).contains("max-output"), "{shell}");
    }
    let output = agentkernel(directory.path()).arg("--version").output().unwrap();
    assert!(stdout(&output).contains("wasmtime 48") && stdout(&output).contains("CPython 3.14"));
}
