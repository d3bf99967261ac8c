//! The MCP server as clients see it: the official Rust client in this process, and bytes that no client sends.

#[path = "mcp_serve/execute.rs"]
mod execute;
#[path = "mcp_serve/files.rs"]
mod files;
#[path = "mcp_serve/hostile.rs"]
mod hostile;
#[path = "mcp_serve/http.rs"]
mod http;
#[path = "mcp_serve/kept.rs"]
mod kept;
#[path = "mcp_serve/machine.rs"]
mod machine;
#[path = "mcp_serve/sessions.rs"]
mod sessions;
#[path = "mcp_serve/tasks.rs"]
mod tasks;
#[path = "mcp_serve/tools.rs"]
mod tools;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agentkernel::{Grants, Limits};
use agentkernel_mcp::{Server, ServerBuilder};
use agentkernel_tests::kernel;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest, ProgressNotificationParam,
};
use rmcp::service::{NotificationContext, PeerRequestOptions, RequestHandle, RunningService};
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use serde_json::{Value, json};

/// How long anything here may take.
const LONG: Duration = Duration::from_secs(60);

/// A client that writes down what it hears of progress.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<ProgressNotificationParam>>>);

impl ClientHandler for Listener {
    async fn on_progress(&self, told: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(told);
    }
}

impl Listener {
    fn heard(&self) -> Vec<ProgressNotificationParam> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A client that is connected.
struct Client {
    running: RunningService<RoleClient, Listener>,
    listener: Listener,
}

/// A server to be configured, with limits that tests reach soon.
fn builder() -> ServerBuilder {
    let grants = Grants { limits: agentkernel_tests::limits(), ..Grants::default() };
    Server::builder(kernel().clone()).grants(grants)
}

fn with_limits(change: impl FnOnce(&mut Limits)) -> ServerBuilder {
    let mut grants = Grants { limits: agentkernel_tests::limits(), ..Grants::default() };
    change(&mut grants.limits);
    builder().grants(grants)
}

/// A client of a server, over a pair of streams.
async fn connect(server: &Server) -> Client {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (read, write) = tokio::io::split(theirs);
    let server = server.clone();
    tokio::spawn(async move { server.serve(read, write, std::future::pending()).await });
    let listener = Listener::default();
    Client { running: listener.clone().serve(ours).await.unwrap(), listener }
}

async fn client() -> Client {
    connect(&builder().build().unwrap()).await
}

fn params(tool: &str, arguments: Value) -> CallToolRequestParams {
    let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
    CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments)
}

impl Client {
    async fn call(&self, tool: &str, arguments: Value) -> CallToolResult {
        tokio::time::timeout(LONG, self.running.call_tool(params(tool, arguments))).await.unwrap().unwrap()
    }

    /// The structured result of a call that must succeed.
    async fn ok(&self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await;
        assert_ne!(result.is_error, Some(true), "{result:?}");
        result.structured_content.unwrap()
    }

    /// What is said of a call that does nothing.
    async fn refused(&self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments).await;
        assert_eq!((result.is_error, &result.structured_content), (Some(true), &None), "{result:?}");
        text(&result)
    }

    /// The structured result of a turn, however it ended.
    async fn execute(&self, code: &str) -> Value {
        self.call("execute", json!({ "code": code })).await.structured_content.unwrap()
    }

    async fn execute_in(&self, session: &str, code: &str) -> Value {
        let call = self.call("execute", json!({ "code": code, "session": session })).await;
        call.structured_content.unwrap()
    }

    /// A call that goes on; it has a progress token.
    async fn begin(&self, tool: &str, arguments: Value) -> RequestHandle<RoleClient> {
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params(tool, arguments)));
        self.running.send_cancellable_request(request, PeerRequestOptions::no_options()).await.unwrap()
    }
}

/// What a model reads of a result.
fn text(result: &CallToolResult) -> String {
    result.content.iter().filter_map(|block| Some(block.as_text()?.text.clone())).collect()
}

/// Waits until something is so.
async fn until(what: impl AsyncFn() -> bool) {
    let wait = async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.expect("it becomes so in time");
}
