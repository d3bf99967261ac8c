//! Flags, variables and the configuration file.

use super::*;

#[test]
fn flags_win_over_variables_and_those_over_the_file() {
    let directory = directory();
    let inner = directory.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::create_dir(directory.path().join("ws")).unwrap();
    fs::write(
        directory.path().join("agentkernel.toml"),
        "workspace = 'ws'\ntimeout = '100ms'\nmemory = '100MiB'\nmax-output = '50B'\nenv = ['A=file', 'B=file']\n",
    )
    .unwrap();
    // Found upwards; relative paths start at the file.
    let code = "import os; open('here', 'w'); print(os.environ['A'], os.environ['B'])";
    let output = agentkernel(&inner)
        .args(["run", "--timeout", "20s", "--env", "B=flag", "-c", code])
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "file flag\n", "{}", stderr(&output));
    assert!(directory.path().join("ws/here").exists());
    let slow = "import time; time.sleep(0.5); print('x' * 60)";
    let output = agentkernel(&inner).args(["run", "-c", slow]).output().unwrap();
    assert_eq!(output.status.code(), Some(124));
    let output =
        agentkernel(&inner).env("AGENTKERNEL_TIMEOUT", "20s").args(["run", "-c", slow]).output().unwrap();
    assert!(stdout(&output).contains("output limit of 50 bytes"), "{}", stderr(&output));
    let output = agentkernel(&inner)
        .env("AGENTKERNEL_TIMEOUT", "20s")
        .args(["run", "--timeout", "100ms", "-c", slow])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(124));
    let output = agentkernel(&inner).args(["run", "--no-config", "-c", slow]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn mistakes_in_the_configuration_are_errors_with_their_place() {
    let directory = directory();
    for (text, place, message) in [
        ("timeout = '1s'\ntimout = '1s'\n", ":2:1", "unknown field `timout`"),
        ("memory = 5\n", ":1:10", "string"),
        ("\nmemory = '5 parsecs'\n", ":2:10", "not a unit"),
        ("a = = b\n", ":1:5", ""),
        ("fuel = -1\n", ":1:8", ""),
    ] {
        fs::write(directory.path().join("agentkernel.toml"), text).unwrap();
        let output = agentkernel(directory.path()).args(["run", "-c", "1"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(stderr(&output).contains(&format!("agentkernel.toml{place}")), "{text}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{text}: {}", stderr(&output));
    }
    let output =
        agentkernel(directory.path()).args(["run", "--config", "absent.toml", "-c", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    fs::remove_file(directory.path().join("agentkernel.toml")).unwrap();
    let output = agentkernel(directory.path())
        .env("AGENTKERNEL_TIMOUT", "1s")
        .args(["run", "-c", "1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`AGENTKERNEL_TIMOUT` is not a setting"));
}

#[test]
fn variables_and_flags_that_contradict_them() {
    let directory = directory();
    let run = |variable: (&str, &str), arguments: &[&str]| {
        let output = agentkernel(directory.path())
            .env(variable.0, variable.1)
            .args(arguments)
            .args(["-c", "print(6 * 7)"])
            .output()
            .unwrap();
        assert_eq!(stdout(&output), "42\n", "{variable:?}: {}", stderr(&output));
    };
    run(("AGENTKERNEL_PORTABLE", "1"), &["run"]);
    run(("AGENTKERNEL_PORTABLE", "0"), &["run"]);
    run(("AGENTKERNEL_CONFIG", "absent.toml"), &["run", "--no-config"]);
    let output = agentkernel(directory.path())
        .env("AGENTKERNEL_CACHE_DIR", "cache")
        .args(["cache", "info", "--no-cache"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    fs::write(directory.path().join("agentkernel.toml"), "cache-dir = \"mine\"").unwrap();
    let output = agentkernel(directory.path())
        .env_remove("AGENTKERNEL_CACHE_DIR")
        .args(["cache", "info"])
        .output()
        .unwrap();
    assert!(stdout(&output).contains("/mine\n"), "{}", stdout(&output));
}
