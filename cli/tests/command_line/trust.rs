//! What a program may write is neither configuration nor interpreter nor cache.

use super::*;

/// A run in `directory` that has to be refused because of `what`.
#[track_caller]
fn refused(directory: &Path, what: &str, arguments: &[&str]) {
    let output = agentkernel(directory).args(arguments).args(["-c", "print(1)"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    let expected = format!("error: the {what} `");
    assert!(
        stderr(&output).starts_with(&expected)
            && stderr(&output).contains("the program may write to\nhint: "),
        "{arguments:?}: {}",
        stderr(&output)
    );
}

#[track_caller]
fn runs(directory: &Path, arguments: &[&str]) {
    let output = agentkernel(directory).args(arguments).args(["-c", "print(1)"]).output().unwrap();
    assert_eq!(stdout(&output), "1\n", "{arguments:?}: {}", stderr(&output));
}

#[test]
fn a_configuration_that_the_program_may_write_is_refused() {
    let directory = directory();
    let at = directory.path();
    for name in ["work", "work/inner", "other"] {
        fs::create_dir(at.join(name)).unwrap();
    }
    // None is there yet, and the program makes one.
    let code = "open('agentkernel.toml', 'w').write('mounts = [\"/:/host:rw\"]')";
    let output =
        agentkernel(&at.join("work")).args(["run", "--workspace", ".", "-c", code]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    refused(&at.join("work"), "configuration", &["run", "--workspace", "."]);
    refused(&at.join("work/inner"), "configuration", &["run", "--workspace", ".."]);
    fs::write(at.join("work/agentkernel.toml"), "timeout = '30s'").unwrap();
    refused(&at.join("work"), "configuration", &["run", "--mount", ".:/d:rw"]);
    refused(at, "configuration", &["run", "--workspace", "work", "--config", "work/agentkernel.toml"]);
    refused(at, "configuration", &["run", "--workspace", ".", "--config", "other/../work/agentkernel.toml"]);
    runs(&at.join("work"), &["run", "--workspace", ".", "--no-config"]);
    runs(&at.join("work"), &["run", "--mount", ".:/d"]);
    runs(&at.join("work"), &["run", "--workspace", "inner"]);

    // What leads through the directory, or out of it, is the program's to change as well.
    std::os::unix::fs::symlink("../work/agentkernel.toml", at.join("other/link.toml")).unwrap();
    refused(at, "configuration", &["run", "--workspace", "work", "--config", "other/link.toml"]);
    fs::write(at.join("other/true.toml"), "timeout = '30s'").unwrap();
    std::os::unix::fs::symlink("../other/true.toml", at.join("work/link.toml")).unwrap();
    refused(at, "configuration", &["run", "--workspace", "work", "--config", "work/link.toml"]);
    runs(at, &["run", "--workspace", "work", "--config", "other/true.toml"]);

    // The grant may be the file's own.
    fs::write(at.join("agentkernel.toml"), "workspace = '.'").unwrap();
    refused(at, "configuration", &["run"]);
    fs::write(at.join("agentkernel.toml"), "workspace = 'other'").unwrap();
    runs(at, &["run"]);
}

#[test]
fn a_cache_that_the_program_may_write_is_refused() {
    let directory = directory();
    let at = directory.path();
    let home = at.join("home");
    for name in ["work", "home"] {
        fs::create_dir(at.join(name)).unwrap();
    }
    refused(at, "compilation cache", &["run", "--workspace", "work", "--cache-dir", "work/not/yet"]);
    refused(at, "compilation cache", &["run", "--workspace", "work", "--cache-dir", "work"]);
    // The default one.
    for (name, value) in [("XDG_CACHE_HOME", home.join("cache")), ("HOME", home.clone())] {
        let output = agentkernel(at)
            .env_remove("AGENTKERNEL_CACHE_DIR")
            .env_remove("XDG_CACHE_HOME")
            .env(name, value)
            .args(["run", "--workspace", "home", "-c", "1"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("the compilation cache `"), "{}", stderr(&output));
    }
    // The next reason is another one.
    let output = agentkernel(at)
        .args(["run", "--workspace", ".", "--cache-dir", "work", "--no-cache"])
        .args(["--guest", "/no/such/file", "-c", "1"])
        .output()
        .unwrap();
    assert!(!stderr(&output).contains("may write to"), "{}", stderr(&output));
}

#[test]
fn an_interpreter_that_the_program_may_write_is_refused() {
    let directory = directory();
    fs::write(directory.path().join("python.wasm"), "").unwrap();
    refused(directory.path(), "interpreter", &["run", "--workspace", ".", "--guest", "python.wasm"]);
    refused(directory.path(), "interpreter", &["run", "--workspace", ".", "--guest", "absent/python.wasm"]);
}
