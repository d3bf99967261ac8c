//! Several clients that do what comes to their minds, all at once: nothing hangs, and no turn is lost or done twice.

use std::sync::Arc;
use std::time::Duration;

use agentkernel_mcp::ServerLimits;
use agentkernel_tests::kernel;
use serde_json::{Value, json};

use super::{LONG, builder, connect};

/// Numbers that are the same each time.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }
}

/// One client's steps in sessions of its own. `shared` is a session that others change too.
async fn steps(client: Arc<super::Client>, own: String, seed: u64, count: usize) {
    let mut random = Random(seed);
    // What the session must know, as long as nothing but this changes it.
    let mut known = 0;
    for step in 0..count {
        match random.below(8) {
            0..=2 => {
                let outcome = client.execute_in(&own, "n = globals().get('n', 0) + 1\nn").await;
                known += 1;
                assert_eq!(outcome["value"], known, "{own} at {step}: {outcome}");
            }
            3 => {
                let code = "n = -1\nwhile True: pass";
                let handle = client.begin("execute", json!({ "session": own, "code": code })).await;
                tokio::time::sleep(Duration::from_micros(random.below(20_000) as u64)).await;
                handle.cancel(None).await.unwrap();
            }
            4 if kernel().info().host_owned_memory => {
                let fork = client.ok("session_fork", json!({ "session": own })).await;
                let name = fork["name"].as_str().unwrap();
                assert_eq!(client.execute_in(name, "globals().get('n', 0)").await["value"], known);
                client.ok("session_close", json!({ "session": name })).await;
            }
            5 => {
                client.ok("session_reset", json!({ "session": own })).await;
                known = 0;
            }
            6 => {
                client.ok("session_close", json!({ "session": own })).await;
                client.ok("session_create", json!({ "name": own })).await;
                known = 0;
            }
            _ => {
                client.ok("session_list", json!({})).await;
                client.running.list_all_resources().await.unwrap();
                // Others reset and close it: how it ends is not known, that it ends is.
                let tool = ["execute", "session_reset", "session_fork"][random.below(3)];
                let arguments = match tool {
                    "execute" => json!({ "session": "shared", "code": "open(str(len(dir())), 'w').close()" }),
                    "session_fork" => json!({ "session": "shared", "name": "shared2" }),
                    _ => json!({ "session": "shared" }),
                };
                client.call(tool, arguments).await;
                client.call("session_close", json!({ "session": "shared2" })).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_done_at_once_nothing_hangs_and_nothing_is_lost() {
    let mut limits = ServerLimits::default();
    limits.idle = Some(Duration::from_secs(20));
    let server = builder().limits(limits).build().unwrap();
    let mut running = Vec::new();
    for seed in 1..=2u64 {
        let client = Arc::new(connect(&server).await);
        client.ok("session_create", json!({ "name": "shared" })).await;
        for part in 0..2 {
            let own = format!("own-{part}");
            client.ok("session_create", json!({ "name": own })).await;
            running.push(tokio::spawn(steps(Arc::clone(&client), own, seed * 10 + part, 80)));
        }
    }
    for client in running {
        tokio::time::timeout(2 * LONG, client).await.expect("it ends").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_of_sessions_that_are_kept() {
    if !kernel().info().host_owned_memory {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = builder().keep_sessions(directory.path()).build().unwrap();
    let client = Arc::new(connect(&server).await);
    client.ok("session_create", json!({ "name": "shared" })).await;
    let mut running = Vec::new();
    for part in 0..3 {
        let own = format!("own-{part}");
        client.ok("session_create", json!({ "name": own })).await;
        running.push(tokio::spawn(steps(Arc::clone(&client), own, 100 + part, 50)));
    }
    for client in running {
        tokio::time::timeout(2 * LONG, client).await.expect("it ends").unwrap();
    }
    let listed: Value = client.ok("session_list", json!({})).await;
    for session in listed["sessions"].as_array().unwrap() {
        let name = session["name"].as_str().unwrap();
        let files = std::fs::read_dir(directory.path().join(name)).unwrap().flatten();
        let images = files.filter(|file| file.path().extension().is_some_and(|end| end == "akimg")).count();
        assert!(images <= 1, "{name} has {images} memories");
    }
}
