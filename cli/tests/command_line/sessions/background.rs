//! `session new --tasks`: tasks that are a session's in all its turns.

use super::*;

fn tasks(at: &Path, arguments: &[&str]) -> Output {
    let mut command = agentkernel(at);
    command.args(["task", arguments[0], "--store", "tasks.db"]).args(&arguments[1..]).output().unwrap()
}

const DOUBLE: &str = "from agentkernel import task\ndef double(n):\n    return 2 * n\n";

#[test]
fn tasks_live_over_turns_forks_and_processes() {
    let directory = directory();
    let at = directory.path();
    said(at, &["new", "s", "--tasks=tasks.db"]);
    assert_eq!(
        turn(at, "s", &format!("{DOUBLE}first = task.dispatch(double, 21)\nprint(first.result())")),
        "42\n"
    );
    // One that is left, and waited for in another process.
    let left = session(at, &["run", "s", "-c", "slow = task.dispatch('import time\\ntime.sleep(0.5)\\n7')"]);
    assert_eq!(left.status.code(), Some(0), "{}", stderr(&left));
    assert!(stderr(&left).contains("1 task left in"), "{}", stderr(&left));
    assert_eq!(
        turn(at, "s", "print(slow.result(), first.status().state, len(task.list()))"),
        "7 succeeded 2\n"
    );
    // Or run by a worker meanwhile.
    session(at, &["run", "s", "-q", "-c", "other = task.dispatch('1 + 1', priority=3)"]);
    assert_eq!(tasks(at, &["work", "--drain", "-q"]).status.code(), Some(0));
    assert_eq!(turn(at, "s", "print(other.status().result)"), "2\n");
    // A fork has what there is in common with it; others see nothing.
    said(at, &["fork", "s", "t"]);
    assert_eq!(turn(at, "t", "print(other.result(), len(task.list()))"), "2 3\n");
    let id = turn(at, "s", "print(other.id)");
    said(at, &["new", "stranger", "--tasks=tasks.db"]);
    let code = format!("from agentkernel import task\nprint(task.list())\ntask.get({:?})", id.trim());
    let output = session(at, &["run", "stranger", "-c", &code]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), "[]\n"));
    assert!(stderr(&output).contains("there is no task"), "{}", stderr(&output));
    // Nor does a session that takes the name.
    said(at, &["rm", "s"]);
    said(at, &["new", "s", "--tasks=tasks.db"]);
    assert_eq!(turn(at, "s", "from agentkernel import task\nprint(task.list())"), "[]\n");
}

#[test]
fn what_a_turn_that_was_taken_back_has_dispatched_stays() {
    let directory = directory();
    let at = directory.path();
    said(at, &["new", "s", "--tasks=tasks.db", "--timeout", "3s"]);
    turn(at, "s", "from agentkernel import task\nn = 1");
    let code = "n = 2\ntask.dispatch('1', name='kept').result()\nwhile True: pass";
    assert_eq!(session(at, &["run", "s", "-c", code]).status.code(), Some(124));
    assert_eq!(turn(at, "s", "print(n, [one.status().name for one in task.list()])"), "1 ['kept']\n");
    // A task that is not awaited is no handle that memory holds.
    assert_eq!(turn(at, "s", "one = task.dispatch('2'); print(one.result())"), "2\n");
    // Replayed, they are dispatched once more, and what memory has of them is what was dispatched then.
    let replayed = session(at, &["replay", "s"]);
    assert_eq!(replayed.status.code(), Some(1), "{}{}", stdout(&replayed), stderr(&replayed));
    assert!(stdout(&replayed).contains("turn 3: its output was `1 ['kept']"), "{}", stdout(&replayed));
    assert_eq!(turn(at, "s", "print(n, one.result(), len(task.list()))"), "1 2 3\n");
}

#[test]
fn tasks_work_where_the_session_does() {
    let directory = directory();
    let at = directory.path();
    let code = "from agentkernel import task\nopen('f', 'w').write('here')\n\
                print(task.dispatch('import os\\nopen(\"made\", \"w\").close()\\nos.listdir()').result())";
    said(at, &["new", "own", "--tasks=tasks.db"]);
    assert_eq!(turn(at, "own", code), "['f', 'made']\n");
    assert_eq!(turn(at, "own", "import os; print(sorted(os.listdir()))"), "['f', 'made']\n");
    // With an overlay they have directories of their own.
    said(at, &["new", "apart", "--overlay", "--tasks=tasks.db"]);
    assert_eq!(turn(at, "apart", code), "['made']\n");
}

#[test]
fn tasks_are_granted_by_flag_or_file_alone_and_never_beside_their_store() {
    let directory = directory();
    let at = directory.path();
    fs::create_dir(at.join("work")).unwrap();
    let asked = "from agentkernel import task\ntask.dispatch('1')";
    said(at, &["new", "none"]);
    let output = session(at, &["run", "none", "-c", asked]);
    assert!(stderr(&output).contains("no background tasks are granted"), "{}", stderr(&output));
    refused(&session(at, &["new", "s", "--workspace", "work", "--tasks=work/tasks.db"]), "tasks.db");
    fs::write(at.join("junk.db"), "this is no database at all, whatever its name").unwrap();
    let output = session(at, &["new", "s", "--tasks=junk.db"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("junk.db"), "{}", stderr(&output));
    // The store is that of where the session was made, and so is the file.
    fs::create_dir(at.join("elsewhere")).unwrap();
    fs::write(
        at.join("elsewhere/agentkernel.toml"),
        "[tasks]\nprograms = true\nstore = 'here.db'\nmax-dispatched = 2\n",
    )
    .unwrap();
    let new = command(at, &["new", "s"]).current_dir(at.join("elsewhere")).output().unwrap();
    assert_eq!(new.status.code(), Some(0), "{}", stderr(&new));
    assert_eq!(turn(at, "s", "from agentkernel import task\nprint(task.dispatch('1').result())"), "1\n");
    assert!(at.join("elsewhere/here.db").exists());
    // The limits are those of all turns together.
    assert_eq!(turn(at, "s", "print(task.dispatch('2').result())"), "2\n");
    let output = session(at, &["run", "s", "-c", "task.dispatch('3')"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("TaskError"), "{}", stderr(&output));
    // A store that is gone is made anew, and memory has tasks that are nowhere.
    for file in fs::read_dir(at.join("elsewhere")).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("here.db") {
            fs::remove_file(file.path()).unwrap();
        }
    }
    assert_eq!(turn(at, "s", "print(task.list(), task.dispatch('4').result())"), "[] 4\n");
}
