//! Files of workspaces as resources.

use agentkernel::{Grants, Overlay, Workspace};
use agentkernel_mcp::ServerLimits;
use rmcp::model::{
    ClientRequest, ListResourcesRequest, PaginatedRequestParams, ReadResourceRequestParams, ResourceContents,
};

use super::{Client, builder, client, connect};

async fn read(client: &Client, uri: &str) -> Result<ResourceContents, String> {
    let read = client.running.read_resource(ReadResourceRequestParams::new(uri)).await;
    read.map(|result| result.contents[0].clone()).map_err(|error| error.to_string())
}

async fn text(client: &Client, uri: &str) -> String {
    match read(client, uri).await.unwrap() {
        ResourceContents::TextResourceContents { text, .. } => text,
        other => panic!("{other:?}"),
    }
}

async fn list(client: &Client) -> Vec<String> {
    client.running.list_all_resources().await.unwrap().into_iter().map(|resource| resource.uri).collect()
}

#[tokio::test]
async fn files_of_the_default_session_are_listed_and_read() {
    let client = client().await;
    assert!(list(&client).await.is_empty());
    let code = "import os\nos.makedirs('a/b')\nopen('a/b/x.csv', 'w').write('1,2')\nopen('a b ü.txt', 'w').write('ä')\n\
                open('data.bin', 'wb').write(bytes(range(256)))\nos.symlink('data.bin', 'link')\nopen('z.md', 'w').write('# z')";
    assert_eq!(client.execute(code).await["outcome"], "completed");
    assert_eq!(
        list(&client).await,
        [
            "workspace:///a/b/x.csv",
            "workspace:///a%20b%20%C3%BC.txt",
            "workspace:///data.bin",
            "workspace:///z.md"
        ]
    );
    assert_eq!(text(&client, "workspace:///a/b/x.csv").await, "1,2");
    assert_eq!(text(&client, "workspace:///a%20b%20%C3%BC.txt").await, "ä");
    assert_eq!(text(&client, "workspace:///a/../z.md").await, "# z");
    let ResourceContents::BlobResourceContents { blob, mime_type, .. } =
        read(&client, "workspace:///link").await.unwrap()
    else {
        panic!()
    };
    assert_eq!(mime_type.as_deref(), Some("application/octet-stream"));
    assert!(blob.starts_with("AAECAwQF") && blob.ends_with("/P3+/w=="), "{blob}");
    let templates = client.running.list_all_resource_templates().await.unwrap();
    assert!(templates.iter().any(|template| template.uri_template == "workspace:///{+path}"));
    let resource = &client.running.list_all_resources().await.unwrap()[0];
    assert_eq!((resource.mime_type.as_deref(), resource.size), (Some("text/csv"), Some(3)));
}

#[tokio::test]
async fn no_address_leads_out_of_the_workspace() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let directory = outside.path().join("work");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("inside"), "inside").unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../secret", directory.join("up")).unwrap();
        std::os::unix::fs::symlink("/etc", directory.join("etc")).unwrap();
        std::os::unix::fs::symlink("inside", directory.join("within")).unwrap();
        make_pipe(&directory.join("pipe"));
    }
    let grants = Grants { workspace: Workspace::Directory(directory), ..Grants::default() };
    let client = connect(&builder().grants(grants).build().unwrap()).await;
    assert_eq!(text(&client, "workspace:///inside").await, "inside");
    assert_eq!(text(&client, "workspace:///within").await, "inside");
    for uri in [
        "workspace:///../secret",
        "workspace:///%2e%2e/secret",
        "workspace:///..%2Fsecret",
        "workspace:///x/../../secret",
        "workspace:////etc/passwd",
        "workspace:///%2Fetc/passwd",
        "workspace:///up",
        "workspace:///etc/passwd",
        "workspace:///pipe",
        "workspace:///.",
        "workspace:///",
        "workspace:///inside%00",
        "workspace:///absent",
        "workspace://..//secret",
        "workspace://default/../../secret",
        "file:///etc/passwd",
        "/etc/passwd",
        "",
    ] {
        let error = read(&client, uri).await.expect_err(uri);
        assert!(!error.contains(&*outside.path().to_string_lossy()), "{uri}: {error}");
    }
    let long = format!("workspace:///{}", "a/".repeat(100_000));
    assert!(read(&client, &long).await.unwrap_err().len() < 1000);
    let listed = list(&client).await;
    assert_eq!(listed, ["workspace:///inside"], "links and pipes are left out");
}

/// A pipe, which would keep a reader waiting.
#[cfg(unix)]
fn make_pipe(path: &std::path::Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.is_ok_and(|status| status.success()));
}

#[tokio::test]
async fn lists_are_pages_and_large_files_are_refused() {
    let mut limits = ServerLimits::default();
    (limits.listed, limits.resource_bytes) = (10, 1000);
    let directory = tempfile::tempdir().unwrap();
    for number in 0..25 {
        let below = directory.path().join(format!("d{}", number % 3));
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(below.join(format!("f{number:02}")), "x").unwrap();
    }
    std::fs::create_dir(directory.path().join(".hidden")).unwrap();
    std::fs::write(directory.path().join(".hidden/file"), "hidden").unwrap();
    std::fs::write(directory.path().join("large"), "x".repeat(1001)).unwrap();
    std::fs::write(directory.path().join("fits"), "x".repeat(1000)).unwrap();
    let grants = Grants { workspace: Workspace::Directory(directory.path().into()), ..Grants::default() };
    let client = connect(&builder().grants(grants).limits(limits).build().unwrap()).await;
    let first = client.running.list_resources(None).await.unwrap();
    assert_eq!(first.resources.len(), 10);
    let all = list(&client).await;
    assert_eq!(all.len(), 27);
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
    for cursor in ["", "x", "workspace:///../..", "workspace://"] {
        let page = PaginatedRequestParams::default().with_cursor(Some(cursor.to_owned()));
        // A cursor is a place in an order; what is none is refused.
        let _ = client.running.list_resources(Some(page)).await;
    }
    assert_eq!(text(&client, "workspace:///.hidden/file").await, "hidden");
    assert_eq!(text(&client, "workspace:///fits").await.len(), 1000);
    let error = read(&client, "workspace:///large").await.unwrap_err();
    assert!(error.contains("more than 1000 bytes"), "{error}");
}

#[tokio::test]
async fn each_session_has_its_own_temporary_files() {
    let client = client().await;
    client.execute("open('a', 'w').write('default')").await;
    client.ok("session_create", serde_json::json!({ "name": "work" })).await;
    client.execute_in("work", "open('b', 'w').write('work')").await;
    assert_eq!(list(&client).await, ["workspace:///a", "workspace://work/b"]);
    assert_eq!(text(&client, "workspace://work/b").await, "work");
    assert!(read(&client, "workspace:///b").await.is_err());
    client.ok("session_close", serde_json::json!({ "session": "work" })).await;
    assert!(read(&client, "workspace://work/b").await.is_err());
    assert_eq!(list(&client).await, ["workspace:///a"]);
}

#[tokio::test]
async fn what_an_overlay_changes_is_seen_and_not_in_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("old"), "old").unwrap();
    let overlay = Overlay::over(directory.path()).unwrap();
    let grants = Grants { workspace: Workspace::Overlay(overlay), ..Grants::default() };
    let client = connect(&builder().grants(grants).build().unwrap()).await;
    client.execute("open('old', 'a').write(' and new')\nopen('new', 'w').write('new')").await;
    assert_eq!(list(&client).await, ["workspace:///new", "workspace:///old"]);
    assert_eq!(text(&client, "workspace:///old").await, "old and new");
    assert_eq!(std::fs::read_to_string(directory.path().join("old")).unwrap(), "old");
}

#[tokio::test]
async fn a_flood_of_lists_takes_nothing_from_others() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..500 {
        std::fs::write(directory.path().join(format!("f{number:03}")), "x").unwrap();
    }
    let grants = Grants { workspace: Workspace::Directory(directory.path().into()), ..Grants::default() };
    let server = builder().grants(grants).build().unwrap();
    let (one, other) = (connect(&server).await, connect(&server).await);
    for _ in 0..200 {
        let list = ClientRequest::ListResourcesRequest(ListResourcesRequest::default());
        // Nobody waits for what it gives.
        drop(
            one.running
                .send_cancellable_request(list, rmcp::service::PeerRequestOptions::no_options())
                .await
                .unwrap(),
        );
    }
    assert_eq!(list(&other).await.len(), 500);
    assert_eq!(text(&other, "workspace:///f499").await, "x");
    super::until(async || one.running.list_resources(None).await.is_ok()).await;
}

#[tokio::test]
async fn files_are_read_while_a_turn_runs() {
    let client = client().await;
    let runs = client
        .begin("execute", serde_json::json!({ "code": "with open('f', 'w') as f: f.write('early')\nprint('begun')\nwhile True: pass" }))
        .await;
    super::until(async || !client.listener.heard().is_empty()).await;
    assert_eq!(text(&client, "workspace:///f").await, "early");
    runs.cancel(None).await.unwrap();
}
