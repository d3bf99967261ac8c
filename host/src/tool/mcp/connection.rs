//! A connection to a server: made, asked what it offers, called, and ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientConfig, ClientRequest, ErrorData,
    Implementation, JsonObject, PaginatedRequestParams, PingRequest, ProtocolVersion, Tool,
};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, NotificationContext, PeerRequestOptions, RequestContext,
    RunningService, ServiceError, serve_client_with_lifecycle,
};
use rmcp::transport::streamable_http_client::StreamableHttpError;
use rmcp::{ClientHandler, RoleClient};
use tokio::time::timeout;

use super::bounded::Bounded;
use super::model::Listing;
use super::process::Process;
use super::schema::Reading;
use super::server::{McpServer, Place, Program};
use super::stdio::{Closed, Streams, TOO_LONG};
use super::{http, text};
use crate::bindings::operations::Failure;
use crate::tool::ToolGrants;
use crate::tool::http::Mask;
use crate::tool::live::failure;

/// Pages of what a server offers that are asked for.
const MOST_PAGES: usize = 64;

/// Letters of an error that a server or a library gives.
const ERROR_LETTERS: usize = 2000;

/// How long an answer may take that came before the end of its server.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// How long a server has to answer a ping, once a call ran into its time limit.
const PING: Duration = Duration::from_secs(5);

/// A server that has been started or reached.
pub struct Connection {
    running: RunningService<RoleClient, Handler>,
    process: Option<Arc<Process>>,
    closed: Arc<Closed>,
    /// Covers the secrets that it was sent.
    mask: Option<Mask>,
    /// Whether it has given an answer.
    has_answered: AtomicBool,
}

/// What a server may ask of us: nothing. That it has other functions now is taken note of.
struct Handler {
    stale: Arc<AtomicBool>,
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(
            rmcp::model::ClientCapabilities::default(),
            Implementation::new("agentkernel", env!("CARGO_PKG_VERSION")),
        )
    }

    #[expect(deprecated, reason = "servers of older versions ask for it")]
    async fn list_roots(
        &self,
        _: RequestContext<RoleClient>,
    ) -> Result<rmcp::model::ListRootsResult, ErrorData> {
        Err(ErrorData::new(rmcp::model::ErrorCode::METHOD_NOT_FOUND, "there are no roots", None))
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.stale.store(true, Ordering::Release);
    }
}

/// Why there is no connection.
pub struct Unmade(pub String);

impl Connection {
    /// Starts or reaches a server. `stale` is set when it says that it has other functions.
    pub async fn make(
        tool: &str,
        server: &McpServer,
        grants: &ToolGrants,
        stale: &Arc<AtomicBool>,
    ) -> Result<Self, Unmade> {
        match Self::attempt(tool, server, grants, stale, ClientLifecycleMode::Initialize).await {
            // A server of a later version has no such greeting.
            Err(Attempt::Greeting(first)) => {
                let later =
                    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
                let second = Self::attempt(tool, server, grants, stale, later).await;
                second.map_err(|attempt| {
                    let (Attempt::Greeting(second) | Attempt::Failed(second)) = attempt;
                    Unmade(format!("{first}; greeted as one of a later version: {second}"))
                })
            }
            Err(Attempt::Failed(message)) => Err(Unmade(message)),
            Ok(connection) => Ok(connection),
        }
    }

    async fn attempt(
        tool: &str,
        server: &McpServer,
        grants: &ToolGrants,
        stale: &Arc<AtomicBool>,
        greeting: ClientLifecycleMode,
    ) -> Result<Self, Attempt> {
        let handler = Handler { stale: Arc::clone(stale) };
        let closed = Arc::<Closed>::default();
        let (serving, process, mask);
        match &server.place {
            Place::Program(program) => {
                let mut program = Program { environment: program.environment.clone(), ..program.clone() };
                program.environment.extend(grants.environment.clone());
                let started = Process::start(tool, &program).map_err(|error| {
                    let name = text::line(&program.program.to_string_lossy(), 200);
                    Attempt::Failed(format!("`{name}` cannot be started: {error}"))
                })?;
                let (started, stdin, stdout) = started;
                process = Some(Arc::new(started));
                mask = None;
                let streams = Streams::new(stdin, stdout, server.message_bytes, Arc::clone(&closed));
                let streams = Bounded::new(streams, Arc::clone(&closed));
                serving = serve_client_with_lifecycle(handler, streams, greeting).await;
            }
            Place::Url { url, headers } => {
                let most_calls = grants.limits.concurrent_requests.max(1) as usize;
                let transport =
                    http::transport(url, headers, &grants.secrets, server.message_bytes, most_calls);
                let (transport, covering) = transport.map_err(Attempt::Failed)?;
                (process, mask) = (None, covering);
                let transport = Bounded::new(transport, Arc::clone(&closed));
                serving = serve_client_with_lifecycle(handler, transport, greeting).await;
            }
        }
        match serving {
            Ok(running) => {
                if let Some(process) = &process {
                    end_when_closed(Arc::clone(&closed), Arc::downgrade(process));
                }
                Ok(Connection { running, process, closed, mask, has_answered: AtomicBool::new(false) })
            }
            Err(error) => {
                let is_refused = matches!(error, ClientInitializeError::JsonRpcError(_));
                let mut message = line(&mask, &causes(&error));
                if let Some(why) = closed.why() {
                    message = why.into_owned();
                }
                if let Some(process) = process {
                    message += &ended(process).await;
                }
                Err(if is_refused { Attempt::Greeting(message) } else { Attempt::Failed(message) })
            }
        }
    }

    /// Whether calls may go on.
    pub fn is_alive(&self) -> bool {
        self.closed.why().is_none() && !self.running.is_closed() && !self.running.peer().is_transport_closed()
    }

    pub fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    /// What it offers.
    pub async fn list(&self) -> Result<Listing, String> {
        let info = self.running.peer().peer_info();
        let instructions = info.as_ref().and_then(|info| info.instructions.clone()).unwrap_or_default();
        let mut reading = Reading::new(&self.covered(&instructions));
        let mut cursor = None;
        for _ in 0..MOST_PAGES {
            let params = cursor.take().map(|cursor| {
                let mut params = PaginatedRequestParams::default();
                params.cursor = Some(cursor);
                params
            });
            let page = self.running.list_tools(params).await;
            let page = page.map_err(|error| line(&self.mask, &causes(&error)))?;
            reading.add(&self.without_secrets(page.tools)?);
            cursor = page.next_cursor;
            if cursor.is_none() || reading.is_full() {
                break;
            }
        }
        self.has_answered.store(true, Ordering::Relaxed);
        Ok(reading.end(cursor.is_some()))
    }

    /// Calls a function by the server's name for it. Dropping the call tells the server that it was given up.
    pub async fn call(
        self: &Arc<Self>,
        name: &str,
        arguments: JsonObject,
        limit: Option<Duration>,
    ) -> Result<CallToolResult, Failure> {
        let params = CallToolRequestParams::new(name.to_owned()).with_arguments(arguments);
        let mut called = std::pin::pin!(self.running.peer().call_tool_once(params));
        let given = async {
            tokio::select! {
                biased;
                given = &mut called => given,
                // What it has answered before may be on its way.
                () = self.closed.wait() => timeout(LAST_ANSWER, called).await.unwrap_or(Err(ServiceError::TransportClosed)),
            }
        };
        let given = match limit {
            None => given.await,
            Some(limit) => match timeout(limit, given).await {
                Ok(given) => given,
                Err(_) => {
                    self.check_life();
                    let limit = limit.as_secs_f64();
                    return Err(failure("timeout", format!("was stopped at its time limit of {limit} s")));
                }
            },
        };
        match given {
            Ok(CallToolResponse::Complete(result)) => {
                self.has_answered.store(true, Ordering::Relaxed);
                Ok(result)
            }
            Ok(CallToolResponse::InputRequired(_)) => Err(failure(
                "trap",
                "asks for something in return (a model, a user, a directory), which it is not given".into(),
            )),
            Ok(_) => Err(failure("trap", "gave no result but a task, which are not supported".into())),
            Err(error) => Err(self.failed(error).await),
        }
    }

    async fn failed(&self, error: ServiceError) -> Failure {
        match error {
            ServiceError::McpError(error) if error.code == TOO_LONG => failure(
                "memory",
                // Servers may give this code as well.
                format!(
                    "gave too much: {}; `max-message` of its server raises that",
                    line(&self.mask, &error.message)
                ),
            ),
            // The server's own error, as a program may handle it.
            ServiceError::McpError(error) => {
                self.has_answered.store(true, Ordering::Relaxed);
                failure("server", without(&self.mask, &error.message, text::clean))
            }
            ServiceError::TransportClosed if self.process.is_some() => {
                let process = self.process.clone();
                let words = match process {
                    Some(process) => ended(process).await,
                    None => String::new(),
                };
                let why = self.closed.why().unwrap_or("it is gone".into());
                failure("trap", format!("failed, as its server ended: {why}{words}"))
            }
            ServiceError::TransportClosed => {
                let why = self.closed.why().unwrap_or(
                    "it broke it off, or sent an event longer than `max-message` of its server allows".into(),
                );
                failure("trap", format!("failed, as the connection to its server ended: {why}"))
            }
            ServiceError::UnexpectedResponse => {
                failure("trap", "failed: its server gave what is no result of a call".into())
            }
            error if is_too_large(&error) => {
                failure("memory", "gave too much; `max-message` of its server raises that".into())
            }
            error => failure("trap", format!("failed: {}", line(&self.mask, &causes(&error)))),
        }
    }

    /// Ends a process that does not even answer a ping, after a call of it ran into its time limit.
    fn check_life(self: &Arc<Self>) {
        if self.process.is_none() {
            return;
        }
        let connection = Arc::clone(self);
        tokio::spawn(async move {
            let ping = ClientRequest::PingRequest(PingRequest {
                method: Default::default(),
                extensions: Default::default(),
            });
            let options = PeerRequestOptions::with_timeout(PING);
            let sent = timeout(PING, connection.running.peer().send_request_with_option(ping, options));
            let answered = match sent.await {
                Ok(Ok(handle)) => !matches!(handle.await_response().await, Err(ServiceError::Timeout { .. })),
                Ok(Err(_)) => true,
                Err(_) => false,
            };
            if !answered {
                connection.closed.set("it did not answer a ping after a call had run into its time limit");
            }
        });
    }

    /// Ends it now, whoever still uses it.
    pub fn end(&self) {
        self.closed.set("it was not needed any more");
        if let Some(process) = &self.process {
            process.leave();
        }
    }

    /// What a server says that it offers, without secrets that it was sent.
    fn without_secrets(&self, tools: Vec<Tool>) -> Result<Vec<Tool>, String> {
        if self.mask.is_none() {
            return Ok(tools);
        }
        let mut text = serde_json::to_vec(&tools).map_err(|error| error.to_string())?;
        self.cover(&mut text);
        serde_json::from_slice(&text).map_err(|error| error.to_string())
    }

    /// Covers the secrets that were sent, where they are in an answer.
    pub fn cover(&self, answer: &mut [u8]) {
        if let Some(mask) = &self.mask {
            mask.hide_bytes(answer);
        }
    }

    /// The same of a text.
    pub fn covered(&self, text: &str) -> String {
        covered(&self.mask, text)
    }
}

/// A connection that was not made.
enum Attempt {
    /// The server did not take the greeting.
    Greeting(String),
    Failed(String),
}

fn covered(mask: &Option<Mask>, text: &str) -> String {
    let mut text = text.to_owned();
    if let Some(mask) = mask {
        mask.hide(&mut text);
    }
    text
}

/// A text for a message, in one line.
fn line(mask: &Option<Mask>, said: &str) -> String {
    without(mask, said, text::line)
}

/// A text as `clean` leaves it, without secrets: not those that are whole only once it is clean, and no part of one that was cut.
fn without(mask: &Option<Mask>, said: &str, clean: fn(&str, usize) -> String) -> String {
    clean(&covered(mask, &clean(said, said.len())), ERROR_LETTERS)
}

/// Ends a process whose messages have ended, so that it is not left as one that nobody waits for.
fn end_when_closed(closed: Arc<Closed>, process: Weak<Process>) {
    tokio::spawn(async move {
        closed.wait().await;
        if let Some(process) = process.upgrade() {
            let _ = tokio::task::spawn_blocking(move || process.end()).await;
        }
    });
}

/// Ends a process, and gives what can be said about its end.
async fn ended(process: Arc<Process>) -> String {
    let words = tokio::task::spawn_blocking(move || {
        process.end();
        process.last_words()
    });
    words.await.unwrap_or_default()
}

/// Whether an answer over HTTP was longer than it may be.
fn is_too_large(error: &ServiceError) -> bool {
    let ServiceError::TransportSend(error) = error else { return false };
    let error = error.error.downcast_ref::<StreamableHttpError<reqwest::Error>>();
    matches!(error, Some(StreamableHttpError::ResponseBodyTooLarge { .. }))
}

/// An error with what has caused it.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    // What the transport says is told; how it was called is not.
    if let Some(ClientInitializeError::TransportError { error, .. }) = error.downcast_ref() {
        return causes(error.error.as_ref());
    }
    if let Some(ServiceError::TransportSend(error)) = error.downcast_ref() {
        return causes(error.error.as_ref());
    }
    if let Some(StreamableHttpError::Client(error)) =
        error.downcast_ref::<StreamableHttpError<reqwest::Error>>()
    {
        return causes(error);
    }
    // Of its URL programs need not know.
    let said = match error.is::<reqwest::Error>() {
        true => "the request could not be sent, or its answer not be read".to_owned(),
        false => error.to_string(),
    };
    let Some(cause) = error.source() else { return said };
    let (whole, plain) = (causes(cause), cause.to_string());
    // Some say what their cause says.
    match said.contains(&plain) {
        true => said.replace(&plain, &whole),
        false => format!("{said}: {whole}"),
    }
}
