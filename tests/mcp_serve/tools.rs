//! The list of tools, their schemas, and the search for functions.

use agentkernel_mcp::Server;
use agentkernel_tests::{builder, echo};
use serde_json::{Value, json};

use super::{client, connect, text};

#[tokio::test]
async fn every_tool_has_schemas_of_what_it_takes_and_gives() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = builder().tool(echo()).build().unwrap();
    let tasks = kernel.tasks(directory.path().join("tasks.db")).unwrap();
    let client = connect(&Server::builder(kernel).tasks(tasks).build().unwrap()).await;
    let tools = client.running.list_all_tools().await.unwrap();
    let names: Vec<&str> = tools.iter().map(|tool| &*tool.name).collect();
    assert_eq!(
        names,
        [
            "execute",
            "search_tools",
            "session_create",
            "session_list",
            "session_fork",
            "session_reset",
            "session_close",
            "task_dispatch",
            "task_status",
            "task_wait",
            "task_list",
            "task_cancel"
        ]
    );
    for tool in &tools {
        let (takes, gives) = (&*tool.input_schema, tool.output_schema.as_deref().unwrap());
        assert_eq!((&takes["type"], &gives["type"]), (&json!("object"), &json!("object")), "{}", tool.name);
        assert!(tool.description.is_some() && tool.annotations.is_some());
        let all = format!("{} {}", Value::Object(takes.clone()), Value::Object(gives.clone()));
        for word in ["$ref", "$schema", "\"format\""] {
            assert!(!all.contains(word), "{} has {word}: {all}", tool.name);
        }
    }
    let execute = &tools[0];
    assert_eq!(execute.input_schema["required"], json!(["code"]));
    assert_eq!(execute.input_schema["additionalProperties"], false);
    let given = execute.output_schema.as_ref().unwrap();
    assert_eq!(given["required"].as_array().unwrap().len(), given["properties"].as_object().unwrap().len());
    let annotations = tools[3].annotations.as_ref().unwrap();
    assert_eq!(annotations.read_only_hint, Some(true));
    let info = client.running.peer_info().unwrap();
    assert_eq!(info.server_info.as_ref().unwrap().name, "agentkernel");
    assert!(info.instructions.as_ref().unwrap().len() < 1000);
    assert!(info.capabilities.tools.is_some() && info.capabilities.resources.is_some());
}

/// The object is that of `agentkernel run --json`, with more fields.
#[tokio::test]
async fn an_outcome_is_as_the_command_line_gives_it() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/outcome.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let client = client().await;
    let fields = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    for code in ["1", "1 / 0", "import sys; sys.exit(2)", "while True: pass"] {
        let client = match code.starts_with("while") {
            true => {
                &connect(
                    &super::with_limits(|limits| {
                        limits.timeout = Some(std::time::Duration::from_millis(200))
                    })
                    .build()
                    .unwrap(),
                )
                .await
            }
            false => &client,
        };
        let outcome = client.execute(code).await;
        let given = fields(&outcome);
        for field in schema["required"].as_array().unwrap() {
            assert!(given.iter().any(|name| field == name), "{field} of {outcome}");
        }
        let usage = &schema["properties"]["usage"]["required"];
        assert_eq!(json!(fields(&outcome["usage"])), *usage);
        let outcomes = schema["properties"]["outcome"]["enum"].as_array().unwrap();
        assert!(outcomes.contains(&outcome["outcome"]), "{outcome}");
        if !outcome["error"].is_null() {
            assert_eq!(json!(fields(&outcome["error"])), schema["$defs"]["error"]["required"]);
        }
    }
}

#[tokio::test]
async fn functions_are_found_by_what_they_do() {
    let kernel = builder().tool(echo()).build().unwrap();
    let names: Vec<String> = kernel.tools()[0].items.iter().map(|item| item.name.clone()).collect();
    let client = connect(&Server::builder(kernel).build().unwrap()).await;
    let found = client.ok("search_tools", json!({ "words": "echo text", "limit": 3 })).await;
    let items = found["items"].as_array().unwrap();
    assert!(!items.is_empty() && items.len() <= 3, "{found}");
    for item in items {
        assert!(names.iter().any(|name| item["name"] == *name), "{item}");
        assert!(!item["signature"].as_str().unwrap().is_empty());
    }
    let all = client.ok("search_tools", json!({})).await;
    assert_eq!(all["items"][0]["name"], "echo");
    // What looks like code is words.
    for words in ["\"); raise SystemExit #", "\\", "\u{0}\n'''", "nothing of the kind 𝄞"] {
        client.ok("search_tools", json!({ "words": words })).await;
    }
    let said = client.refused("search_tools", json!({ "words": "x".repeat(5000) })).await;
    assert!(said.contains("few words"), "{said}");
    let outcome = client.execute("from tools import echo\nimport tools\nlen(tools.search('echo')) > 0").await;
    assert_eq!(outcome["value"], true);
}

#[tokio::test]
async fn what_is_not_granted_is_not_listed_and_says_so() {
    let client = client().await;
    let tools = client.running.list_all_tools().await.unwrap();
    assert!(!tools.iter().any(|tool| tool.name.starts_with("task_") || tool.name == "search_tools"));
    for tool in ["task_dispatch", "search_tools", "no_such_tool"] {
        let error = client.running.call_tool(super::params(tool, json!({ "code": "1" }))).await.unwrap_err();
        assert!(error.to_string().contains("there is no tool"), "{error}");
    }
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_told_to_the_model() {
    let client = client().await;
    for (tool, arguments) in [
        ("execute", json!({})),
        ("execute", json!({ "code": 1 })),
        ("execute", json!({ "code": ["print(1)"] })),
        ("execute", json!({ "code": "1", "sesion": "x" })),
        ("execute", json!({ "code": "1", "session": "UPPER" })),
        ("execute", json!({ "code": "1", "session": "../../etc" })),
        ("session_close", json!({})),
        ("session_list", json!({ "all": true })),
        ("session_create", json!({ "timeout_seconds": "soon" })),
        ("session_create", json!({ "memory_bytes": -1 })),
    ] {
        let result = client.call(tool, arguments.clone()).await;
        assert_eq!(result.is_error, Some(true), "{tool} {arguments}");
        assert!(text(&result).contains("hint: "), "{tool} {arguments}: {}", text(&result));
    }
    let long = client.refused("execute", json!({ "x".repeat(100_000): 1 })).await;
    assert!(long.len() < 1000, "{long}");
}
