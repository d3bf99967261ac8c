//! The interactive session.

#[cfg(target_os = "linux")]
use super::terminal::Terminal;
use super::*;

#[test]
fn the_repl_keeps_names_and_goes_on_after_errors() {
    let lines = "x = 20\n1 / 0\nx + 22\n_ * 2\nfor i in range(2):\n    print(i)\n\nimport sys; sys.exit(5)\n";
    let output = session(lines);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(stdout(&output).replace(">>> ", ""), "42\n84\n0\n1\n");
    assert!(stderr(&output).contains("ZeroDivisionError"));
}

#[test]
fn the_repl_reads_a_context() {
    let directory = directory();
    fs::write(directory.path().join("data.txt"), "abc").unwrap();
    let mut child = agentkernel(directory.path())
        .env("XDG_STATE_HOME", directory.path())
        .args(["repl", "--quiet", "--context", "data.txt"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"from agentkernel import context\nlen(context)\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(stdout(&output).contains('3'), "{}", stdout(&output));
}

/// Line editing, and Ctrl-C that stops the turn alone.
#[cfg(target_os = "linux")]
/// A pipe need not have the empty line that ends a block.
#[test]
fn what_is_unfinished_at_the_end_of_the_input_is_run() {
    let directory = directory();
    for (input, printed, told) in
        [("x = 2\nfor i in range(x): print(i)", "0\n1\n", ""), ("print(1", "", "SyntaxError")]
    {
        let mut repl = agentkernel(directory.path());
        repl.arg("repl").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut repl = repl.spawn().unwrap();
        repl.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = repl.wait_with_output().unwrap();
        assert_eq!(stdout(&output), printed, "{}", stderr(&output));
        assert!(stderr(&output).contains(told), "{}", stderr(&output));
    }
}

#[test]
fn an_interrupt_at_the_prompt_stops_the_turn_and_not_the_session() {
    let directory = directory();
    let mut terminal = Terminal::start(directory.path(), "repl");
    terminal.enter("x = 41");
    terminal.enter("import time; print('sl' + 'eeps'); time.sleep(100)");
    terminal.see("sleeps");
    terminal.type_in("\x03");
    terminal.see("KeyboardInterrupt");
    terminal.enter("x + 1");
    terminal.see("42\r\n");
    terminal.enter("exit(3)");
    assert_eq!(terminal.exit_code(), Some(3));
}

/// An interrupted `input()` is over: what is typed next is for the prompt, and the next `input()` waits.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_input_swallows_nothing() {
    let directory = directory();
    let mut terminal = Terminal::start(directory.path(), "repl");
    terminal.enter("input('na' + 'me? ')");
    terminal.see("name? ");
    terminal.type_in("\x03");
    terminal.see("KeyboardInterrupt");
    terminal.enter("40 + 2");
    terminal.see("42\r\n");
    terminal.enter("print('[' + input('ag' + 'ain? ') + ']')");
    terminal.see("again? ");
    terminal.type_in("there\r");
    terminal.see("[there]");
    // A program that handles the interrupt can ask on.
    let code = r"try:\n  while True: pass\nexcept KeyboardInterrupt: print('<' + input('su' + 're? ') + '>')";
    terminal.enter(&format!("exec(\"{code}\")"));
    std::thread::sleep(Duration::from_millis(500));
    terminal.type_in("\x03");
    terminal.see("sure? ");
    terminal.type_in("yes\r");
    terminal.see("<yes>");
    terminal.enter("exit(3)");
    assert_eq!(terminal.exit_code(), Some(3));
}

/// Completing a name runs the program's code, which may never come back.
#[cfg(target_os = "linux")]
#[test]
fn a_completion_that_hangs_costs_the_session_and_not_the_prompt() {
    let directory = directory();
    let mut terminal = Terminal::start(directory.path(), "repl");
    terminal.enter("import itertools");
    terminal.enter("A = type('A', (), {'__dir__': lambda self: max(itertools.count())}); a = A()");
    terminal.see(">>> ");
    terminal.type_in("a.x\t");
    std::thread::sleep(Duration::from_secs(3));
    terminal.type_in("\x15");
    terminal.type_in("40 + 2\r");
    terminal.see("a new session");
    terminal.see("42\r\n");
    terminal.enter("exit(3)");
    assert_eq!(terminal.exit_code(), Some(3));
}

/// Runs a session with these lines and no terminal.
fn session(lines: &str) -> Output {
    let directory = directory();
    let mut child = agentkernel(directory.path())
        .env("XDG_STATE_HOME", directory.path())
        .args(["repl", "--timeout", "5s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// The session ends as a process ends.
#[test]
fn a_session_ends_as_python_ends() {
    let first = "import atexit; _ = atexit.register(print, 'left')\n";
    for (last, code) in [("", 0), ("exit(3)\n", 3)] {
        let output = session(&format!("{first}{last}"));
        assert_eq!(stdout(&output), "left\n", "{}", stderr(&output));
        assert_eq!(output.status.code(), Some(code));
    }
    // What does not end is stopped, and said.
    let output = session("import atexit; _ = atexit.register(lambda: sum(iter(int, 1)))\n");
    assert!(stderr(&output).contains("stopped at the time limit"), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(124));
}

#[cfg(unix)]
#[test]
fn a_session_that_nobody_reads_ends_quietly() {
    let directory = directory();
    for lines in ["1\n2\n", "print(1)\nprint(2)\n"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = agentkernel(directory.path())
            .env("XDG_STATE_HOME", directory.path())
            .args(["repl", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((stderr(&output).as_str(), output.status.code()), ("", Some(141)));
    }
}

/// As the last one, and the lines come from a terminal.
#[cfg(target_os = "linux")]
#[test]
fn a_prompt_that_nobody_reads_ends_quietly() {
    let directory = directory();
    let mut terminal = Terminal::start(directory.path(), "repl --quiet | true; echo en''ded");
    terminal.see("ended");
    let seen = terminal.seen();
    assert!(!seen.contains("panicked") && !seen.contains("error"), "{seen}");
}
