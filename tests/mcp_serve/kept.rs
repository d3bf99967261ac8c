//! Sessions that outlive connections and servers.

use std::path::Path;

use agentkernel::{Grants, Overlay, Workspace};
use agentkernel_mcp::{Server, ServerLimits};
use agentkernel_tests::kernel;
use serde_json::json;

use super::{Client, builder, connect};

fn server(directory: &Path) -> Server {
    builder().keep_sessions(directory).build().unwrap()
}

async fn value(client: &Client, code: &str) -> serde_json::Value {
    client.execute(code).await["value"].clone()
}

/// Whether this kernel can keep sessions; one that cannot says so.
fn can_keep(directory: &Path) -> bool {
    if kernel().info().host_owned_memory {
        return true;
    }
    let error = builder().keep_sessions(directory).build().err().unwrap();
    assert!(error.to_string().contains("cannot be kept"), "{error}");
    false
}

#[tokio::test]
async fn a_turn_whose_outcome_was_told_is_there_in_the_next_server() {
    let directory = tempfile::tempdir().unwrap();
    if !can_keep(directory.path()) {
        return;
    }
    let first = connect(&server(directory.path())).await;
    let outcome = first
        .execute("squares = (n * n for n in range(10))\nnext(squares)\nopen('f', 'w').write('file')")
        .await;
    assert_eq!(outcome["saved"], true);
    first.ok("session_create", json!({ "name": "quick", "timeout_seconds": 0.4 })).await;
    first.execute_in("quick", "x = 'quick'").await;
    first.ok("session_fork", json!({ "name": "fork" })).await;
    first.execute_in("fork", "open('f', 'w').write('forked')").await;
    drop(first);
    let (client, server) = reopened(directory.path()).await;
    assert_eq!(value(&client, "next(squares), open('f').read()").await, json!([1, "file"]));
    assert_eq!(client.execute_in("quick", "x").await["value"], "quick");
    assert_eq!(client.execute_in("quick", "while True: pass").await["outcome"], "timed-out");
    assert_eq!(
        client.execute_in("fork", "next(squares), open('f').read()").await["value"],
        json!([1, "forked"])
    );
    let listed = client.ok("session_list", json!({})).await;
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 3);
    // Another connection has the same.
    let other = connect(&server).await;
    assert_eq!(value(&other, "next(squares)").await, 4);
    other.ok("session_close", json!({ "session": "fork" })).await;
    other.ok("session_reset", json!({})).await;
    drop((client, other, server));
    let (client, _server) = reopened(directory.path()).await;
    assert_eq!(value(&client, "'squares' in globals()").await, false);
    client.refused("execute", json!({ "code": "1", "session": "fork" })).await;
    assert!(!directory.path().join("fork").exists());
}

/// A server on a directory that another one has just let go of.
async fn reopened(directory: &Path) -> (Client, Server) {
    let made = std::cell::RefCell::new(None);
    super::until(async || {
        *made.borrow_mut() = builder().keep_sessions(directory).build().ok();
        made.borrow().is_some()
    })
    .await;
    let server = made.into_inner().unwrap();
    (connect(&server).await, server)
}

#[tokio::test]
async fn a_state_that_cannot_be_kept_is_told() {
    let directory = tempfile::tempdir().unwrap();
    if !can_keep(directory.path()) {
        return;
    }
    let client = connect(&server(directory.path())).await;
    client.execute("x = 1").await;
    let outcome = client.execute("x = 2\nheld = open('f', 'w')").await;
    assert_eq!((&outcome["kept"], &outcome["saved"]), (&json!(true), &json!(false)));
    assert!(outcome["note"].as_str().unwrap().contains("not on disk"), "{outcome}");
    let outcome = client.execute("held.close()\nx").await;
    assert_eq!(
        (&outcome["value"], &outcome["saved"], &outcome["note"]),
        (&json!(2), &json!(true), &json!(null))
    );
}

#[tokio::test]
async fn a_stopped_turn_leaves_what_is_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    if !can_keep(directory.path()) {
        return;
    }
    let mut grants = Grants { limits: agentkernel_tests::limits(), ..Grants::default() };
    grants.limits.timeout = Some(std::time::Duration::from_millis(500));
    let client = connect(&builder().grants(grants).keep_sessions(directory.path()).build().unwrap()).await;
    // That it is at its beginning is on disk too.
    assert_eq!(client.execute("while True: pass").await["saved"], true);
    client.execute("x = 1").await;
    let outcome = client.execute("x = 2\nwhile True: pass").await;
    assert_eq!((&outcome["rolled_back"], &outcome["saved"]), (&json!(true), &json!(true)));
    // One that cannot go back goes on from the disk.
    client.execute("x = 3").await;
    client.execute("held = open('f', 'w')\nx = 4").await;
    let outcome = client.execute("while True: pass").await;
    assert!(outcome["note"].as_str().unwrap().contains("from what is on disk"), "{outcome}");
    assert_eq!(value(&client, "x").await, 3);
}

#[tokio::test]
async fn one_server_at_a_time_keeps_sessions_in_a_directory_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    if !can_keep(directory.path()) {
        return;
    }
    let first = server(directory.path());
    let error = builder().keep_sessions(directory.path()).build().err().unwrap();
    assert!(error.to_string().contains("another server") && error.remedy().is_some(), "{error}");
    drop(first);
    let overlay = Workspace::Overlay(Overlay::over(directory.path()).unwrap());
    let grants = Grants { workspace: overlay, ..Grants::default() };
    let over =
        builder().grants(grants).keep_sessions(directory.path().join("sessions")).build().err().unwrap();
    assert!(over.to_string().contains("with an overlay"), "{over}");
    let grants = Grants { workspace: Workspace::Directory(directory.path().to_owned()), ..Grants::default() };
    let inside =
        builder().grants(grants).keep_sessions(directory.path().join("sessions")).build().err().unwrap();
    assert!(inside.to_string().contains("programs may write to"), "{inside}");
    let workspace = directory.path().join("sessions/default/workspace");
    std::fs::create_dir_all(&workspace).unwrap();
    let grants = Grants { workspace: Workspace::Directory(workspace), ..Grants::default() };
    let around =
        builder().grants(grants).keep_sessions(directory.path().join("sessions")).build().err().unwrap();
    assert!(around.to_string().contains("programs may write to"), "{around}");
}

#[tokio::test]
async fn a_directory_of_other_things_is_not_one_of_sessions() {
    let directory = tempfile::tempdir().unwrap();
    if !can_keep(directory.path()) {
        return;
    }
    let precious = directory.path().join("src/precious");
    std::fs::create_dir(precious.parent().unwrap()).unwrap();
    std::fs::write(&precious, "text").unwrap();
    let error = builder().keep_sessions(directory.path()).build().err().unwrap();
    assert!(error.to_string().contains("holds something else than sessions"), "{error}");
    assert!(error.remedy().is_some() && precious.exists());
    // What says that it is one is a file of ours, and nothing that leads elsewhere.
    let marker = directory.path().join(".agentkernel-sessions");
    std::os::unix::fs::symlink(&precious, &marker).unwrap();
    assert!(builder().keep_sessions(directory.path()).build().is_err());
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "text");
    std::fs::remove_file(marker).unwrap();
    // What is one of sessions stays one.
    let sessions = directory.path().join("sessions");
    drop(server(&sessions));
    drop(server(&sessions));
}

#[tokio::test]
async fn damage_is_told_and_a_reset_mends_it() {
    let directory = tempfile::tempdir().unwrap();
    if !can_keep(directory.path()) {
        return;
    }
    let client = connect(&server(directory.path())).await;
    client.execute("x = 1").await;
    drop(client);
    let head = directory.path().join("default/head.json");
    let (client, server) = reopened(directory.path()).await;
    std::fs::write(&head, "{").unwrap();
    let said = client.refused("execute", json!({ "code": "x" })).await;
    assert!(said.contains("cannot be read") && said.contains("session_reset"), "{said}");
    client.ok("session_reset", json!({})).await;
    assert_eq!(value(&client, "'x' in globals()").await, false);
    client.execute("x = 2").await;
    drop((client, server));
    let image =
        std::fs::read_dir(directory.path().join("default")).unwrap().flatten().map(|entry| entry.path());
    let image = image.filter(|path| path.extension().is_some_and(|end| end == "akimg")).collect::<Vec<_>>();
    assert_eq!(image.len(), 1, "{image:?}");
    let (client, _server) = reopened(directory.path()).await;
    std::fs::write(&image[0], "no image").unwrap();
    let said = client.refused("execute", json!({ "code": "x" })).await;
    assert!(said.contains("cannot be taken up"), "{said}");
    client.ok("session_close", json!({ "session": "default" })).await;
    assert_eq!(value(&client, "1").await, 1);
}

#[tokio::test]
async fn what_is_left_of_a_session_that_was_being_removed_is_nobodys() {
    let directory = tempfile::tempdir().unwrap();
    if !can_keep(directory.path()) {
        return;
    }
    drop(server(directory.path()));
    let leave = |name: &str| {
        let workspace = directory.path().join(name).join("workspace");
        std::fs::create_dir_all(&workspace).unwrap();
        std::fs::write(workspace.join("left"), "of another").unwrap();
    };
    for name in ["default", "made", "fork"] {
        leave(name);
    }
    let client = connect(&server(directory.path())).await;
    assert!(client.ok("session_list", json!({})).await["sessions"].as_array().unwrap().is_empty());
    client.ok("session_create", json!({ "name": "made" })).await;
    let look = "import os\nos.listdir()";
    assert_eq!(value(&client, look).await, json!([]));
    assert_eq!(client.execute_in("made", look).await["value"], json!([]));
    client.ok("session_fork", json!({ "name": "fork" })).await;
    assert_eq!(client.execute_in("fork", look).await["value"], json!([]));
}

#[tokio::test]
async fn names_of_one_file_are_names_of_one_in_a_fork_too() {
    let directory = tempfile::tempdir().unwrap();
    if !can_keep(directory.path()) {
        return;
    }
    let client = connect(&server(directory.path())).await;
    let code = "import os\nopen('first', 'w').write('text')\nos.link('first', 'second')";
    assert_eq!(client.execute(code).await["outcome"], "completed");
    client.ok("session_fork", json!({ "name": "fork" })).await;
    let copy = std::fs::metadata(directory.path().join("fork/workspace/second")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::nlink(&copy), 2);
    let look = "os.path.samefile('first', 'second'), open('second').read()";
    assert_eq!(client.execute_in("fork", look).await["value"], json!([true, "text"]));
}

#[tokio::test]
async fn a_session_that_is_being_closed_is_not_taken_up_again() {
    let directory = tempfile::tempdir().unwrap();
    if !can_keep(directory.path()) {
        return;
    }
    let client = connect(&server(directory.path())).await;
    client.execute("x = 1").await;
    let runs = client.begin("execute", json!({ "code": "print('begun')\nwhile True: pass" })).await;
    super::until(async || !client.listener.heard().is_empty()).await;
    let mut calls = Vec::new();
    for (tool, arguments) in [
        ("session_close", json!({ "session": "default" })),
        ("session_close", json!({ "session": "default" })),
        ("execute", json!({ "code": "x" })),
        ("session_create", json!({ "name": "default" })),
    ] {
        calls.push(client.begin(tool, arguments).await);
    }
    let mut refused = Vec::new();
    for call in calls {
        let rmcp::model::ServerResult::CallToolResult(result) = call.await_response().await.unwrap() else {
            panic!()
        };
        refused.push(result.is_error == Some(true));
    }
    assert_eq!(refused, [false, true, true, true]);
    runs.await_response().await.unwrap();
    assert!(!directory.path().join("default").exists());
    assert_eq!(value(&client, "'x' in globals()").await, false);
}

#[tokio::test]
async fn what_is_not_on_disk_does_not_end_as_idle() {
    let directory = tempfile::tempdir().unwrap();
    if !can_keep(directory.path()) {
        return;
    }
    let mut limits = ServerLimits::default();
    limits.idle = Some(std::time::Duration::from_millis(100));
    let client = connect(&builder().keep_sessions(directory.path()).limits(limits).build().unwrap()).await;
    assert_eq!(client.execute("x = 1\nheld = open('f', 'w')").await["saved"], false);
    client.ok("session_create", json!({ "name": "other" })).await;
    // One that is on disk alone is idle for no time that is known.
    super::until(async || {
        let listed = client.ok("session_list", json!({})).await;
        listed["sessions"][1]["idle_seconds"] == 0.0
    })
    .await;
    let outcome = client.execute("held.close()\nx").await;
    assert_eq!((&outcome["value"], &outcome["saved"]), (&json!(1), &json!(true)));
}

#[tokio::test]
async fn sessions_on_disk_are_bounded_as_well() {
    let directory = tempfile::tempdir().unwrap();
    if !can_keep(directory.path()) {
        return;
    }
    let mut limits = ServerLimits::default();
    (limits.sessions, limits.idle) = (2, Some(std::time::Duration::from_millis(100)));
    let client = connect(&builder().keep_sessions(directory.path()).limits(limits).build().unwrap()).await;
    client.execute("x = 1").await;
    client.ok("session_create", json!({ "name": "second" })).await;
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    client.refused("session_create", json!({ "name": "third" })).await;
    assert!(!directory.path().join("third").exists());
    // What ended in memory meanwhile goes on from the disk.
    assert_eq!(value(&client, "x").await, 1);
}
