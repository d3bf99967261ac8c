//! The binary, run as a user runs it.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The binary with an environment of its own, in `directory`.
fn agentkernel(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentkernel"));
    command.current_dir(directory).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let ours = name.to_string_lossy().starts_with("AGENTKERNEL_");
        if ours && name != "AGENTKERNEL_GUEST" && name != "AGENTKERNEL_CACHE_DIR" {
            command.env_remove(name);
        }
    }
    command
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn run(arguments: &[&str]) -> Output {
    agentkernel(directory().path()).arg("run").args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_script_gets_its_arguments_and_its_input() {
    let directory = directory();
    fs::write(
        directory.path().join("s.py"),
        "import sys\nprint(sum(map(int, input().split())), sys.argv[1:])",
    )
    .unwrap();
    let mut child = agentkernel(directory.path())
        .args(["run", "s.py", "--timeout", "-x", "y z"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"1 2 3\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output), "6 ['--timeout', '-x', 'y z']\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_program_comes_from_standard_input_too() {
    let mut child = agentkernel(directory().path())
        .args(["run", "-", "a"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"import sys\nprint(sys.argv[1], repr(sys.stdin.read()))").unwrap();
    assert_eq!(stdout(&child.wait_with_output().unwrap()), "a ''\n");
}

#[test]
fn exit_codes_tell_how_it_ended() {
    for (arguments, code) in [
        (&["-c", "pass"][..], 0),
        (&["-c", "1 / 0"], 1),
        (&["-c", "import sys; sys.exit(7)"], 7),
        (&["-c", "import os; os._exit(9)"], 9),
        (&["-c", "raise SystemExit('why')"], 1),
        (&["--timeout", "300ms", "-c", "while True: pass"], 124),
        (&["--timeout", "300ms", "-c", "import time; time.sleep(100)"], 124),
        (&["--timeout", "300ms", "-c", "10**10**8"], 124),
        (&["--fuel", "100000000", "-c", "while True: pass"], 124),
        (&["--memory", "128MiB", "-c", "x = bytearray(10**9)"], 1),
        (&[], 2),
        (&["no-such-script.py"], 2),
        (&["--no-such-option"], 2),
        (&["--timeout", "soon", "-c", "1"], 2),
        (&["--memory", "1KiB", "-c", "1"], 2),
        (&["--env", "NO_SUCH_VARIABLE_HERE", "-c", "1"], 2),
        (&["--mount", "nonsense", "-c", "1"], 2),
        (&["--workspace", "no-such-directory", "-c", "1"], 2),
        (&["--guest", "no-such-file", "-c", "1"], 2),
    ] {
        let start = Instant::now();
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(start.elapsed() < Duration::from_secs(60), "{arguments:?} hangs");
    }
}

#[test]
fn a_traceback_is_pythons_own() {
    let directory = directory();
    fs::write(directory.path().join("s.py"), "def f():\n    raise ValueError('no')\n\nf()\n").unwrap();
    let output = agentkernel(directory.path()).args(["run", "s.py"]).output().unwrap();
    let expected = "Traceback (most recent call last):\n  File \"s.py\", line 4, in <module>\n    f()\n    ~^^\n  \
                    File \"s.py\", line 2, in f\n    raise ValueError('no')\nValueError: no\n";
    assert_eq!(stderr(&output), expected);
    assert_eq!(stdout(&output), "");
}

#[test]
fn hints_name_the_option() {
    let directory = directory();
    fs::write(directory.path().join("s.py"), "import helpers\nprint(helpers.answer)").unwrap();
    fs::write(directory.path().join("helpers.py"), "answer = 42").unwrap();
    let output = agentkernel(directory.path()).args(["run", "s.py"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("ModuleNotFoundError: No module named 'helpers'\n"),
        "{}",
        stderr(&output)
    );
    assert!(
        stderr(&output).contains("hint: `./helpers.py`") && stderr(&output).contains("--mount .:/script")
    );
    // And the option it names does what it says.
    let output =
        agentkernel(directory.path()).args(["run", "--mount", ".:/script", "s.py"]).output().unwrap();
    assert_eq!(stdout(&output), "42\n", "{}", stderr(&output));

    let output = run(&["-c", "open('data.csv')"]);
    assert!(stderr(&output).contains("--workspace DIR"), "{}", stderr(&output));
    let output = run(&["--quiet", "-c", "open('data.csv')"]);
    assert!(!stderr(&output).contains("hint"), "{}", stderr(&output));
    let output = run(&["no-such-script.py"]);
    assert!(stderr(&output).contains("run -c CODE"), "{}", stderr(&output));
}

#[test]
fn directories_are_what_was_granted() {
    let directory = directory();
    for name in ["work", "data", "both"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    fs::write(directory.path().join("data/in.txt"), "input").unwrap();
    let code = "import os
text = open('/data/in.txt').read()
open('out.txt', 'w').write(text.upper())
open('/both/x', 'w').write('x')
try:
    open('/data/no', 'w')
except OSError as error:
    print(type(error).__name__, os.getcwd())
";
    let output = agentkernel(directory.path())
        .args(["run", "--workspace", "work", "--mount", "data:/data", "--mount", "both:/both:rw", "-c", code])
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "OSError /workspace\n", "{}", stderr(&output));
    assert_eq!(fs::read_to_string(directory.path().join("work/out.txt")).unwrap(), "INPUT");
    assert_eq!(fs::read_to_string(directory.path().join("both/x")).unwrap(), "x");
    assert!(!directory.path().join("data/no").exists());
}

#[test]
fn the_environment_is_what_was_granted() {
    let output = agentkernel(directory().path())
        .env("PASSED", "on")
        .env("SECRET", "kept")
        .args(["run", "--env", "PASSED", "--env", "GIVEN=a=b", "-c", "import os; print(dict(os.environ))"])
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "{'GIVEN': 'a=b', 'PASSED': 'on'}\n");
}

#[test]
fn json_is_one_object() {
    let output =
        run(&["--json", "-c", "import sys\nprint('out')\nprint('err', file=sys.stderr)\n{'a': [1, None]}"]);
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["outcome"], "completed");
    assert_eq!(report["value"], serde_json::json!({"a": [1, null]}));
    assert_eq!(report["repr"], "{'a': [1, None]}");
    assert_eq!((&report["stdout"], &report["stderr"]), (&"out\n".into(), &"err\n".into()));
    assert_eq!(report["error"], Value::Null);
    assert!(report["usage"]["wall_seconds"].as_f64().unwrap() > 0.0);

    let output = run(&["--json", "-c", "object()"]);
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["value"], Value::Null);
    assert!(report["repr"].as_str().unwrap().starts_with("<object object"));

    let output = run(&["--json", "-c", "def f():\n    1 / 0\nf()"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&report["outcome"], &report["exit_code"]), (&"raised".into(), &1.into()));
    assert_eq!(report["error"]["type"], "ZeroDivisionError");
    assert_eq!(report["error"]["frames"][1]["line"], 2);
    assert_eq!(report["error"]["frames"][1]["source"], "1 / 0");

    let output = run(&["--json", "--timeout", "200ms", "-c", "print('before')\nwhile True: pass"]);
    assert_eq!(output.status.code(), Some(124));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&report["outcome"], &report["stdout"]), (&"timed-out".into(), &"before\n".into()));
    assert_eq!(report["error"]["type"], "timed-out");
}

/// Every report has the members that the schema in docs/ requires, and no others.
#[test]
fn json_is_what_the_schema_says() {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/outcome.schema.json");
    let schema: Value = serde_json::from_slice(&fs::read(schema).unwrap()).unwrap();
    let names = |value: &Value| -> Vec<String> {
        let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    for code in ["1", "1 / 0", "raise SystemExit(3)", "while True: pass"] {
        let output = run(&["--json", "--timeout", "300ms", "-c", code]);
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(names(&report), names(&schema["properties"]));
        assert_eq!(names(&report["usage"]), names(&schema["properties"]["usage"]["properties"]));
        if report["error"].is_object() {
            assert_eq!(names(&report["error"]), names(&schema["$defs"]["error"]["properties"]));
        }
        let outcomes = schema["properties"]["outcome"]["enum"].as_array().unwrap();
        assert!(outcomes.contains(&report["outcome"]));
    }
}

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
        let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    }
}

#[test]
fn the_repl_keeps_names_and_goes_on_after_errors() {
    let directory = directory();
    let mut child = agentkernel(directory.path())
        .env("XDG_STATE_HOME", directory.path())
        .arg("repl")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = "x = 20\n1 / 0\nx + 22\n_ * 2\nfor i in range(2):\n    print(i)\n\nimport sys; sys.exit(5)\n";
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(stdout(&output).replace(">>> ", ""), "42\n84\n0\n1\n");
    assert!(stderr(&output).contains("ZeroDivisionError"));
}

/// On a real terminal, which `script` makes: line editing, and Ctrl-C that stops the turn alone.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_at_the_prompt_stops_the_turn_and_not_the_session() {
    let directory = directory();
    let mut child = agentkernel_on_a_terminal(directory.path(), "repl");
    let mut keys = child.stdin.take().unwrap();
    // What is typed early waits in the terminal.
    let typist = std::thread::spawn(move || {
        for (pause, text) in [
            (2000, "x = 41\r"),
            (200, "import time; time.sleep(100)\r"),
            (1500, "\x03"),
            (500, "x + 1\r"),
            (500, "exit(3)\r"),
            (500, ""),
        ] {
            std::thread::sleep(Duration::from_millis(pause));
            let _ = keys.write_all(text.as_bytes());
        }
    });
    let output = child.wait_with_output().unwrap();
    typist.join().unwrap();
    let screen = stdout(&output);
    assert_eq!(output.status.code(), Some(3), "{screen}");
    assert!(screen.contains("KeyboardInterrupt") && screen.contains("42\r\n"), "{screen}");
}

#[cfg(target_os = "linux")]
fn agentkernel_on_a_terminal(directory: &Path, arguments: &str) -> std::process::Child {
    let program = format!("stty cols 80 rows 24; exec {} {arguments}", env!("CARGO_BIN_EXE_agentkernel"));
    Command::new("script")
        .args(["--quiet", "--return", "--command", &program, "/dev/null"])
        .current_dir(directory)
        .env("XDG_STATE_HOME", directory)
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`script` of util-linux makes a terminal")
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_the_spinner_and_the_output() {
    let directory = directory();
    let program = "run --cache-dir fresh -c 'print(6*7)'";
    let output = agentkernel_on_a_terminal(directory.path(), program).wait_with_output().unwrap();
    let screen = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{screen}");
    assert!(screen.contains("compiling Python for this machine") && screen.contains("42"), "{screen}");
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
