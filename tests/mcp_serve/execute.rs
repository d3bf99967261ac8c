//! `execute`: outcomes, output, limits, progress, cancellation.

use std::time::Duration;

use rmcp::service::ServiceError;
use serde_json::{Value, json};

use super::{LONG, client, connect, text, until, with_limits};

#[tokio::test]
async fn a_turn_gives_its_value_and_its_output() {
    let client = client().await;
    let result = client
        .call(
            "execute",
            json!({ "code": "import sys\nprint('out')\nprint('err', file=sys.stderr)\n[1, 'x']" }),
        )
        .await;
    assert_eq!(result.is_error, Some(false));
    let read = text(&result);
    assert!(read.starts_with("out\n") && read.contains("err") && read.ends_with("[1, 'x']"), "{read}");
    let outcome = result.structured_content.unwrap();
    assert_eq!(outcome["outcome"], "completed");
    assert_eq!(outcome["value"], json!([1, "x"]));
    assert_eq!(outcome["repr"], "[1, 'x']");
    assert_eq!((&outcome["stdout"], &outcome["stderr"]), (&json!("out\n"), &json!("err\n")));
    assert_eq!((&outcome["session"], &outcome["turn"]), (&json!("default"), &json!(1)));
    assert_eq!((&outcome["kept"], &outcome["rolled_back"]), (&json!(true), &json!(false)));
    assert_eq!(
        (&outcome["error"], &outcome["exit_code"], &outcome["saved"]),
        (&Value::Null, &json!(0), &Value::Null)
    );
    assert!(
        outcome["usage"]["output_bytes"] == 8 && outcome["usage"]["wall_seconds"].as_f64().unwrap() > 0.0
    );
}

#[tokio::test]
async fn what_a_turn_defines_is_there_in_the_next() {
    let client = client().await;
    client.execute("import json\nx = [20]\ndef double(n): return 2 * n").await;
    let outcome = client.execute("double(x[0]) + 2").await;
    assert_eq!((&outcome["value"], &outcome["turn"]), (&json!(42), &json!(2)));
    let outcome = client.execute("import asyncio\nawait asyncio.sleep(0.01, 'slept')").await;
    assert_eq!(outcome["value"], "slept");
}

#[tokio::test]
async fn what_a_program_does_wrong_is_a_result_and_no_error_of_the_protocol() {
    let client = client().await;
    let result = client.call("execute", json!({ "code": "def f():\n    return {}['missing']\nf()" })).await;
    assert_eq!(result.is_error, Some(true));
    assert!(text(&result).contains("KeyError: 'missing'"), "{}", text(&result));
    let outcome = result.structured_content.unwrap();
    assert_eq!((&outcome["outcome"], &outcome["exit_code"]), (&json!("raised"), &json!(1)));
    assert_eq!(outcome["error"]["type"], "KeyError");
    assert_eq!(outcome["error"]["frames"][1]["function"], "f");
    assert_eq!(outcome["kept"], true);
    for (code, exit_code) in [("raise SystemExit", 0), ("import sys; sys.exit(3)", 3)] {
        let result = client.call("execute", json!({ "code": code })).await;
        let outcome = result.structured_content.unwrap();
        assert_eq!((&outcome["outcome"], &outcome["exit_code"]), (&json!("exited"), &json!(exit_code)));
        assert_eq!(result.is_error, Some(exit_code != 0));
    }
    let outcome = client.execute("def broken(:").await;
    assert_eq!(outcome["error"]["type"], "SyntaxError");
    assert_eq!(client.execute("'\\0'").await["value"], "\0");
    assert_eq!(client.execute("a\0b").await["outcome"], "raised");
}

#[tokio::test]
async fn a_turn_that_is_stopped_leaves_the_session_as_it_was() {
    let client =
        connect(&with_limits(|limits| limits.timeout = Some(Duration::from_millis(500))).build().unwrap())
            .await;
    client.execute("x = 1").await;
    let outcome = client.execute("x = 2\nwhile True: pass").await;
    assert_eq!((&outcome["outcome"], &outcome["exit_code"]), (&json!("timed-out"), &json!(124)));
    assert!(outcome["error"]["message"].as_str().unwrap().contains("500ms"), "{outcome}");
    assert_eq!((&outcome["kept"], &outcome["rolled_back"]), (&json!(false), &json!(true)));
    assert_eq!(client.execute("x").await["value"], 1);
    let client = super::client().await;
    let outcome = client.execute("x = 3\nblocks = []\nwhile True: blocks.append(bytearray(1 << 24))").await;
    // Where Python could still raise it, it is an exception.
    assert!(["out-of-memory", "raised"].contains(&outcome["outcome"].as_str().unwrap()), "{outcome}");
}

#[tokio::test]
async fn a_session_that_cannot_go_back_begins_anew_and_says_so() {
    let client =
        connect(&with_limits(|limits| limits.timeout = Some(Duration::from_millis(500))).build().unwrap())
            .await;
    client.execute("x = 1\nheld = open('file', 'w')").await;
    let outcome = client.execute("while True: pass").await;
    assert_eq!((&outcome["kept"], &outcome["rolled_back"]), (&json!(false), &json!(false)));
    assert!(outcome["note"].as_str().unwrap().contains("begins anew"), "{outcome}");
    assert_eq!(client.execute("x").await["error"]["type"], "NameError");
}

#[tokio::test]
async fn output_is_bounded_in_each_turn_and_not_over_the_life_of_the_session() {
    let client = connect(&with_limits(|limits| limits.output_bytes = 1000).build().unwrap()).await;
    for _ in 0..3 {
        let outcome = client.execute("print('x' * 5000)").await;
        let stdout = outcome["stdout"].as_str().unwrap();
        assert!(stdout.starts_with("xxx") && stdout.contains("the output limit of 1000 bytes"), "{stdout}");
        assert!(stdout.len() < 1200);
        assert_eq!(outcome["usage"]["output_dropped_bytes"], 4001);
        assert_eq!(client.execute("print('short')").await["stdout"], "short\n");
    }
}

#[tokio::test]
async fn what_a_model_reads_is_short_however_much_there_is() {
    let client = client().await;
    let code = "print('a' * 500_000)\nprint('the end')\nraise ValueError('b' * 500_000)";
    let result = client.call("execute", json!({ "code": code })).await;
    let read = text(&result);
    assert!(read.len() < 70_000 && read.contains("the end") && read.contains("bytes are left out here"));
    let outcome = result.structured_content.unwrap();
    assert_eq!(outcome["stdout"].as_str().unwrap().len(), 500_009);
    assert!(outcome["error"]["message"].as_str().unwrap().len() < 20_000);
    let deep = "def f(n): f(n - 1) if n else 1 / 0\nf(500)";
    let outcome = client.execute(deep).await;
    assert!(outcome["error"]["frames"].as_array().unwrap().len() <= 100);
    let outcome = client.execute("{1: object}").await;
    assert_eq!((&outcome["value"], &outcome["repr"]), (&Value::Null, &json!("{1: <class 'object'>}")));
}

#[tokio::test]
async fn output_is_told_while_the_program_runs() {
    let client = client().await;
    let code = "import time\nfor n in range(6):\n    print('step', n, 'ä')\n    time.sleep(0.1)\n'done'";
    let handle = client.begin("execute", json!({ "code": code })).await;
    until(async || !client.listener.heard().is_empty()).await;
    let token = handle.progress_token.clone();
    handle.await_response().await.unwrap();
    let heard = client.listener.heard();
    assert!(heard.len() >= 2, "{heard:?}");
    assert!(heard.iter().all(|told| told.progress_token == token));
    assert!(heard.windows(2).all(|pair| pair[0].progress < pair[1].progress), "{heard:?}");
    let told: String = heard.iter().filter_map(|told| told.message.clone()).collect();
    assert_eq!(told, (0..6).map(|n| format!("step {n} ä\n")).collect::<String>());
}

#[tokio::test]
async fn a_cancelled_request_stops_its_turn_and_the_session_lives_on() {
    let client = client().await;
    client.execute("x = 1").await;
    for code in [
        "x = 2\nwhile True: pass",
        "x = 3\nimport time\ntime.sleep(1000)",
        "x = 4\nimport asyncio\nawait asyncio.sleep(1000)",
    ] {
        let marked = format!("print('begun')\n{code}");
        let before = client.listener.heard().len();
        let handle = client.begin("execute", json!({ "code": marked })).await;
        until(async || client.listener.heard().len() > before).await;
        handle.cancel(Some("not needed any more".into())).await.unwrap();
        // The next turn waits for the one before it, and is not stopped with it.
        let outcome = tokio::time::timeout(LONG, client.execute("x")).await.unwrap();
        assert_eq!(outcome["value"], 1, "{code}");
    }
}

#[tokio::test]
async fn a_cancellation_at_any_time_stops_no_other_turn() {
    let client = client().await;
    client.execute("n = 0").await;
    let mut counted = 0;
    for pause in 0..60u64 {
        let handle = client.begin("execute", json!({ "code": "n += 1" })).await;
        tokio::time::sleep(Duration::from_micros(pause * 50)).await;
        let _ = handle.cancel(None).await;
        let outcome = client.execute("n").await;
        assert_eq!(outcome["outcome"], "completed", "{outcome}");
        let now = outcome["value"].as_i64().unwrap();
        assert!(now == counted || now == counted + 1, "{now} after {counted}");
        counted = now;
    }
}

#[tokio::test]
async fn turns_of_a_session_wait_for_each_other_and_those_of_others_do_not() {
    let client = client().await;
    client.ok("session_create", json!({ "name": "other" })).await;
    client.execute("import time\nseen = []").await;
    let slow =
        client.begin("execute", json!({ "code": "print('begun')\ntime.sleep(0.5)\nseen.append(1)" })).await;
    until(async || !client.listener.heard().is_empty()).await;
    let (other, next) = tokio::join!(client.execute_in("other", "1"), client.execute("seen.append(2)\nseen"));
    assert_eq!(other["value"], 1);
    assert_eq!(next["value"], json!([1, 2]));
    slow.await_response().await.unwrap();
}

#[tokio::test]
async fn a_request_that_waits_for_its_turn_can_be_cancelled() {
    let client = client().await;
    let slow = client
        .begin("execute", json!({ "code": "import time\nprint('begun')\ntime.sleep(1)\nran = []" }))
        .await;
    until(async || !client.listener.heard().is_empty()).await;
    let waiting = client.begin("execute", json!({ "code": "ran.append(1)" })).await;
    waiting.cancel(None).await.unwrap();
    slow.await_response().await.unwrap();
    assert_eq!(client.execute("ran").await["value"], json!([]));
}

#[tokio::test]
async fn a_client_of_the_newest_protocol_is_served_as_well() {
    use rmcp::model::ProtocolVersion;
    use rmcp::service::{ClientLifecycleMode, ClientServiceExt};
    let server = super::builder().build().unwrap();
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (read, write) = tokio::io::split(theirs);
    tokio::spawn(async move { server.serve(read, write, std::future::pending()).await });
    let versions = vec![ProtocolVersion::V_2026_07_28];
    let lifecycle = ClientLifecycleMode::Discover { preferred_versions: versions };
    let listener = super::Listener::default();
    let running = listener.clone().serve_with_lifecycle(ours, lifecycle).await.unwrap();
    let client = super::Client { running, listener };
    client.execute("x = 41").await;
    assert_eq!(client.execute("x + 1").await["value"], 42);
    let handle = client.begin("execute", json!({ "code": "print('begun')\nwhile True: pass" })).await;
    until(async || !client.listener.heard().is_empty()).await;
    handle.cancel(None).await.unwrap();
    assert_eq!(client.execute("x").await["value"], 41);
    let unknown = client.running.call_tool(super::params("none", json!({}))).await;
    assert!(matches!(unknown, Err(ServiceError::McpError(_))));
}
