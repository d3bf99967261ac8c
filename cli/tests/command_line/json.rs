//! What `--json` prints.

use super::*;

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
fn json_keeps_the_order_of_the_program() {
    let output = run(&["--json", "-c", "{\"b\": 1, \"a\": 2}"]);
    assert!(stdout(&output).contains(r#""value":{"b":1,"a":2}"#), "{}", stdout(&output));
}

#[test]
fn json_and_the_process_agree_about_the_exit_code() {
    let output = run(&["--json", "-c", "raise KeyboardInterrupt"]);
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&report["outcome"], &report["exit_code"]), (&"raised".into(), &130.into()));
    assert_eq!(output.status.code(), Some(130));
}

#[cfg(unix)]
#[test]
fn json_tells_which_signal_it_was() {
    let directory = directory();
    let child = agentkernel(directory.path())
        .args(["run", "--json", "--workspace", ".", "-c", "open('up', 'w').close()\nwhile True: pass"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    signals::wait_for(&directory.path().join("up"));
    signals::kill(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&report["outcome"], &report["exit_code"]), (&"cancelled".into(), &143.into()));
    assert_eq!(output.status.code(), Some(143));
}
