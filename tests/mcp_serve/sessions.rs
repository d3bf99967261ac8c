//! Sessions: made, listed, forked, reset, closed, bounded, and each client's own.

use std::time::Duration;

use agentkernel_mcp::ServerLimits;
use agentkernel_tests::kernel;
use serde_json::{Value, json};

use super::{builder, client, connect, until};

fn names(listed: &Value) -> Vec<&str> {
    listed["sessions"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn sessions_are_made_listed_and_closed() {
    let client = client().await;
    let listed = client.ok("session_list", json!({})).await;
    assert_eq!((names(&listed), &listed["most"]), (vec![], &json!(32)));
    client.execute("x = 1").await;
    let made = client
        .ok("session_create", json!({ "name": "work", "timeout_seconds": 5, "memory_bytes": 128 << 20 }))
        .await;
    assert_eq!((&made["timeout_seconds"], &made["memory_bytes"]), (&json!(5.0), &json!(128 << 20)));
    let unnamed = client.ok("session_create", json!({})).await;
    let unnamed = unnamed["name"].as_str().unwrap().to_owned();
    assert_eq!(client.execute_in("work", "x").await["error"]["type"], "NameError");
    client.execute_in("work", "x = 2").await;
    assert_eq!(client.execute("x").await["value"], 1);
    let listed = client.ok("session_list", json!({})).await;
    assert_eq!(names(&listed), ["default", &unnamed, "work"]);
    assert_eq!(listed["sessions"][2]["turns"], 2);
    client.ok("session_close", json!({ "session": "work" })).await;
    let said = client.refused("execute", json!({ "code": "1", "session": "work" })).await;
    assert!(said.contains("there is no session `work`") && said.contains("`default`"), "{said}");
    let said = client.refused("session_close", json!({ "session": "work" })).await;
    assert!(said.contains("there is no session"), "{said}");
    // The default one is made again when it is needed.
    client.ok("session_close", json!({ "session": "default" })).await;
    assert_eq!(client.execute("'x' in globals()").await["value"], false);
}

#[tokio::test]
async fn limits_of_a_session_are_its_own_and_never_wider() {
    let client = client().await;
    client.ok("session_create", json!({ "name": "quick", "timeout_seconds": 0.3 })).await;
    let outcome = client.execute_in("quick", "while True: pass").await;
    assert_eq!(outcome["outcome"], "timed-out");
    for wrong in [
        json!({ "timeout_seconds": 3600 }),
        json!({ "timeout_seconds": 0 }),
        json!({ "timeout_seconds": -1 }),
        json!({ "memory_bytes": 1_u64 << 40 }),
        json!({ "memory_bytes": 1 }),
        json!({ "name": "../x" }),
        json!({ "name": "default2", "limit": 1 }),
    ] {
        let said = client.refused("session_create", wrong.clone()).await;
        assert!(said.contains("hint: "), "{wrong}: {said}");
    }
    // What is left out may be sent as nothing.
    let made = client.ok("session_create", json!({ "name": "", "timeout_seconds": null })).await;
    assert_eq!(made["name"], "s1");
    assert_eq!(client.execute_in("", "1").await["session"], "default");
    client.ok("session_create", json!({ "name": "twice" })).await;
    let said = client.refused("session_create", json!({ "name": "twice" })).await;
    assert!(said.contains("already"), "{said}");
}

#[tokio::test]
async fn a_fork_goes_its_own_way() {
    if !kernel().info().host_owned_memory {
        return;
    }
    let client = client().await;
    client
        .execute(
            "rows = [1]\nsquares = (n * n for n in range(10))\nnext(squares)\nopen('f', 'w').write('text')",
        )
        .await;
    let fork = client.ok("session_fork", json!({ "name": "fork" })).await;
    assert_eq!((&fork["name"], &fork["turns"]), (&json!("fork"), &json!(1)));
    client.execute_in("fork", "rows.append(2)").await;
    client.execute("rows.append(3)").await;
    assert_eq!(
        client.execute_in("fork", "print(open('f').read())\n[rows, next(squares)]").await["value"],
        json!([[1, 2], 1])
    );
    assert_eq!(client.execute("[rows, next(squares)]").await["value"], json!([[1, 3], 1]));
    // Its output is bounded and told as that of any other.
    assert_eq!(client.execute_in("fork", "print('heard')").await["stdout"], "heard\n");
    let second = client.ok("session_fork", json!({ "session": "fork" })).await;
    assert_eq!(client.execute_in(second["name"].as_str().unwrap(), "rows").await["value"], json!([1, 2]));
    client.execute("held = open('f')").await;
    let said = client.refused("session_fork", json!({})).await;
    assert!(said.contains("open") && said.contains("hint"), "{said}");
    let said = client.refused("session_fork", json!({ "session": "absent" })).await;
    assert!(said.contains("there is no session"), "{said}");
    assert_eq!(client.execute("held.close()\nrows").await["value"], json!([1, 3]));
}

#[tokio::test]
async fn a_reset_begins_anew_and_stops_what_runs() {
    let client = client().await;
    client.execute("x = 1").await;
    let runs = client.begin("execute", json!({ "code": "print('begun')\nwhile True: pass" })).await;
    until(async || !client.listener.heard().is_empty()).await;
    let reset = client.ok("session_reset", json!({})).await;
    assert_eq!((&reset["name"], &reset["turns"]), (&json!("default"), &json!(0)));
    let rmcp::model::ServerResult::CallToolResult(stopped) = runs.await_response().await.unwrap() else {
        panic!()
    };
    assert_eq!(stopped.structured_content.unwrap()["outcome"], "cancelled");
    let outcome = client.execute("'x' in globals()").await;
    assert_eq!((&outcome["value"], &outcome["turn"]), (&json!(false), &json!(1)));
}

#[tokio::test]
async fn a_reset_does_not_wait_for_those_who_wait_and_is_not_lost_before_the_first_turn() {
    let client = client().await;
    let mut calls = Vec::new();
    for _ in 0..6 {
        calls.push(client.begin("execute", json!({ "code": "while True: pass" })).await);
    }
    // The session is still being started: there is no turn yet.
    client.ok("session_reset", json!({})).await;
    for call in calls {
        let rmcp::model::ServerResult::CallToolResult(ended) = call.await_response().await.unwrap() else {
            panic!()
        };
        match &ended.structured_content {
            None => assert!(super::text(&ended).contains("was reset or closed"), "{ended:?}"),
            Some(outcome) => assert_eq!(outcome["outcome"], "cancelled"),
        }
    }
    assert_eq!(client.execute("1 + 1").await["value"], 2);
}

#[tokio::test]
async fn closing_a_session_stops_its_turn() {
    let client = client().await;
    client.ok("session_create", json!({ "name": "busy" })).await;
    let runs = client
        .begin("execute", json!({ "session": "busy", "code": "print('begun')\nwhile True: pass" }))
        .await;
    until(async || !client.listener.heard().is_empty()).await;
    let listed = client.ok("session_list", json!({})).await;
    assert_eq!(listed["sessions"][0]["running"], true);
    client.ok("session_close", json!({ "session": "busy" })).await;
    let rmcp::model::ServerResult::CallToolResult(stopped) = runs.await_response().await.unwrap() else {
        panic!()
    };
    assert_eq!(stopped.structured_content.unwrap()["outcome"], "cancelled");
}

#[tokio::test]
async fn there_are_no_more_sessions_than_there_may_be() {
    let mut limits = ServerLimits::default();
    limits.sessions = 3;
    let server = builder().limits(limits).build().unwrap();
    let (one, other) = (connect(&server).await, connect(&server).await);
    one.execute("1").await;
    one.ok("session_create", json!({})).await;
    one.ok("session_fork", json!({})).await;
    for refused in [
        one.refused("session_create", json!({})).await,
        one.refused("session_fork", json!({})).await,
        other.refused("execute", json!({ "code": "1" })).await,
    ] {
        assert!(refused.contains("3 sessions") && refused.contains("session_close"), "{refused}");
    }
    one.ok("session_close", json!({ "session": "default" })).await;
    assert_eq!(other.execute("1").await["value"], 1);
    // What a client had is free when it has gone.
    other.running.cancel().await.unwrap();
    until(async || one.call("session_create", json!({})).await.is_error != Some(true)).await;
}

#[tokio::test]
async fn calls_that_wait_are_bounded() {
    let client = client().await;
    let code = "import time\nprint('begun')\nwhile True: time.sleep(0.01)";
    let runs = client.begin("execute", json!({ "code": code })).await;
    until(async || !client.listener.heard().is_empty()).await;
    let mut waiting = Vec::new();
    for _ in 0..70 {
        waiting.push(client.begin("execute", json!({ "code": "1" })).await);
    }
    let said = client.refused("session_list", json!({})).await;
    assert!(said.contains("not answered yet"), "{said}");
    // Who looks at files calls as well.
    let listed = client.running.list_resources(None).await.unwrap_err().to_string();
    assert!(listed.contains("not answered yet"), "{listed}");
    let uri = rmcp::model::ReadResourceRequestParams::new("workspace:///f");
    let read = client.running.read_resource(uri).await.unwrap_err().to_string();
    assert!(read.contains("not answered yet"), "{read}");
    runs.cancel(None).await.unwrap();
    for call in waiting {
        call.await_response().await.unwrap();
    }
    client.ok("session_list", json!({})).await;
}

#[tokio::test]
async fn sessions_that_nobody_uses_end() {
    let mut limits = ServerLimits::default();
    limits.idle = Some(Duration::from_millis(300));
    let client = connect(&builder().limits(limits).build().unwrap()).await;
    client.execute("x = 1").await;
    // One that works is used.
    let outcome = client.execute("import time\ntime.sleep(1)\nx").await;
    assert_eq!(outcome["value"], 1);
    until(async || names(&client.ok("session_list", json!({})).await).is_empty()).await;
    assert_eq!(client.execute("'x' in globals()").await["value"], false);
}

#[tokio::test]
async fn a_client_has_no_part_in_the_sessions_of_another() {
    let server = builder().build().unwrap();
    let (one, other) = (connect(&server).await, connect(&server).await);
    one.execute("secret = 'one'").await;
    one.ok("session_create", json!({ "name": "private" })).await;
    assert_eq!(other.execute("'secret' in globals()").await["value"], false);
    assert_eq!(names(&other.ok("session_list", json!({})).await), ["default"]);
    for (tool, arguments) in [
        ("execute", json!({ "code": "1", "session": "private" })),
        ("session_fork", json!({ "session": "private" })),
        ("session_reset", json!({ "session": "private" })),
        ("session_close", json!({ "session": "private" })),
    ] {
        let said = other.refused(tool, arguments).await;
        assert!(said.contains("there is no session `private`"), "{tool}: {said}");
    }
    assert!(
        other
            .running
            .read_resource(rmcp::model::ReadResourceRequestParams::new("workspace://private/x"))
            .await
            .is_err()
    );
    other.ok("session_create", json!({ "name": "private" })).await;
    assert_eq!(one.execute("secret").await["value"], "one");
}
