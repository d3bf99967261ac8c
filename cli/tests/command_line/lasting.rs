//! What lasts longer than a run: state, skills; and what models are not shown.

use super::*;

const STATE: &str = "from agentkernel import state\n";

fn with(directory: &Path, arguments: &[&str], code: &str) -> Output {
    agentkernel(directory).arg("run").args(arguments).args(["-c", code]).output().unwrap()
}

#[track_caller]
fn prints(output: &Output, expected: &str) {
    assert_eq!(stdout(output), expected, "{}", stderr(output));
}

#[track_caller]
fn refused(output: &Output, message: &str) {
    assert_eq!(output.status.code(), Some(2), "{}", stdout(output));
    assert!(stderr(output).contains(message) && stderr(output).contains("\nhint: "), "{}", stderr(output));
}

#[test]
fn state_is_kept_from_run_to_run() {
    let directory = directory();
    let at = directory.path();
    let put = format!("{STATE}state['n'] = state.get('n', 0) + 1\nprint(state['n'])");
    prints(&with(at, &["--state", "state.db"], &put), "1\n");
    prints(&with(at, &["--state", "state.db"], &put), "2\n");
    let by_variable = agentkernel(at).env("AGENTKERNEL_STATE", "state.db").args(["run", "-c", &put]).output();
    prints(&by_variable.unwrap(), "3\n");
    fs::write(at.join("agentkernel.toml"), "[state]\nfile = 'state.db'\n").unwrap();
    fs::create_dir(at.join("below")).unwrap();
    prints(&with(&at.join("below"), &[], &put), "4\n");
    prints(&with(at, &["--state", "other.db"], &put), "1\n");
    let stopped = with(at, &["--timeout", "1s"], &format!("{put}\nwhile True: pass"));
    assert_eq!(stopped.status.code(), Some(124));
    prints(&with(at, &[], &put), "5\n");
    let output = with(at, &["--no-config"], &put);
    assert!(stderr(&output).contains("grant it with `--state FILE`"), "{}", stderr(&output));
    fs::write(at.join("agentkernel.toml"), "[state]\npath = 'state.db'\n").unwrap();
    refused(&with(at, &[], "1"), "unknown field `path`");
}

#[cfg(unix)]
#[test]
fn what_lasts_lies_where_the_program_cannot_write() {
    let directory = directory();
    let at = directory.path();
    fs::create_dir_all(at.join("work/skills")).unwrap();
    let refuses = |arguments: &[&str], what: &str| {
        let output = with(at, arguments, "1");
        refused(&output, what);
        assert!(stderr(&output).contains("may write to"), "{}", stderr(&output));
    };
    refuses(&["--workspace", "work", "--state", "work/state.db"], "the state `");
    assert!(!at.join("work/state.db").exists());
    refuses(&["--mount", ".:/d:rw", "--state", "state.db"], "the state `");
    refuses(&["--workspace", "work", "--skills", "work/skills"], "the directory of skills `");
    refuses(&["--workspace", "work/skills", "--skills-write", "work/skills"], "the directory of skills `");
    prints(&with(at, &["--workspace", "work", "--state", "state.db"], "print(1)"), "1\n");
    refused(&with(at, &["--skills", "absent"], "1"), "cannot open the directory `absent`");
}

/// All of a turn or nothing, however the process ends.
#[cfg(unix)]
#[test]
fn a_killed_process_leaves_whole_turns() {
    let directory = directory();
    let at = directory.path();
    let state = agentkernel_state(at);
    let mut last = -1i64;
    for round in 0..6u64 {
        let mut child = agentkernel(at)
            .args(["repl", "--state", "state.db", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let feeder = std::thread::spawn(move || {
            let _ = stdin.write_all(STATE.as_bytes());
            for turn in 0..100_000 {
                let number = round * 1_000_000 + turn;
                let line = format!("for i in range(40): state[f'k{{i}}'] = [{number}] * 50\n\n");
                if stdin.write_all(line.as_bytes()).is_err() {
                    break;
                }
            }
        });
        // Some turns, and some more.
        let deadline = Instant::now() + Duration::from_secs(60);
        while !state(last) {
            assert!(Instant::now() < deadline, "no turn is kept");
        }
        std::thread::sleep(Duration::from_millis(37 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        feeder.join().unwrap();
        let code = format!(
            "{STATE}values = {{tuple(state[k]) for k in state}}\nassert len(state) == 40 and len(values) == 1, values\n\
             value = set(*values)\nassert len(value) == 1\nprint(*value)"
        );
        let output = with(at, &["--state", "state.db"], &code);
        let now: i64 = stdout(&output).trim().parse().unwrap_or_else(|_| panic!("{}", stderr(&output)));
        assert!(now > last && now >= (round * 1_000_000) as i64, "{now} after {last}");
        last = now;
    }
}

/// Says whether a turn after the one of this number is kept.
fn agentkernel_state(at: &Path) -> impl Fn(i64) -> bool {
    let at = at.to_owned();
    move |number| {
        let code = format!("{STATE}print(state.get('k0', [-1])[0])");
        let output = with(&at, &["--state", "state.db"], &code);
        stdout(&output).trim().parse::<i64>().is_ok_and(|now| now > number)
    }
}

#[test]
fn skills_are_kept_shown_checked_and_removed() {
    let directory = directory();
    let at = directory.path();
    fs::create_dir(at.join("skills")).unwrap();
    let save = "from agentkernel import skills\nprint(skills.save('twice', 'def twice(x): return 2 * x', 'Doubles'))";
    prints(&with(at, &["--skills-write", "skills"], save), "twice (version 1): Doubles\n");
    let denied = with(at, &["--skills", "skills"], save);
    assert!(stderr(&denied).contains("grant it with `--skills-write DIR`"), "{}", stderr(&denied));
    let code = "from skills.twice import twice\nprint(twice(21))";
    prints(&with(at, &["--skills", "skills"], code), "42\n");
    fs::write(at.join("agentkernel.toml"), "[skills]\ndirectory = 'skills'\nwrite = true\n").unwrap();
    prints(&with(at, &[], save), "twice (version 1): Doubles\n");
    fs::write(at.join("skills/odd.py"), "\"\"\"\u{1b}]0;x\u{7}Odd\"\"\"\nx = '\u{202e}\u{1b}[2J'\n").unwrap();
    fs::write(at.join("skills/broken.py"), "def f(:\n").unwrap();
    let skill = |arguments: &[&str]| agentkernel(at).arg("skill").args(arguments).output().unwrap();
    prints(&skill(&["list"]), "broken  v1\nodd     v1  \\u{1b}]0;x\\u{7}Odd\ntwice   v1  Doubles\n");
    let json: Value = serde_json::from_str(&stdout(&skill(&["list", "--json"]))).unwrap();
    assert_eq!(json[2], serde_json::json!({"name": "twice", "description": "Doubles", "version": 1}));
    prints(&skill(&["search", "double"]), "twice  v1  Doubles\n");
    assert_eq!(skill(&["search", "zebra"]).status.code(), Some(1));
    prints(&skill(&["show", "twice", "--skills", "skills", "--no-config"]), "def twice(x): return 2 * x\n");
    assert!(stdout(&skill(&["show", "odd"])).contains("x = '\\u{202e}\\u{1b}[2J'"));
    let checked = skill(&["check"]);
    assert_eq!(checked.status.code(), Some(1));
    prints(&checked, "odd: compiles\ntwice: compiles\n");
    assert!(stderr(&checked).contains("error: broken: SyntaxError: "), "{}", stderr(&checked));
    assert_eq!(skill(&["check", "twice"]).status.code(), Some(0));
    assert_eq!(skill(&["rm", "broken", "odd"]).status.code(), Some(0));
    prints(&skill(&["list"]), "twice  v1  Doubles\n");
    refused(&skill(&["rm", "broken"]), "there is no skill `broken`");
    refused(&skill(&["show", "../twice"]), "cannot name a skill");
    refused(&skill(&["list", "--no-config"]), "there are no skills");
}

#[test]
fn models_are_not_shown_what_is_private() {
    let directory = directory();
    let at = directory.path();
    // The model says what it was shown, letter by letter.
    let script = "[[rule]]\nmatch = 'mail (\\S)(\\S+) of (\\S+)'\nreply = '$1 $2 | $3'\n";
    fs::write(at.join("script.toml"), script).unwrap();
    let configure = |table: &str| {
        let llm = format!("[llm]\nmodel = 'm'\nprovider = 'script:script.toml'\n{table}");
        fs::write(at.join("agentkernel.toml"), llm).unwrap();
    };
    let code = "from agentkernel import ask_llm\nprint(ask_llm('mail ada@example.com of E-123456'))";
    configure("");
    prints(&with(at, &[], code), "a da@example.com | E-123456\n");
    configure("[privacy]\n[privacy.patterns]\nemployee = 'E-\\d{6}'\n");
    // What it sets apart is a letter of the token, not of the address.
    prints(&with(at, &[], code), "ada@example.com | E-123456\n");
    let output = with(at, &["--json"], code);
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["usage"]["llm"]["m"]["hidden"], 2, "{report}");
    configure("[privacy]\nhide = ['phone']\n");
    prints(&with(at, &[], code), "a da@example.com | E-123456\n");
    for (table, message) in [
        ("[privacy]\nhide = ['mail']\n", "`mail` in `[privacy] hide` is nothing that is found"),
        ("[privacy]\nhide = []\n", "`[privacy]` hides nothing"),
        ("[privacy.patterns]\nx = '('\n", "the pattern `x` is no regular expression"),
        ("[privacy.patterns]\nx = 'a*'\n", "matches the empty text"),
        ("[privacy.patterns]\nemail = 'a'\n", "the name of another"),
        ("[privacy]\nhidden = ['email']\n", "unknown field `hidden`"),
    ] {
        configure(table);
        let output = with(at, &[], code);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(message), "{table}: {}", stderr(&output));
    }
}
