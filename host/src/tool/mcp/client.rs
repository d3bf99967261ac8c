//! What a session, or a kernel, has of a server: started when it is first needed, and again after it has ended.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::connection::{Connection, Unmade};
use super::model::{Function, Listing};
use super::server::McpServer;
use super::{answer, check, python};
use crate::bindings::operations::Failure;
use crate::gate::Gate;
use crate::operations::Answer;
use crate::tool::ToolGrants;
use crate::tool::constraints::Rules;
use crate::tool::live::failure;

/// How long the second start in a row without success waits, which doubles with each.
const BACKOFF: Duration = Duration::from_millis(500);

/// Bytes of the arguments of a call: JSON takes a multiple of it in memory.
const REQUEST_BYTES: usize = 8 << 20;

/// Bytes of arguments that are checked on a thread of their own.
const LARGE: usize = 64 << 10;

/// How long any start waits at most.
const LONGEST_BACKOFF: Duration = Duration::from_secs(20);

/// A tool that is an MCP server.
pub(crate) struct Mcp {
    tool: String,
    server: McpServer,
    grants: ToolGrants,
    /// Constraints by the names of functions as programs write them.
    rules: Vec<(String, Rules)>,
    /// The number of the tool's first function.
    first: u32,
    /// What all sessions share, if they do.
    shared: Option<Owned>,
    /// What was listed last, by whichever session.
    known: Arc<Mutex<Option<Arc<Listing>>>>,
}

/// What its functions are, by their numbers behind the first.
#[derive(Clone, Copy)]
pub(crate) enum Act {
    Call,
    Source,
    AsyncSource,
    Items,
}

impl Act {
    pub const COUNT: u32 = 4;

    pub fn of(number: u32) -> Option<Self> {
        [Act::Call, Act::Source, Act::AsyncSource, Act::Items].get(number as usize).copied()
    }
}

impl Mcp {
    pub fn new(tool: &str, server: McpServer, grants: ToolGrants, first: u32) -> crate::Result<Self> {
        server.check(tool, &grants)?;
        if let super::server::Place::Url { url, headers } = &server.place {
            super::http::check_secrets(tool, url, headers, &grants.secrets)?;
        }
        let rules = grants.allow.iter().map(|(function, given)| {
            Ok((function.clone(), Rules::of_json(&format!("{tool}.{function}"), given)?))
        });
        let rules = rules.collect::<crate::Result<_>>()?;
        let mut mcp =
            Mcp { tool: tool.to_owned(), server, grants, rules, first, shared: None, known: Arc::default() };
        mcp.shared = mcp.server.shared.then(|| Owned(Arc::new(Client::default())));
        Ok(mcp)
    }

    /// What is said of the tool before the server was asked.
    pub fn summary(&self) -> String {
        self.server.summary()
    }

    /// What images know it by.
    pub fn mark(&self) -> String {
        self.server.mark()
    }

    /// The module of the tool by its name below it, which may be none.
    pub fn module(&self, below: Option<&str>) -> Option<(String, bool)> {
        match below {
            None => Some((python::module(self.first), true)),
            Some("aio") => Some((python::aio_module(self.first), false)),
            Some(_) => None,
        }
    }

    /// The functions that were listed last.
    pub fn known(&self) -> Option<Arc<Listing>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A session's client, or the one of all.
    pub fn client(&self, own: &mut Option<Owned>) -> Arc<Client> {
        match &self.shared {
            Some(shared) => Arc::clone(&shared.0),
            None => Arc::clone(&own.get_or_insert_with(|| Owned(Arc::default())).0),
        }
    }

    /// Asks the server what it offers, with a client of its own unless one is shared.
    pub async fn list(&self) -> Result<Arc<Listing>, Failure> {
        let mut own = None;
        let client = self.client(&mut own);
        client.listing(self).await
    }
}

/// A client that ends when this is dropped, whoever still uses it.
pub(crate) struct Owned(Arc<Client>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A server's client.
#[derive(Default)]
pub(crate) struct Client {
    /// Held while it is started, so that this is done once.
    starting: tokio::sync::Mutex<Starts>,
    connection: Mutex<Option<Arc<Connection>>>,
    ended: AtomicBool,
    listing: Mutex<Option<Arc<Listing>>>,
    /// Whether the server has said that it has other functions now.
    stale: Arc<AtomicBool>,
    calls: std::sync::OnceLock<Arc<Semaphore>>,
    gate: Gate,
    used: Used,
}

/// What a client has used of its limits.
#[derive(Default)]
struct Used {
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

#[derive(Default)]
struct Starts {
    /// Those in a row of which no answer came.
    in_vain: u32,
    last: Option<Instant>,
}

impl Client {
    /// Does what a number stands for.
    pub async fn act(self: Arc<Self>, mcp: &Mcp, act: Act, request: &[u8]) -> Answer {
        let source = |listing: &Listing, is_async| {
            python::source(&mcp.tool, listing, mcp.first, is_async).into_bytes()
        };
        match act {
            Act::Call if request.len() > REQUEST_BYTES => Err(failure(
                "arguments",
                format!("the arguments have {} bytes, and {REQUEST_BYTES} are allowed", request.len()),
            )),
            Act::Call => {
                let (name, arguments): (String, Map<String, Value>) = serde_json::from_slice(request)
                    .map_err(|error| failure("arguments", format!("the arguments are not JSON: {error}")))?;
                let listing = self.listing_with(mcp, &name).await?;
                let at = listing.functions.iter().position(|function| function.name == name);
                let at = at.ok_or_else(|| self.unknown(mcp, &name))?;
                self.call(mcp, &listing, at, arguments, request.len()).await
            }
            Act::Source => Ok(source(&*self.fresh_listing(mcp).await?, false)),
            Act::AsyncSource => Ok(source(&*self.listing(mcp).await?, true)),
            Act::Items => Ok(python::items_json(&mcp.tool, &*self.fresh_listing(mcp).await?)),
        }
    }

    /// Calls a function by the name that programs have for it, with JSON: an array or an object.
    pub async fn call_by_name(self: Arc<Self>, mcp: &Mcp, name: &str, given: Value) -> Answer {
        let listing = self.listing(mcp).await?;
        let at = listing.functions.iter().position(|function| function.python == name);
        let at = at.ok_or_else(|| self.unknown(mcp, name))?;
        let arguments =
            by_names(&listing.functions[at], given).map_err(|message| failure("arguments", message))?;
        let length = Value::Object(arguments.clone()).to_string().len();
        self.call(mcp, &listing, at, arguments, length).await
    }

    async fn call(
        &self,
        mcp: &Mcp,
        listing: &Arc<Listing>,
        at: usize,
        arguments: Map<String, Value>,
        length: usize,
    ) -> Answer {
        let function = &listing.functions[at];
        let name = format!("{}.{}", mcp.tool, function.python);
        let (arguments, checked) = {
            let listing = Arc::clone(listing);
            let check = move || {
                let checked = check::arguments(&listing, &listing.functions[at], &arguments);
                (arguments, checked)
            };
            if length > LARGE { self.aside(check).await? } else { check() }
        };
        checked.map_err(|message| failure("arguments", format!("{name}: {message}")))?;
        mcp.refusal(listing, function, &arguments)
            .map_or(Ok(()), |message| Err(failure("refused", message)))?;
        let limits = &mcp.grants.limits;
        self.used.take(mcp, length)?;
        let calls = self.calls.get_or_init(|| Arc::new(Semaphore::new(limits.concurrent_requests as usize)));
        let _permit = calls.acquire().await;
        let connection = self.connection(mcp).await?;
        let result = connection.call(&function.name, arguments, limits.timeout).await;
        let result = match result {
            Ok(result) => result,
            Err(error) if error.kind == "server" => {
                let said = serde_json::json!({ "failed": true, "value": error.message });
                return Ok(said.to_string().into_bytes());
            }
            Err(Failure { kind, message }) => {
                return Err(Failure { kind, message: format!("{name} {message}") });
            }
        };
        // How large it is nobody has counted.
        let listing = Arc::clone(listing);
        let encoded = self.aside(move || {
            let cover = |text: &str| connection.covered(text);
            let mut answer = answer::encode(&listing, &listing.functions[at], result, &cover)?;
            connection.cover(&mut answer);
            Ok(answer)
        });
        let answer = encoded.await?;
        let answer =
            answer.map_err(|message: String| failure("trap", format!("{name} failed: {message}")))?;
        self.used.received(mcp, answer.len())?;
        Ok(answer)
    }

    /// What the server offers, as it was listed.
    async fn listing(&self, mcp: &Mcp) -> Result<Arc<Listing>, Failure> {
        if let Some(listing) = self.listing.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(listing);
        }
        self.list(mcp).await
    }

    /// The same, listed anew if the server has said that it has other functions.
    async fn fresh_listing(&self, mcp: &Mcp) -> Result<Arc<Listing>, Failure> {
        match self.stale.load(Ordering::Acquire) {
            true => self.list(mcp).await,
            false => self.listing(mcp).await,
        }
    }

    /// The same, with a function that a program knows of; it may have come since.
    async fn listing_with(&self, mcp: &Mcp, name: &str) -> Result<Arc<Listing>, Failure> {
        let listing = self.listing(mcp).await?;
        match listing.function(name).is_none() && self.stale.load(Ordering::Acquire) {
            true => self.list(mcp).await,
            false => Ok(listing),
        }
    }

    async fn list(&self, mcp: &Mcp) -> Result<Arc<Listing>, Failure> {
        let connection = self.connection(mcp).await?;
        // What changes while it is asked is asked for again.
        self.stale.store(false, Ordering::Release);
        let limit = mcp.server.start_timeout;
        let listed = timeout(limit, connection.list()).await.unwrap_or_else(|_| {
            Err(format!("it did not say what it offers within {} s", limit.as_secs_f64()))
        });
        let listing = match listed {
            Ok(listing) => Arc::new(listing),
            Err(message) => {
                // It may be of no use any more.
                connection.end();
                return Err(failure(
                    "trap",
                    format!("the MCP server `{}` offers nothing: {message}", mcp.tool),
                ));
            }
        };
        if listing.left_out > 0 {
            tracing::warn!(tool = mcp.tool, "{} functions of the MCP server are left out", listing.left_out);
        }
        mcp.check_rules(&listing)?;
        *self.listing.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&listing));
        *mcp.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&listing));
        Ok(listing)
    }

    /// The connection that there is, or a new one.
    async fn connection(&self, mcp: &Mcp) -> Result<Arc<Connection>, Failure> {
        if let Some(connection) = self.alive() {
            return Ok(connection);
        }
        let mut starts = self.starting.lock().await;
        if let Some(connection) = self.alive() {
            return Ok(connection);
        }
        let before = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        match &before {
            Some(before) if before.has_answered() => starts.in_vain = 0,
            Some(_) => starts.in_vain += 1,
            None => {}
        }
        drop(before);
        if let Some(last) = starts.last
            && let Some(doublings) = starts.in_vain.checked_sub(1)
        {
            let wait = BACKOFF.saturating_mul(1 << doublings.min(8)).min(LONGEST_BACKOFF);
            tokio::time::sleep_until((last + wait).into()).await;
        }
        starts.last = Some(Instant::now());
        // One that is given up counts as well.
        starts.in_vain += 1;
        let limit = mcp.server.start_timeout;
        let made = timeout(limit, Connection::make(&mcp.tool, &mcp.server, &mcp.grants, &self.stale)).await;
        let made = made
            .unwrap_or_else(|_| Err(Unmade(format!("it did not start within {} s", limit.as_secs_f64()))));
        let connection = Arc::new(made.map_err(|Unmade(message)| {
            failure("trap", format!("the MCP server `{}` cannot be used: {message}", mcp.tool))
        })?);
        starts.in_vain -= 1;
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&connection));
        // Its owner may be gone meanwhile.
        if self.ended.load(Ordering::Acquire) {
            connection.end();
        }
        Ok(connection)
    }

    fn alive(&self) -> Option<Arc<Connection>> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        connection.is_alive().then_some(connection)
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(connection) = connection {
            connection.end();
        }
    }

    /// Does what may take long without keeping the one thread from its work that all calls run on.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let done = self.gate.pass(work).await;
        done.map_err(|error| failure("trap", format!("the call was not finished: {error}")))
    }

    fn unknown(&self, mcp: &Mcp, name: &str) -> Failure {
        let name = super::text::line(name, 80);
        failure("unknown", format!("the MCP server `{}` has no function `{name}`", mcp.tool))
    }
}

impl Used {
    /// Counts a call, unless it is one too many.
    fn take(&self, mcp: &Mcp, sent: usize) -> Result<(), Failure> {
        let limits = &mcp.grants.limits;
        if self.requests.fetch_add(1, Ordering::Relaxed) >= u64::from(limits.requests) {
            return Err(mcp.exhausted(format!("was called {} times", limits.requests), "max-requests"));
        }
        if self.sent.fetch_add(sent as u64, Ordering::Relaxed).saturating_add(sent as u64) > limits.sent_bytes
        {
            return Err(
                mcp.exhausted(format!("was to be sent more than {} bytes", limits.sent_bytes), "max-sent")
            );
        }
        Ok(())
    }

    fn received(&self, mcp: &Mcp, bytes: usize) -> Result<(), Failure> {
        let most = mcp.grants.limits.received_bytes;
        match self.received.fetch_add(bytes as u64, Ordering::Relaxed).saturating_add(bytes as u64) > most {
            true => Err(mcp.exhausted(format!("has given more than {most} bytes"), "max-received")),
            false => Ok(()),
        }
    }
}

impl Mcp {
    fn exhausted(&self, what: String, key: &str) -> Failure {
        let tool = &self.tool;
        failure(
            "denied",
            format!("the tool `{tool}` {what}, which is its limit; `{key}` in [tool.{tool}] raises it"),
        )
    }

    /// Refuses all of a server of which a constraint names what it does not have: it would hold for nothing.
    fn check_rules(&self, listing: &Listing) -> Result<(), Failure> {
        for (name, rules) in &self.rules {
            let refused = |message: String, there: Vec<&str>| {
                let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
                Err(failure(
                    "refused",
                    format!("{message}; there are {there} (`allow` in [tool.{}])", self.tool),
                ))
            };
            let Some(function) = listing.functions.iter().find(|one| one.python == *name) else {
                let there = listing.functions.iter().map(|one| one.python.as_str()).collect();
                return refused(
                    format!("the tool `{}` has no function `{name}` that could be constrained", self.tool),
                    there,
                );
            };
            // A server that lists them in another order would have another one constrained.
            let mut parameters = function.parameters.iter().filter(|one| one.contested);
            let parameter = parameters.find(|one| rules.parameters().any(|step| step == one.python));
            let of_parameter = parameter.map(|one| format!(" of its parameter `{}`", one.python));
            if function.contested || of_parameter.is_some() {
                let name_of = of_parameter.unwrap_or_default();
                return Err(failure(
                    "refused",
                    format!(
                        "the constraint on `{tool}.{name}` could be meant for another: several of the server have the \
                         name{name_of} in Python (`allow` in [tool.{tool}])",
                        tool = self.tool
                    ),
                ));
            }
            let there = || function.parameters.iter().map(|one| one.python.as_str());
            if let Some(step) = rules.parameters().find(|step| there().all(|name| name != *step)) {
                return refused(
                    format!(
                        "the constraint on `{step}` of `{}.{name}` names nothing that is there",
                        self.tool
                    ),
                    there().collect(),
                );
            }
        }
        Ok(())
    }

    /// Why a call with these arguments is not allowed, if it is not.
    fn refusal(
        &self,
        listing: &Listing,
        function: &Function,
        arguments: &Map<String, Value>,
    ) -> Option<String> {
        let (name, rules) = self.rules.iter().find(|(name, _)| *name == function.python)?;
        // Of what is not described nobody knows what it does.
        let stray = arguments.keys().find(|key| function.parameters.iter().all(|one| one.name != **key));
        let message = match stray {
            Some(key) => {
                format!("`{}` is no parameter of it that could be checked", super::text::line(key, 60))
            }
            None => {
                let value = |name: &str| {
                    let parameter = function.parameters.iter().find(|one| one.python == name)?;
                    arguments.get(&parameter.name)
                };
                rules.check_json(value).err()?
            }
        };
        debug_assert!(listing.function(&function.name).is_some());
        Some(format!("a call of {}.{name} is not allowed: {message}", self.tool))
    }
}

/// Arguments by the server's names, of an array in the order of the signature or an object by Python's names.
fn by_names(function: &Function, given: Value) -> Result<Map<String, Value>, String> {
    match given {
        Value::Array(values) => {
            let most = function.parameters.iter().filter(|one| one.required).count();
            if values.len() > most {
                return Err(format!(
                    "there are {} arguments by position, and {most} are taken; give the others in an object by name",
                    values.len()
                ));
            }
            Ok(function.parameters.iter().map(|one| one.name.clone()).zip(values).collect())
        }
        Value::Object(values) => {
            let named = values.into_iter().map(|(name, value)| {
                match function.parameters.iter().find(|one| one.python == name) {
                    Some(parameter) => (parameter.name.clone(), value),
                    None => (name, value),
                }
            });
            Ok(named.collect())
        }
        _ => Err("arguments are an array or an object".to_owned()),
    }
}
