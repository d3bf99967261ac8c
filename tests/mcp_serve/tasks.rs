//! Tasks of clients.

use agentkernel::task::{Task, Tasks, Worker};
use agentkernel::{Grants, Overlay, Workspace};
use agentkernel_mcp::{Server, ServerLimits};
use agentkernel_tests::kernel;
use serde_json::{Value, json};

use super::{Client, builder, connect, until};

struct Place {
    directory: tempfile::TempDir,
    tasks: Tasks,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tasks = Tasks::open(directory.path().join("tasks.db")).unwrap();
        Place { directory, tasks }
    }

    fn server(&self) -> Server {
        builder().tasks(self.tasks.clone()).build().unwrap()
    }

    fn work(&self) -> Worker {
        self.tasks.worker(kernel()).concurrency(2).start().unwrap()
    }
}

async fn dispatch(client: &Client, arguments: Value) -> String {
    client.ok("task_dispatch", arguments).await["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_dispatched_and_waited_for() {
    let place = Place::new();
    let _worker = place.work();
    let client = connect(&place.server()).await;
    let code = "from agentkernel import task\nprint('working')\nsum(task.input)";
    let id = dispatch(&client, json!({ "code": code, "name": "sum", "input": [1, 2, 3] })).await;
    let ended = client.ok("task_wait", json!({ "id": id })).await;
    assert_eq!(
        (&ended["state"], &ended["result"], &ended["name"]),
        (&json!("succeeded"), &json!(6), &json!("sum"))
    );
    assert_eq!(ended["stdout"], "working\n");
    let status = client.ok("task_status", json!({ "id": id })).await;
    assert_eq!(status["result"], 6);
    // Another connection finds it too: tasks outlive connections.
    let other = connect(&place.server()).await;
    assert_eq!(other.ok("task_status", json!({ "id": id })).await["state"], "succeeded");
    let needs = dispatch(&client, json!({ "code": "1 / 0", "after": [id], "priority": 3 })).await;
    let failed = client.call("task_wait", json!({ "id": needs })).await;
    assert_eq!(failed.is_error, Some(true));
    assert!(super::text(&failed).contains("ZeroDivisionError"), "{}", super::text(&failed));
    assert_eq!(failed.structured_content.unwrap()["failure"]["exception"], "ZeroDivisionError");
    let listed = client.ok("task_list", json!({})).await;
    assert_eq!((listed["tasks"].as_array().unwrap().len(), &listed["has_more"]), (2, &json!(false)));
    let listed = client.ok("task_list", json!({ "states": ["failed"] })).await;
    assert_eq!(listed["tasks"][0]["id"], needs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_cancelled_and_a_wait_for_it_ends() {
    let place = Place::new();
    let _worker = place.work();
    let client = connect(&place.server()).await;
    let code = "from agentkernel import task\ntask.progress(0.5, 'half')\nwhile True: pass";
    let id = dispatch(&client, json!({ "code": code })).await;
    until(async || client.ok("task_status", json!({ "id": id })).await["progress"] == 0.5).await;
    let still = client.ok("task_wait", json!({ "id": id, "timeout_seconds": 0.1 })).await;
    assert_eq!(still["state"], "running");
    let waiting = client.begin("task_wait", json!({ "id": id, "timeout_seconds": 50 })).await;
    until(async || {
        client
            .listener
            .heard()
            .iter()
            .any(|told| told.message.as_ref().is_some_and(|message| message.contains("50 %")))
    })
    .await;
    client.ok("task_cancel", json!({ "id": id })).await;
    let rmcp::model::ServerResult::CallToolResult(ended) = waiting.await_response().await.unwrap() else {
        panic!()
    };
    assert_eq!(ended.structured_content.unwrap()["state"], "cancelled");
    // A wait that is given up leaves the task alone.
    let id = dispatch(&client, json!({ "code": "import time\ntime.sleep(0.5)\n7" })).await;
    client.begin("task_wait", json!({ "id": id })).await.cancel(None).await.unwrap();
    assert_eq!(client.ok("task_wait", json!({ "id": id })).await["result"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_others_are_not_the_clients() {
    let place = Place::new();
    let own = place.tasks.dispatch(Task::new("'secret'").name("mine")).await.unwrap();
    let client = connect(&place.server()).await;
    for (tool, id) in [
        ("task_status", own.as_str()),
        ("task_wait", own.as_str()),
        ("task_cancel", own.as_str()),
        ("task_status", "mcp-"),
        ("task_cancel", "mcp-../x"),
        ("task_wait", ""),
    ] {
        let said = client.refused(tool, json!({ "id": id })).await;
        assert!(said.contains("there is no task"), "{tool}: {said}");
    }
    let said = client.refused("task_dispatch", json!({ "code": "1", "after": [own.as_str()] })).await;
    assert!(said.contains("there is no task"), "{said}");
    let id = dispatch(&client, json!({ "code": "1" })).await;
    let listed = client.ok("task_list", json!({})).await;
    assert_eq!((listed["tasks"].as_array().unwrap().len(), &listed["tasks"][0]["id"]), (1, &json!(id)));
    // A program in a session dispatches tasks of its own.
    let outcome = client.execute("from agentkernel import task\ntask.dispatch('1').id").await;
    assert_eq!(outcome["outcome"], "completed", "{outcome}");
    drop(place.directory);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tasks_may_be_is_bounded() {
    let place = Place::new();
    let mut limits = ServerLimits::default();
    (limits.unfinished_tasks, limits.listed) = (3, 2);
    let client = connect(&builder().tasks(place.tasks.clone()).limits(limits).build().unwrap()).await;
    for wrong in [
        json!({ "code": "1", "timeout_seconds": 1e9 }),
        json!({ "code": "1", "timeout_seconds": 0 }),
        json!({ "code": "1", "priority": 1000 }),
        json!({ "code": "1".repeat(2 << 20) }),
        json!({ "code": "1", "name": "a\nb" }),
        json!({ "code": "\0" }),
        json!({ "code": "1", "retries": 101 }),
        json!({ "code": "1", "after": ["mcp-absent"] }),
    ] {
        client.refused("task_dispatch", wrong).await;
    }
    for _ in 0..3 {
        dispatch(&client, json!({ "code": "1" })).await;
    }
    let said = client.refused("task_dispatch", json!({ "code": "1" })).await;
    assert!(said.contains("3 tasks that have not ended"), "{said}");
    let listed = client.ok("task_list", json!({})).await;
    let page = listed["tasks"].as_array().unwrap();
    assert_eq!((page.len(), &listed["has_more"]), (2, &json!(true)));
    let rest = client.ok("task_list", json!({ "before": page[1]["id"] })).await;
    assert_eq!((rest["tasks"].as_array().unwrap().len(), &rest["has_more"]), (1, &json!(false)));
    let said = client.refused("task_list", json!({ "states": ["odd"] })).await;
    assert!(said.contains("waiting, ready, running"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_an_overlay_tasks_have_directories_of_their_own() {
    let place = Place::new();
    let _worker = place.work();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("old"), "old").unwrap();
    let workspace = Workspace::Overlay(Overlay::over(directory.path()).unwrap());
    let grants = Grants { workspace, limits: agentkernel_tests::limits(), ..Grants::default() };
    let client = connect(&builder().grants(grants).tasks(place.tasks.clone()).build().unwrap()).await;
    let id = dispatch(&client, json!({ "code": "import os\nos.listdir()" })).await;
    assert_eq!(client.ok("task_wait", json!({ "id": id })).await["result"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_of_a_task_is_cut() {
    let place = Place::new();
    let _worker = place.work();
    let mut limits = ServerLimits::default();
    limits.text_bytes = 4000;
    let client = connect(&builder().tasks(place.tasks.clone()).limits(limits).build().unwrap()).await;
    for code in ["{'x' * 10_000}", "raise ValueError('x' * 10_000)"] {
        let id = dispatch(&client, json!({ "code": code })).await;
        let ended = super::text(&client.call("task_wait", json!({ "id": id })).await);
        assert!(ended.contains("bytes are left out here") && ended.len() < 2500, "{ended}");
    }
}
