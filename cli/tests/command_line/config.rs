//! `agentkernel config`, and what runs programs.

use super::*;

fn config(directory: &Path, arguments: &[&str]) -> Output {
    agentkernel(directory).arg("config").args(arguments).output().unwrap()
}

/// The value, the source and the place of each key.
fn shown(output: &Output) -> std::collections::BTreeMap<String, (Value, String, Value)> {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    let keys: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    keys.into_iter()
        .map(|key| {
            let source = key["source"].as_str().unwrap().to_owned();
            (key["key"].as_str().unwrap().to_owned(), (key["value"].clone(), source, key["from"].clone()))
        })
        .collect()
}

#[test]
fn what_is_in_force_is_shown_with_where_it_comes_from() {
    let directory = directory();
    fs::write(
        directory.path().join("agentkernel.toml"),
        "timeout = '5s'\nmemory = '100MiB'\nmounts = ['.:/a']\nenv = ['TOKEN=hush', 'HOME']\n\n[image.mine]\ncode = 'x = 1'\n\n[llm]\nbase-url = 'http://localhost:1/v1'\n[llm.prices]\nm = { input = 1, output = 2 }\n",
    )
    .unwrap();
    fs::write(directory.path().join(".env"), "OPENAI_API_KEY=sk-hush\n").unwrap();
    let mut command = agentkernel(directory.path());
    command
        .env("AGENTKERNEL_MEMORY", "200MiB")
        .env("AGENTKERNEL_FUEL", "7")
        .env("ANTHROPIC_API_KEY", "sk-hush");
    command.args([
        "config",
        "show",
        "--json",
        "--timeout",
        "9s",
        "--mount",
        ".:/b",
        "--env",
        "PASSWORD=hush",
    ]);
    let output = command.output().unwrap();
    let keys = shown(&output);
    let of = |key: &str| (keys[key].0.to_string(), keys[key].1.as_str(), keys[key].2.to_string());
    assert_eq!(of("timeout"), ("\"9s\"".into(), "flag", "\"--timeout\"".into()));
    assert_eq!(of("memory"), ("\"200MiB\"".into(), "environment", "\"AGENTKERNEL_MEMORY\"".into()));
    assert_eq!(of("fuel"), ("7".into(), "environment", "\"AGENTKERNEL_FUEL\"".into()));
    assert_eq!(of("mounts").0, "[\".:/a\",\".:/b\"]");
    assert_eq!(of("mounts").2, "\"agentkernel.toml:3, --mount\"");
    assert_eq!(of("env").0, "[\"TOKEN=***\",\"HOME\",\"PASSWORD=***\"]");
    assert_eq!(of("image.mine.code"), ("\"x = 1\"".into(), "file", "\"agentkernel.toml:7\"".into()));
    assert_eq!(of("llm.prices.m.output").0, "2");
    assert_eq!(of("max-output"), ("\"10MiB\"".into(), "default", "null".into()));
    assert_eq!(of("workspace").0, "null");
    assert_eq!(of("OPENAI_API_KEY").0, "\"***\"");
    assert_eq!(of("ANTHROPIC_API_KEY").1, "environment");
    assert!(!stdout(&output).contains("hush"));
    let output = config(directory.path(), &["show"]);
    let text = stdout(&output);
    assert!(text.contains("timeout = \"5s\"") && text.contains("# agentkernel.toml:1\n"), "{text}");
    assert!(text.contains("# default\n") && !text.contains("hush"), "{text}");
    let output = config(directory.path(), &["show", "--json", "--skills-write", "."]);
    let keys = shown(&output);
    assert_eq!(keys["skills.directory"].0, ".");
    assert_eq!(keys["skills.write"], (true.into(), "flag".into(), "--skills-write".into()));
    // What a run refuses is refused.
    let output = config(directory.path(), &["show", "--memory", "9GiB"]);
    assert_eq!(output.status.code(), Some(2));
}

#[cfg(unix)]
#[test]
fn what_others_could_have_written_is_not_found() {
    use std::os::unix::fs::PermissionsExt;
    let directory = directory();
    let (file, inner) = (directory.path().join("agentkernel.toml"), directory.path().join("inner"));
    fs::create_dir(&inner).unwrap();
    fs::write(&file, "timeout = '5s'\n").unwrap();
    let run = |arguments: &[&str]| {
        agentkernel(&inner).arg("run").args(arguments).args(["-c", "print(1)"]).output().unwrap()
    };
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    // What is below a sticky directory is its owner's.
    for (mode, above, is_refused) in [(0o666, 0o755, true), (0o644, 0o777, true), (0o644, 0o1777, false)] {
        set(&file, mode);
        set(directory.path(), above);
        let output = run(&[]);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(if is_refused { 2 } else { 0 }), "{mode:o} {above:o}: {told}");
        assert_eq!(
            told.contains("can be written by others") && told.contains("--no-config"),
            is_refused,
            "{told}"
        );
        let check = config(&inner, &["check"]);
        assert_eq!(check.status.code(), Some(if is_refused { 2 } else { 0 }), "{}", stderr(&check));
        for arguments in [&["--no-config"][..], &["--config", "../agentkernel.toml"]] {
            let output = run(arguments);
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        }
    }
}

#[test]
fn all_that_is_wrong_is_said() {
    let directory = directory();
    let file = directory.path().join("agentkernel.toml");
    fs::write(&file, "timout = '1s'\nmemory = 5\n[tasks]\nlevel = 1\n").unwrap();
    let output = config(directory.path(), &["check"]);
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    for part in [
        "toml:1:1`: there is no key `timout`",
        "`timeout` may be meant",
        "toml:2:10`",
        "toml:4:1`: there is no key `level`",
        "`levels` may be meant",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // Of a sound text: what is not there, and what has no effect.
    fs::write(
        &file,
        "workspace = 'absent'\nmounts = ['nowhere:/a']\nsandbox = 'docker'\n[privacy]\nhide = ['shoes']\n[llm]\nmodels = ['m']\n[image.empty]\n[tool.net]\nmax-requests = 3\n",
    )
    .unwrap();
    let output = config(directory.path(), &["check", "agentkernel.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    for part in [
        "toml:1:13`: `workspace`: `./absent` is not there",
        "`mounts`: `./nowhere` is not there",
        "the sandbox `docker` (containers)",
        "`shoes` in `[privacy] hide`",
        "`[llm] models` has no effect",
        "`[image.empty]` has nothing in it",
        "`max-requests` in `[tool.net]` has no effect",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // A tool that is none.
    fs::write(directory.path().join("x.wasm"), "not wasm").unwrap();
    fs::write(&file, "[tool.x]\ncomponent = 'x.wasm'\n").unwrap();
    let output = config(directory.path(), &["check"]);
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert!(stderr(&output).contains("`x`"), "{}", stderr(&output));
    fs::write(&file, "timeout = '1s'\n[llm]\nmax-calls = 3\n").unwrap();
    let output = config(directory.path(), &["check"]);
    assert_eq!(
        stdout(&output),
        format!("`{}` is right: 2 settings\n", file.display()),
        "{}",
        stderr(&output)
    );
    assert_eq!(output.status.code(), Some(0));
    let output =
        agentkernel(directory.path()).env("AGENTKERNEL_TIMOUT", "1").args(["config", "check"]).output();
    assert_eq!(output.unwrap().status.code(), Some(2));
    fs::remove_file(&file).unwrap();
    let output = config(directory.path(), &["check", "absent.toml"]);
    assert_eq!(output.status.code(), Some(2));
}

/// What an image would have no use for is no key of it, so that nobody believes it was granted.
#[test]
fn an_image_has_no_keys_without_effect() {
    let directory = directory();
    for key in ["task = true", "tasks = true", "context = 'data'", "workspace = '.'"] {
        let text = format!("[image.mine]\ncode = 'x = 1'\n{key}\n");
        fs::write(directory.path().join("agentkernel.toml"), text).unwrap();
        for arguments in [&["run", "-c", "1"][..], &["config", "check"], &["session", "new", "s"]] {
            let mut command = agentkernel(directory.path());
            command.env("AGENTKERNEL_DATA_DIR", directory.path().join("data"));
            let output = command.args(arguments).output().unwrap();
            assert_ne!(output.status.code(), Some(0), "{key}: {arguments:?}");
            let (said, name) = (stdout(&output) + &stderr(&output), key.split(' ').next().unwrap());
            let told =
                ["unknown field", "there is no key"].map(|what| said.contains(&format!("{what} `{name}`")));
            assert!(told.contains(&true), "{said}");
        }
    }
}

#[test]
fn a_file_is_begun_and_not_replaced() {
    let directory = directory();
    let output = config(directory.path(), &["init"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let file = directory.path().join("agentkernel.toml");
    let text = fs::read_to_string(&file).unwrap();
    for key in ["# timeout = \"60s\"", "# [llm]", "# max-open-files = 256", "# [tool.NAME]"] {
        assert!(text.lines().any(|line| line == key), "{key}: {text}");
    }
    // It says nothing until something is taken out of its comments.
    let output = config(directory.path(), &["check"]);
    assert!(stdout(&output).contains("0 settings"), "{}{}", stdout(&output), stderr(&output));
    fs::write(&file, "timeout = '1s'\n").unwrap();
    let output = config(directory.path(), &["init"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--force"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "timeout = '1s'\n");
    assert_eq!(config(directory.path(), &["init", "--force"]).status.code(), Some(0));
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn what_a_run_would_refuse_is_told_by_a_check() {
    let directory = directory();
    let at = directory.path();
    fs::create_dir_all(at.join("data/below")).unwrap();
    for (text, said) in [
        ("mounts = ['data:/']", "cannot be a path in the sandbox"),
        ("mounts = ['data:/workspace']", "two directories are granted at `/workspace`"),
        ("mounts = ['data:/a', 'data/below:/a/b']", "granted below the other"),
        ("mounts = ['data:/../x']", "cannot be a path in the sandbox"),
        ("env = ['=x']", "env"),
        ("guest = 'agentkernel.toml'", "the interpreter component is not valid"),
        ("[telemetry]\notlp = 'file:///x'", "is not given a URL"),
    ] {
        fs::write(at.join("agentkernel.toml"), text).unwrap();
        for arguments in [&["config", "check"][..], &["run", "-c", "1"]] {
            let output = agentkernel(at).args(arguments).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{text}: {}", stderr(&output));
            assert!(stderr(&output).contains(said), "{text}: {}", stderr(&output));
        }
    }
}

#[test]
fn one_sandbox_is_there() {
    let directory = directory();
    let run = |named: &str| {
        let output = agentkernel(directory.path())
            .env("SANDBOX_TYPE", named)
            .args(["run", "-c", "print(6 * 7)"])
            .output()
            .unwrap();
        (output.status.code(), stdout(&output), stderr(&output))
    };
    for named in ["wasm", "WASM", ""] {
        assert_eq!(run(named), (Some(0), "42\n".into(), String::new()), "{named}");
    }
    for (named, part) in [
        ("docker", "containers"),
        ("monty", "pydantic-monty"),
        ("e2b", "SDK"),
        ("wasn", "there is no sandbox `wasn`"),
    ] {
        let (code, out, told) = run(named);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{named}");
        assert!(told.contains(part) && told.contains("hint:"), "{named}: {told}");
    }
    fs::write(directory.path().join("agentkernel.toml"), "sandbox = 'pyodide'\n").unwrap();
    let output = agentkernel(directory.path()).args(["run", "-c", "1"]).output().unwrap();
    assert!(stderr(&output).contains("the sandbox `pyodide`"), "{}", stderr(&output));
    // A flag goes before it.
    let output =
        agentkernel(directory.path()).args(["run", "--sandbox", "wasm", "-c", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn doctor_lists_what_outlives_runs() {
    let directory = directory();
    fs::create_dir(directory.path().join("skills")).unwrap();
    fs::write(
        directory.path().join("agentkernel.toml"),
        "[skills]\ndirectory = 'skills'\n[state]\nfile = 'state.db'\n[tasks]\nstore = 'tasks.db'\n",
    )
    .unwrap();
    let output = agentkernel(directory.path())
        .env("AGENTKERNEL_DATA_DIR", directory.path().join("data"))
        .arg("doctor")
        .output()
        .unwrap();
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in [
        "state.db`, made when it is needed",
        "skills`, 0 skills",
        "tasks.db`, made when it is needed",
        "data/sessions`, 0 sessions",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Looking makes nothing.
    assert!(!directory.path().join("state.db").exists() && !directory.path().join("tasks.db").exists());
}
