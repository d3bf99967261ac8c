//! `agentkernel task`, and programs with `--tasks`.

use super::*;

/// The binary with a store of its own in `directory`.
fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = agentkernel(directory);
    command.env("AGENTKERNEL_TASK_STORE", directory.join("tasks.db")).args(arguments);
    command
}

fn task(directory: &Path, arguments: &[&str]) -> Output {
    command(directory, &["task"]).args(arguments).output().unwrap()
}

fn said(directory: &Path, arguments: &[&str]) -> String {
    let output = task(directory, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    stdout(&output).trim_end().to_owned()
}

fn json(directory: &Path, arguments: &[&str]) -> Value {
    let output = task(directory, arguments);
    serde_json::from_str(stdout(&output).trim()).unwrap_or_else(|_| panic!("{}", stderr(&output)))
}

fn state(directory: &Path, id: &str) -> String {
    json(directory, &["status", "--json", id])["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_task_is_dispatched_run_by_a_worker_and_told_of() {
    let directory = directory();
    let place = directory.path();
    fs::write(
        place.join("report.py"),
        "import sys\nfrom agentkernel import task\ntask.progress(0.5, 'half')\nprint('out', sys.argv)\nprint('err', file=sys.stderr)\n{'got': task.input}",
    )
    .unwrap();
    let id = said(place, &["dispatch", "--input", "[1, 2]", "--priority", "7", "report.py", "a", "--b"]);
    assert_eq!(id.len(), 17);
    assert_eq!(state(place, &id), "ready");
    assert!(said(place, &["list"]).contains("report.py"), "{}", said(place, &["list"]));
    let output = task(place, &["work", "--drain", "--quiet"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let status = json(place, &["status", "--json", &id]);
    assert_eq!(status["result"], serde_json::json!({"got": [1, 2]}));
    assert_eq!(
        (&status["state"], &status["priority"], &status["attempts"]),
        (&"succeeded".into(), &7.into(), &1.into())
    );
    assert_eq!((&status["progress"], &status["message"]), (&0.5.into(), &"half".into()));
    let output = task(place, &["logs", &id]);
    assert_eq!(stdout(&output), "out ['report.py', 'a', '--b']\n");
    assert_eq!(stderr(&output), "err\n");
    let text = said(place, &["status", &id]);
    for part in
        ["state      succeeded", "result     {\"got\":[1,2]}", "progress   50 % half", "name       report.py"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(said(place, &["wait", &id]), format!("{id}  succeeded"));
    assert_eq!(said(place, &["list", "--state", "failed", "--json"]), "[]");
    assert_eq!(json(place, &["list", "--json"]).as_array().unwrap().len(), 1);
    assert_eq!(said(place, &["prune"]), "0 tasks removed");
    assert_eq!(json(place, &["prune", "--older-than", "0s", "--json"]), serde_json::json!({"removed": 1}));
    let output = task(place, &["status", &id]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("there is no task"), "{}", stderr(&output));
}

#[test]
fn dispatch_waits_with_a_worker_of_its_own() {
    let directory = directory();
    let place = directory.path();
    let output = task(
        place,
        &["dispatch", "--wait", "-c", "import sys\nprint('out')\nprint('err', file=sys.stderr)\n6 * 7"],
    );
    assert_eq!(
        (output.status.code(), stdout(&output).as_str(), stderr(&output).as_str()),
        (Some(0), "out\n", "err\n")
    );
    let status = json(place, &["dispatch", "--wait", "--json", "-c", "print('out')\n6 * 7"]);
    assert_eq!((&status["result"], &status["state"]), (&42.into(), &"succeeded".into()));
    let output =
        task(place, &["dispatch", "--wait", "--retries", "1", "--backoff", "0s", "-c", "print('x')\n1 / 0"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), "x\nx\n"));
    let told = stderr(&output);
    assert!(
        told.contains("Traceback") && told.contains("failed: ZeroDivisionError: division by zero"),
        "{told}"
    );
    // With what `run` would be granted, and no more.
    fs::create_dir(place.join("data")).unwrap();
    fs::write(place.join("data/helper.py"), "x = 5").unwrap();
    fs::write(
        place.join("data/main.py"),
        "import helper, os\nopen('/workspace/made', 'w').close()\nos.environ['A']",
    )
    .unwrap();
    let output = task(place, &["dispatch", "--wait", "--json", "-w", "data", "--env", "A=b", "data/main.py"]);
    let status: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(status["result"], "b", "{status}");
    assert!(place.join("data/made").exists());
    let output = task(place, &["dispatch", "--wait", "--timeout", "200ms", "-c", "while True: pass"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("time limit of 0.2 s"), "{}", stderr(&output));
}

#[test]
fn dependencies_waits_and_cancellation() {
    let directory = directory();
    let place = directory.path();
    let first = said(place, &["dispatch", "--id", "first", "-c", "1"]);
    assert_eq!(first, "first");
    let second = said(place, &["dispatch", "--after", "first", "-c", "2"]);
    assert_eq!(said(place, &["dispatch", "--id", "first", "-c", "other"]), "first");
    assert_eq!(json(place, &["list", "--json"]).as_array().unwrap().len(), 2);
    let output = task(place, &["wait", "--timeout", "100ms", &second]);
    assert_eq!(output.status.code(), Some(124));
    assert_eq!(said(place, &["cancel", "first"]), "first  cancelled");
    assert_eq!(state(place, &second), "failed");
    let output = task(place, &["wait", "first", &second, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[1]["failure"]["kind"], "dependency-failed");
    assert_eq!(
        json(place, &["cancel", "first", "--json"]),
        serde_json::json!({"id": "first", "state": "cancelled"})
    );
}

#[test]
fn misuse_is_refused_with_a_remedy() {
    let directory = directory();
    let place = directory.path();
    fs::write(place.join("some.db"), b"SQLite format 3\0\xff").unwrap();
    for (arguments, message) in [
        (&["dispatch", "some.db"][..], "a store of tasks is named with `=`: `--tasks=FILE`"),
        (&["dispatch", "--tools", ".", "-c", "1"], "`--tools` has no effect without `--wait`"),
        (&["dispatch"][..], "nothing to run"),
        (&["dispatch", "absent.py"], "cannot read the script"),
        (&["dispatch", "--input", "{", "-c", "1"], "the input is not JSON"),
        (&["dispatch", "--after", "nobody", "-c", "1"], "there is no task `nobody` to wait for"),
        (&["dispatch", "--id", "a/b", "-c", "1"], "cannot be the name of a task"),
        (&["dispatch", "--name", "a\u{1b}[31m", "-c", "1"], "cannot be named `a\\u{1b}[31m`"),
        (&["dispatch", "--priority", "101", "-c", "1"], "priority 101"),
        (&["dispatch", "-w", ".", "-c", "1"], "which the program may write to"),
        (&["dispatch", "-w", "absent", "-c", "1"], "absent"),
        (&["status", "nobody"], "there is no task `nobody`"),
        (&["cancel", "nobody"], "there is no task `nobody`"),
        (&["logs", "nobody"], "there is no task `nobody`"),
        (&["wait", "nobody"], "there is no task `nobody`"),
        (&["list", "--state", "sleeping"], "use one of waiting, ready"),
        (&["list", "--store", "absent/tasks.db"], "there is no store of tasks `absent/tasks.db`"),
        (&["work", "--concurrency", "0"], "invalid value"),
    ] {
        let output = task(place, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains('\u{1b}'), "{arguments:?}");
    }
    fs::write(place.join("tasks.db"), "this is not a database at all ".repeat(100)).unwrap();
    for arguments in [&["list"][..], &["work"], &["dispatch", "-c", "1"]] {
        let output = task(place, arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            stderr(&output).contains("not a database") && stderr(&output).contains("hint:"),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn the_store_is_found_where_it_is_configured() {
    let directory = directory();
    let place = directory.path();
    let dispatch = |variables: &[(&str, &Path)], arguments: &[&str]| {
        let mut command = agentkernel(place);
        command.env_remove("XDG_DATA_HOME").envs(variables.iter().copied());
        let output = command.args(["task", "dispatch", "-c", "1"]).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    };
    dispatch(&[("HOME", &place.join("home"))], &[]);
    assert!(place.join("home/.local/share/agentkernel/tasks.db").is_file());
    dispatch(&[("HOME", &place.join("home")), ("XDG_DATA_HOME", &place.join("xdg"))], &[]);
    assert!(place.join("xdg/agentkernel/tasks.db").is_file());
    dispatch(&[("XDG_DATA_HOME", &place.join("xdg")), ("AGENTKERNEL_DATA_DIR", &place.join("own"))], &[]);
    assert!(place.join("own/tasks.db").is_file());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(place.join("own")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
    fs::write(place.join("agentkernel.toml"), "[tasks]\nstore = \"configured.db\"\n").unwrap();
    dispatch(&[("AGENTKERNEL_DATA_DIR", &place.join("other"))], &[]);
    assert!(place.join("configured.db").is_file() && !place.join("other").exists());
    dispatch(&[], &["--store", "named.db"]);
    assert!(place.join("named.db").is_file());
    fs::write(place.join("agentkernel.toml"), "[tasks]\nstores = \"configured.db\"\n").unwrap();
    let output = agentkernel(place).args(["task", "list"]).output().unwrap();
    assert!(stderr(&output).contains("agentkernel.toml:2:1`: unknown field `stores`"), "{}", stderr(&output));
}

#[test]
fn programs_dispatch_tasks_where_that_is_granted() {
    let directory = directory();
    let place = directory.path();
    let code = "from agentkernel import task\ndef double(x): return 2 * x\nprint(task.dispatch(double, 21).result())";
    let output = command(place, &["run", "--tasks=tasks.db", "-c", code]).output().unwrap();
    assert_eq!(stdout(&output), "42\n", "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    let output = command(place, &["run", "-c", code]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("grant them with `--tasks`"), "{}", stderr(&output));
    // The user's own store, and what is left there.
    let code = "from agentkernel import task\nprint(task.dispatch('import time; time.sleep(30)').id)";
    let mut left = agentkernel(place);
    left.env("AGENTKERNEL_DATA_DIR", place.join("own"));
    let output = left.args(["run", "--tasks", "-c", code]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("1 task left in"), "{}", stderr(&output));
    let store = place.join("own/tasks.db");
    let store = store.to_str().unwrap();
    let status = json(place, &["status", "--json", stdout(&output).trim(), "--store", store]);
    assert_eq!((&status["state"], &status["attempts"]), (&"ready".into(), &0.into()));
    fs::write(
        place.join("agentkernel.toml"),
        "[tasks]\nstore = \"tasks.db\"\nprograms = true\nmax-unfinished = 2\n",
    )
    .unwrap();
    let code = "from agentkernel import task\nfor _ in range(3): task.dispatch('import time; time.sleep(9)')";
    let output = command(place, &["run", "-c", code]).output().unwrap();
    assert!(stderr(&output).contains("2 tasks of this program have not ended"), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn a_worker_that_is_terminated_gives_its_tasks_back() {
    let directory = directory();
    let place = directory.path();
    let id = said(place, &["dispatch", "-c", "print('up', flush=True)\nimport time\ntime.sleep(60)"]);
    let runs = || {
        let deadline = Instant::now() + Duration::from_secs(60);
        while state(place, &id) != "running" {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    for signal in ["INT", "TERM"] {
        let mut worker = command(place, &["task", "work", "--quiet"]).spawn().unwrap();
        runs();
        signals::kill(&worker, signal);
        assert_eq!(worker.wait().unwrap().code(), Some(0));
        let status = json(place, &["status", "--json", &id]);
        assert_eq!((&status["state"], &status["attempts"]), (&"ready".into(), &0.into()));
    }
    // Followed and cancelled from other processes.
    let mut worker = command(place, &["task", "work", "--quiet"]).spawn().unwrap();
    let mut follows = command(place, &["task", "logs", "--follow", &id]);
    let mut follows = follows.stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    follows.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    assert_eq!(&up, b"up\n");
    // What it reads may be of an attempt before.
    runs();
    assert_eq!(said(place, &["cancel", &id]), format!("{id}  is to stop"));
    let output = task(place, &["wait", &id, "--timeout", "30s"]);
    assert!(stdout(&output).contains("cancelled"), "{}", stdout(&output));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(follows.wait().unwrap().code(), Some(0));
    signals::kill(&worker, "TERM");
    worker.wait().unwrap();
}

/// Every attempt of a task writes lines into the task's file: an attempt that goes on while the next one runs
/// would be seen in their order.
#[cfg(unix)]
#[test]
fn workers_that_are_killed_lose_no_task_and_run_none_twice_at_once() {
    const TASKS: usize = 120;
    const LINES: usize = 6;
    const KILLS: usize = 12;
    let directory = directory();
    let place = directory.path();
    let out = place.join("out");
    fs::create_dir(&out).unwrap();
    let code = format!(
        "from agentkernel import task\nimport time\nwith open(task.id, 'a') as file:\n    for n in range({LINES}):\n        print(task.attempt, n, file=file, flush=True)\n        time.sleep(0.03)\ntask.attempt"
    );
    let workspace = agentkernel::Workspace::Directory(out.clone());
    let grants = agentkernel::Grants { workspace, ..agentkernel::Grants::default() };
    let tasks = agentkernel::task::Tasks::open(place.join("tasks.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let many = (0..TASKS).map(|_| agentkernel::task::Task::new(&code).grants(grants.clone())).collect();
    let ids = runtime.block_on(tasks.dispatch_all(many)).unwrap();

    let work = ["task", "work", "--quiet", "--lease", "1s", "--concurrency", "2"];
    let start = || command(place, &work).stderr(Stdio::null()).spawn().unwrap();
    let mut workers: Vec<_> = (0..3).map(|_| start()).collect();
    let mut kills = 0;
    let deadline = Instant::now() + Duration::from_secs(240);
    let mut began = 0;
    while runtime.block_on(tasks.unfinished()).unwrap() > 0 {
        assert!(Instant::now() < deadline, "{kills} kills, {:?}", runtime.block_on(tasks.unfinished()));
        std::thread::sleep(Duration::from_millis(50));
        // At any moment, but only after something was done: a busy machine starts processes slowly.
        let files = fs::read_dir(&out).unwrap().count();
        if kills < KILLS && files > began + 2 {
            began = files;
            let mut worker = workers.remove(kills % workers.len());
            worker.kill().unwrap();
            worker.wait().unwrap();
            kills += 1;
            workers.push(start());
        }
    }
    for mut worker in workers {
        signals::kill(&worker, "TERM");
        assert_eq!(worker.wait().unwrap().code(), Some(0));
    }
    assert!(kills >= KILLS / 2, "{kills}");
    let mut again = 0;
    for id in &ids {
        let status = runtime.block_on(tasks.status(id)).unwrap();
        assert_eq!(status.state, agentkernel::task::TaskState::Succeeded, "{status:?}");
        let text = fs::read_to_string(out.join(id.as_str())).unwrap();
        let lines: Vec<(u32, usize)> = text
            .lines()
            .map(|line| {
                let (attempt, number) = line.split_once(' ').unwrap();
                (attempt.parse().unwrap(), number.parse().unwrap())
            })
            .collect();
        assert!(lines.is_sorted(), "{id}: {text}");
        let last: Vec<usize> = lines
            .iter()
            .filter(|(attempt, _)| *attempt == status.attempts)
            .map(|(_, number)| *number)
            .collect();
        assert_eq!(last, (0..LINES).collect::<Vec<_>>(), "{id}: {text}");
        again += usize::from(status.attempts > 1);
    }
    assert!(again > 0, "no kill hit a task");
}
