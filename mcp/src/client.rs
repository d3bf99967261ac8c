//! One client: what it asks, and the sessions that it has.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CustomRequest, CustomResult,
    ErrorCode, ErrorData, Implementation, JsonObject, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams,
    ReadResourceResponse, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};
use schemars::JsonSchema;
use serde::Serialize;

use crate::arguments::{
    self, CloseSession, CreateSession, Dispatch, Execute, ForkSession, ListTasks, Nothing, OneTask,
    ResetSession, SearchTools, WaitForTask,
};
use crate::refusal::Refusal;
use crate::resources::{self, Resources};
use crate::search::Found;
use crate::server::Shared;
use crate::sessions::{Narrowed, Place, SessionInfo, Table};
use crate::{tasks, too_long};

/// What models are told of the server.
const INSTRUCTIONS: &str = "Python in a sandbox. `execute` runs code in a session that keeps variables and imports; \
files in /workspace are resources. Print what you want to see, or end the code in an expression.";

/// The same of functions that programs can import.
const OF_TOOLS: &str = " Functions of tools are imported from `tools` inside the code: find them with `search_tools`, \
read about them with `help()`.";

/// Calls of a client at the same time. Those that wait for their turn take memory.
const CALLS: usize = 64;

/// Functions that are found where no number is given.
const FOUND: usize = 10;

/// A connection.
pub(crate) struct Client {
    shared: Arc<Shared>,
    table: Arc<Table>,
    versions: &'static [ProtocolVersion],
    /// Calls that have not been answered.
    calls: Arc<AtomicUsize>,
    _seat: Option<Place>,
}

/// The sessions of a client.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Sessions {
    sessions: Vec<SessionInfo>,
    /// As many there may be, of all clients together.
    most: usize,
}

/// A session that is gone.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Closed {
    closed: String,
}

impl Client {
    pub fn new(shared: &Arc<Shared>) -> Self {
        Client {
            shared: Arc::clone(shared),
            table: shared.table(),
            versions: ProtocolVersion::KNOWN_VERSIONS,
            calls: Arc::default(),
            _seat: None,
        }
    }

    /// A client over HTTP. The newest protocol has no connections there, so nothing says whose a session is; it is
    /// spoken where all clients have the same.
    pub fn over_http(shared: &Arc<Shared>, seat: Place) -> Self {
        let versions = match shared.store {
            Some(_) => ProtocolVersion::KNOWN_VERSIONS,
            None => ProtocolVersion::known_up_to(&ProtocolVersion::LATEST_WITH_INITIALIZE),
        };
        Client { versions, _seat: Some(seat), ..Client::new(shared) }
    }

    /// Its sessions.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table)
    }

    async fn call(
        &self,
        name: &str,
        arguments: Option<JsonObject>,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, Refusal> {
        let _call = self.enter()?;
        let (shared, table) = (&self.shared, &self.table);
        match name {
            "execute" => {
                let Execute { code, session } = arguments::read(name, arguments)?;
                let slot = table.get(shared, session.as_deref())?;
                let executed = slot.execute(shared, code, context).await?;
                let text = executed.text(shared.limits.text_bytes);
                result(&executed, text, executed.is_error())
            }
            "search_tools" => {
                let SearchTools { words, limit } = arguments::read(name, arguments)?;
                let limit = limit.map_or(FOUND, |limit| limit as usize).min(shared.limits.listed);
                let found = match words.trim().is_empty() {
                    true => Found::all(&shared.kernel, shared.limits.listed),
                    false => shared.librarian.find(&shared.kernel, &words, limit).await?,
                };
                result(&found, found.text(), false)
            }
            "session_create" => {
                let CreateSession { name: session, timeout_seconds, memory_bytes } =
                    arguments::read(name, arguments)?;
                let narrowed = Narrowed { timeout_seconds, memory_bytes };
                let made = table.create(shared, session, narrowed, context).await?;
                result(&made, format!("the session `{}` is ready", made.name), false)
            }
            "session_list" => {
                let Nothing {} = arguments::read(name, arguments)?;
                let sessions = table.list(shared);
                let line = |one: &SessionInfo| {
                    let running = if one.running { ", running" } else { "" };
                    format!("{}  {} turns{running}", one.name, one.turns)
                };
                let text = match sessions.is_empty() {
                    true => "[there is none yet; `execute` makes the default one]".to_owned(),
                    false => sessions.iter().map(line).collect::<Vec<_>>().join("\n"),
                };
                result(&Sessions { sessions, most: shared.limits.sessions }, text, false)
            }
            "session_fork" => {
                let ForkSession { session, name: new } = arguments::read(name, arguments)?;
                let made = table.fork(shared, session.as_deref(), new, context).await?;
                result(&made, format!("the copy is the session `{}`", made.name), false)
            }
            "session_reset" => {
                let ResetSession { session } = arguments::read(name, arguments)?;
                let reset = table.reset(shared, session.as_deref(), context).await?;
                result(&reset, format!("the session `{}` is at its beginning", reset.name), false)
            }
            "session_close" => {
                let CloseSession { session } = arguments::read(name, arguments)?;
                table.close(shared, &session).await?;
                let text = format!("the session `{session}` is closed");
                result(&Closed { closed: session }, text, false)
            }
            "task_dispatch" => {
                let task: Dispatch = arguments::read(name, arguments)?;
                tasks::dispatch(shared, task).await
            }
            "task_status" => {
                let OneTask { id } = arguments::read(name, arguments)?;
                tasks::status(shared, &id).await
            }
            "task_wait" => {
                let WaitForTask { id, timeout_seconds } = arguments::read(name, arguments)?;
                tasks::wait(shared, &id, timeout_seconds, context).await
            }
            "task_list" => {
                let filter: ListTasks = arguments::read(name, arguments)?;
                tasks::list(shared, filter).await
            }
            "task_cancel" => {
                let OneTask { id } = arguments::read(name, arguments)?;
                tasks::cancel(shared, &id).await
            }
            _ => Err(Refusal::new("there is no such tool")),
        }
    }

    /// A place for one more call.
    fn enter(&self) -> Result<Place, Refusal> {
        Place::take(&self.calls, CALLS).ok_or_else(|| {
            Refusal::new(format!("{CALLS} calls are not answered yet")).hint("wait for some of them")
        })
    }

    fn resources(&self) -> Result<Resources<'_>, ErrorData> {
        let call = self.enter().map_err(resources::internal)?;
        Ok(Resources { shared: &self.shared, table: &self.table, call })
    }
}

/// A result that programs and models read.
pub(crate) fn result(
    content: &impl Serialize,
    text: String,
    is_error: bool,
) -> Result<CallToolResult, Refusal> {
    let content = serde_json::to_value(content)
        .map_err(|error| Refusal::new(format!("the result has no JSON form: {error}")))?;
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = Some(content);
    result.is_error = Some(is_error);
    Ok(result)
}

impl ServerHandler for Client {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources().build();
        let about = Implementation::new("agentkernel", env!("CARGO_PKG_VERSION")).with_title("AgentKernel");
        let mut instructions = INSTRUCTIONS.to_owned();
        if self.get_tool("search_tools").is_some() {
            instructions += OF_TOOLS;
        }
        let mut config = ServerConfig::new(capabilities).with_instructions(instructions);
        config.server_info = about;
        config
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(self.versions)
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        match &*request.method {
            too_long::METHOD => {
                let most = self.shared.limits.message_bytes;
                let message = format!("the message is too long: one of at most {most} bytes is read");
                Err(ErrorData::invalid_request(message, None))
            }
            _ => Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, request.method, None)),
        }
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.shared.tools.clone()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.shared.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = &*request.name;
        if !self.shared.tools.iter().any(|tool| tool.name == name) {
            let known: Vec<_> = self.shared.tools.iter().map(|tool| &*tool.name).collect();
            let name = &name[..name.floor_char_boundary(100)];
            let message = format!("there is no tool `{name}`; there are {}", known.join(", "));
            return Err(ErrorData::invalid_params(message, None));
        }
        let called = self.call(name, request.arguments, &context).await;
        Ok(called.unwrap_or_else(CallToolResult::from).into())
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        self.resources()?.list(request.and_then(|request| request.cursor)).await
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(Resources::templates()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        Ok(self.resources()?.read(&request.uri).await?.into())
    }
}
