//! Programs, what they are given, and how their end is told.

use super::*;

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

/// A limit that is misspelt must not be taken for an argument of the program.
#[test]
fn options_after_code_are_options() {
    let output = run(&["-c", "print(1)", "--timeot", "1s"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`--timeot` is not an option"), "{}", stderr(&output));
    let output = run(&["-c", "import sys; print(sys.argv)", "--timeout", "9s", "--", "--timeot", "1s"]);
    assert_eq!(stdout(&output), "['-c', '--timeot', '1s']\n", "{}", stderr(&output));
    let output = run(&["-c", "import sys; print(sys.argv)", "a", "-b"]);
    assert_eq!(stdout(&output), "['-c', 'a', '-b']\n", "{}", stderr(&output));
}

/// The program ends as a process ends, and its last expression is one like any other.
#[test]
fn a_run_ends_as_python_ends() {
    let output = run(&["-c", "import atexit; atexit.register(print, 'left'); print('ran')"]);
    assert_eq!(stdout(&output), "ran\nleft\n", "{}", stderr(&output));
    let output = run(&["-c", "class A:\n  def __repr__(self): print('asked'); return ''\nA()"]);
    assert_eq!(stdout(&output), "", "{}", stderr(&output));
}

#[test]
fn a_keyboard_interrupt_has_pythons_exit_code() {
    let output = run(&["-c", "raise KeyboardInterrupt"]);
    assert_eq!(output.status.code(), Some(130));
    assert!(stderr(&output).ends_with("KeyboardInterrupt\n"), "{}", stderr(&output));
}

#[test]
fn a_traceback_is_no_longer_than_output_may_be() {
    let code = "raise ValueError('<' + 'é' * 100_000 + '>')";
    let output = run(&["--max-output", "1001B", "-c", code]);
    assert_eq!(output.status.code(), Some(1));
    let shown = stderr(&output);
    assert!(shown.starts_with("Traceback") && shown.ends_with(">\n"), "{shown}");
    assert!(shown.contains("left out at the output limit of 1001 bytes]\n"), "{shown}");
    assert!(shown.len() < 1200, "{}", shown.len());
    let output = run(&["--json", "--max-output", "1001B", "-c", code]);
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(report["error"]["traceback"].as_str().unwrap().len() > 200_000);
}

#[test]
fn messages_fit_their_cause() {
    let hinted = |code| stderr(&run(&["-c", code])).contains("--memory");
    assert!(hinted("raise MemoryError"));
    assert!(!hinted("raise MemoryError('of mine')"));

    for mount in ["/tmp:/d:rx", "/tmp:/d:ro:rw"] {
        let output = run(&["--mount", mount, "-c", "1"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(&format!("`{mount}` is not a mount")), "{}", stderr(&output));
    }

    // Refused before anything is compiled.
    for limit in [["--fuel", "0"], ["--timeout", "0s"], ["--memory", "5GiB"]] {
        let output = run(&["--no-cache", limit[0], limit[1], "-c", "1"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).starts_with("error: a "), "{}", stderr(&output));
    }

    let directory = directory();
    let output = agentkernel(directory.path())
        .args(["run", "--workspace", ".", "-c", "open('absent')"])
        .output()
        .unwrap();
    let shown = directory.path().canonicalize().unwrap();
    assert!(stderr(&output).contains(&format!("sees `{}` as", shown.display())), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_text_are_refused_with_a_hint() {
    use std::os::unix::ffi::OsStrExt;
    let output = agentkernel(directory().path())
        .args(["run", "-c", "1"])
        .arg(std::ffi::OsStr::from_bytes(b"a\xff"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("is not UTF-8") && stderr(&output).contains("hint: "),
        "{}",
        stderr(&output)
    );
}
