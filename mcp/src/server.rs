//! A server, and what all of its connections share.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use agentkernel::llm::Budget;
use agentkernel::task::Tasks;
use agentkernel::{Access, Context, Files, Grants, Image, Kernel, Limits, Session, Workspace};
use rmcp::ServiceExt;
use rmcp::model::Tool;
use rmcp::service::ServerInitializeError;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::io::stdio_pipes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::catalog;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::http::{HttpServer, HttpSettings};
use crate::output::Output;
use crate::refusal::{Refusal, blocking};
use crate::search::Librarian;
use crate::sessions::{Owner, Place, Slot, Store, Table};
use crate::settings::{ServerBuilder, ServerLimits};
use crate::too_long;

/// How long sessions may take to end with their connection.
const LAST: Duration = Duration::from_secs(3);

/// Listings and readings of files at the same time, of all clients together: each takes a thread and open directories.
const LOOKS: usize = 8;

/// An MCP server over a kernel. Cheap to clone; the clones are the same server.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agentkernel::Kernel;
/// use agentkernel_mcp::Server;
/// use rmcp::ServiceExt;
/// use rmcp::model::CallToolRequestParams;
///
/// let server = Server::builder(Kernel::new()?).build()?;
/// let (ours, theirs) = tokio::io::duplex(1 << 16);
/// let (read, write) = tokio::io::split(ours);
/// tokio::spawn(async move { server.serve(read, write, std::future::pending()).await });
///
/// let client = ().serve(theirs).await?;
/// let code = serde_json::json!({ "code": "6 * 7" });
/// let call = CallToolRequestParams::new("execute").with_arguments(code.as_object().unwrap().clone());
/// let result = client.call_tool(call).await?;
/// assert_eq!(result.structured_content.unwrap()["value"], 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Server(pub(crate) Arc<Shared>);

/// What all connections share.
pub(crate) struct Shared {
    pub kernel: Kernel,
    pub grants: Grants,
    pub image: Option<Image>,
    /// What programs of all sessions read.
    context: Option<Context>,
    pub tasks: Option<Tasks>,
    pub limits: ServerLimits,
    /// Of all sessions together: a client could make any number of them.
    budget: Option<Budget>,
    pub store: Option<Arc<Store>>,
    /// The sessions of all connections, where they are kept.
    kept: Option<Arc<Table>>,
    /// Those of each connection, to be looked after.
    tables: Mutex<Vec<Weak<Table>>>,
    places: Arc<AtomicUsize>,
    /// The files of the directory that all sessions have, if they have one.
    pub common_files: Option<Files>,
    /// Places of those who look at files.
    pub looks: Arc<Semaphore>,
    pub librarian: Librarian,
    pub tools: Vec<Tool>,
}

impl Server {
    /// A server to be configured.
    pub fn builder(kernel: Kernel) -> ServerBuilder {
        ServerBuilder::new(kernel)
    }

    pub(crate) fn new(builder: ServerBuilder) -> Result<Self> {
        let ServerBuilder { kernel, grants, image, context, tasks, keep, limits } = builder;
        let store = match keep {
            None => None,
            Some(_) if !kernel.info().host_owned_memory => {
                return Err(Error::setting(
                    "sessions cannot be kept here: the state of their memory cannot be taken",
                    "this needs Linux, and a kernel without `metered` and `portable`",
                ));
            }
            Some(_) if matches!(grants.workspace, Workspace::Overlay(_)) => {
                return Err(Error::setting(
                    "sessions cannot be kept with an overlay: its files end with the server",
                    "keep sessions without one, or let them end with their connection",
                ));
            }
            Some(directory) => {
                let store = Store::open(&directory, context.as_ref().map(|context| context.mark().clone()))?;
                check_outside(&grants, store.directory())?;
                Some(Arc::new(store))
            }
        };
        let mut shared = Shared {
            budget: kernel.llm().map(|llm| llm.budget()),
            tools: catalog::tools(&kernel, tasks.is_some()),
            kept: store.as_ref().map(|_| Arc::default()),
            kernel,
            grants,
            image,
            context,
            tasks,
            limits,
            store,
            tables: Mutex::default(),
            places: Arc::default(),
            common_files: None,
            looks: Arc::new(Semaphore::new(LOOKS)),
            librarian: Librarian::default(),
        };
        // What cannot work is told before anybody connects.
        let session = shared.session(&shared.grants.limits, None, None, &Output::default())?;
        if shared.grants.workspace != Workspace::Temporary {
            shared.common_files = session.files();
        }
        Ok(Server(Arc::new(shared)))
    }

    /// Serves one client over standard input and output, until the input ends or `shutdown` is ready. Nothing else
    /// may write to standard output.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`] when the client does not begin as MCP has it.
    pub async fn serve_stdio(&self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let (read, write) = stdio_pipes();
        self.serve(read, write, shutdown).await
    }

    /// Serves one client over a pair of streams, a message a line, until the input ends or `shutdown` is ready.
    ///
    /// # Errors
    ///
    /// As [`Server::serve_stdio`].
    pub async fn serve<R, W>(&self, read: R, write: W, shutdown: impl Future<Output = ()>) -> Result<()>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let _watch = self.look_after();
        let most = self.0.limits.message_bytes;
        let transport = AsyncRwTransport::new_server(too_long::Told::new(read, most), write);
        let transport = transport.with_max_line_length(most);
        let mut shutdown = std::pin::pin!(shutdown);
        let client = Client::new(&self.0);
        let table = client.table();
        let serving = tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            serving = client.serve(transport) => serving,
        };
        let running = match serving {
            Ok(running) => running,
            // Who leaves before saying anything has nothing to hear.
            Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            Err(error) => return Err(Error::Connection(error.to_string())),
        };
        let token = running.cancellation_token();
        let mut waiting = std::pin::pin!(running.waiting());
        tokio::select! {
            biased;
            () = &mut shutdown => {
                token.cancel();
                let _ = waiting.await;
            }
            _ = &mut waiting => {}
        }
        if self.0.store.is_none() {
            // Who returns from here may end the process, and workspaces are to be removed before.
            let _ = tokio::time::timeout(LAST, table.close_all()).await;
        }
        Ok(())
    }

    /// Listens on an address for clients over streamable HTTP; [`HttpServer::serve`] then serves them.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] when others than this machine could connect without a token, or no name would be
    /// accepted; [`Error::System`] when the address cannot be listened on.
    pub async fn bind(&self, settings: HttpSettings) -> Result<HttpServer> {
        HttpServer::bind(self.clone(), settings).await
    }

    /// Ends sessions that nobody uses, as long as what is returned is kept.
    pub(crate) fn look_after(&self) -> Watch {
        let Some(idle) = self.0.limits.idle else { return Watch(None) };
        let shared = Arc::downgrade(&self.0);
        let pause = (idle / 4).clamp(Duration::from_millis(10), Duration::from_secs(60));
        Watch(Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(shared) = shared.upgrade() else { return };
                for table in shared.tables() {
                    table.close_idle(idle);
                }
            }
        })))
    }
}

/// Looks after sessions until it is dropped.
pub(crate) struct Watch(Option<tokio::task::JoinHandle<()>>);

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Shared {
    /// The sessions of a connection.
    pub fn table(&self) -> Arc<Table> {
        match &self.kept {
            Some(table) => Arc::clone(table),
            None => {
                let table = Arc::new(Table::default());
                let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
                tables.retain(|table| table.strong_count() > 0);
                tables.push(Arc::downgrade(&table));
                table
            }
        }
    }

    fn tables(&self) -> Vec<Arc<Table>> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        self.kept.iter().cloned().chain(tables.iter().filter_map(Weak::upgrade)).collect()
    }

    /// A place for a session, if there is one.
    pub fn place(&self) -> Result<Place, Refusal> {
        Place::take(&self.places, self.limits.sessions).ok_or_else(|| self.full())
    }

    /// Refuses more sessions than there may be, those on disk included.
    pub fn check_room(&self) -> Result<(), Refusal> {
        let taken = match &self.store {
            Some(store) => store.names().len(),
            None => self.places.load(Ordering::Relaxed),
        };
        match taken < self.limits.sessions {
            true => Ok(()),
            false => Err(self.full()),
        }
    }

    fn full(&self) -> Refusal {
        Refusal::new(format!("the server has {} sessions, which is all it may have", self.limits.sessions))
            .hint("close one that is not needed with `session_close`")
    }

    /// Where sessions have files of their own, if they are kept.
    pub fn store_of_files(&self) -> Option<Arc<Store>> {
        match self.grants.workspace {
            Workspace::Temporary => self.store.clone(),
            _ => None,
        }
    }

    /// Starts a session where that holds up nobody.
    pub async fn start_session(
        self: &Arc<Self>,
        slot: &Slot,
        image: Option<Image>,
        output: &Output,
    ) -> Result<Session, Refusal> {
        let (shared, limits, output) = (Arc::clone(self), slot.limits().clone(), output.clone());
        let (name, owner) = (slot.name().to_owned(), slot.owner().clone());
        blocking(move || Ok(shared.session(&limits, Some((&name, &owner)), image.as_ref(), &output)?)).await?
    }

    /// Starts a session; one with a name has its own files where sessions are kept, and the tasks of its owner.
    fn session(
        &self,
        limits: &Limits,
        name: Option<(&str, &Owner)>,
        image: Option<&Image>,
        output: &Output,
    ) -> agentkernel::Result<Session> {
        let mut grants = self.grants.clone();
        grants.limits = limits.clone();
        // Counted here, for each turn: a session may live long.
        grants.limits.output_bytes = u64::MAX;
        if let (Some(store), Some((name, _))) = (self.store_of_files(), name) {
            // What cannot be made cannot be opened either, and is told then.
            grants.workspace = Workspace::Directory(store.workspace(name));
        }
        let mut builder = self.kernel.session().grants(grants).on_output(output.handler());
        if let Some(budget) = &self.budget {
            builder = builder.budget(budget.clone());
        }
        if let Some(context) = &self.context {
            builder = builder.context(context.clone());
        }
        if let Some(tasks) = &self.tasks {
            builder = match name {
                Some((_, Owner(owner))) => builder.tasks(&tasks.owned_by(owner)),
                None => builder.tasks(tasks),
            };
        }
        if let Some(image) = image.or(self.image.as_ref()) {
            builder = builder.image(image);
        }
        builder.start()
    }
}

/// Refuses a directory of sessions that programs may write to: they could make one another's state.
fn check_outside(grants: &Grants, directory: &Path) -> Result<()> {
    let workspace = match &grants.workspace {
        Workspace::Directory(directory) => Some(directory.as_path()),
        _ => None,
    };
    let mounts = grants.mounts.iter().filter(|mount| mount.access == Access::ReadWrite);
    let mut writable = workspace.into_iter().chain(mounts.map(|mount| mount.host.as_path()));
    let meets = |path: &Path| directory.starts_with(path) || path.starts_with(directory);
    match writable.find(|path| path.canonicalize().is_ok_and(|path| meets(&path))) {
        None => Ok(()),
        Some(path) => Err(Error::setting(
            format!(
                "the directory of sessions `{}` and `{}`, which programs may write to, lie in one another",
                directory.display(),
                path.display()
            ),
            "keep it outside of what is granted",
        )),
    }
}
