//! What a server is made with.

use std::path::PathBuf;
use std::time::Duration;

use agentkernel::task::Tasks;
use agentkernel::{Context, Grants, Image, Kernel};

use crate::error::Result;
use crate::server::Server;

/// How much a server holds and passes on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Sessions of all clients together. Default: 32.
    pub sessions: usize,
    /// How long a session lives that nobody uses. `None` is no limit. Default: 30 minutes.
    pub idle: Option<Duration>,
    /// Clients over HTTP that are connected at the same time. Default: 32.
    pub clients: usize,
    /// Bytes of a message that is received. Default: 8 MiB.
    pub message_bytes: usize,
    /// Bytes of the text that a model reads of one result; the structured result has all. Default: 64 KiB.
    pub text_bytes: usize,
    /// Bytes of a file that is read as a resource. Default: 4 MiB.
    pub resource_bytes: u64,
    /// Tasks in the store that have not ended, beyond which clients dispatch no more. Default: 256.
    pub unfinished_tasks: u64,
    /// Resources, tasks and found functions in one answer. Default: 200.
    pub listed: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        ServerLimits {
            sessions: 32,
            idle: Some(Duration::from_secs(30 * 60)),
            clients: 32,
            message_bytes: 8 << 20,
            text_bytes: 64 << 10,
            resource_bytes: 4 << 20,
            unfinished_tasks: 256,
            listed: 200,
        }
    }
}

/// Configures a [`Server`].
pub struct ServerBuilder {
    pub(crate) kernel: Kernel,
    pub(crate) grants: Grants,
    pub(crate) image: Option<Image>,
    pub(crate) context: Option<Context>,
    pub(crate) tasks: Option<Tasks>,
    pub(crate) keep: Option<PathBuf>,
    pub(crate) limits: ServerLimits,
}

impl ServerBuilder {
    pub(crate) fn new(kernel: Kernel) -> Self {
        ServerBuilder {
            kernel,
            grants: Grants::default(),
            image: None,
            context: None,
            tasks: None,
            keep: None,
            limits: ServerLimits::default(),
        }
    }

    /// What each session may touch. The limit of output is one of a turn here. Default: [`Grants::default`].
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = grants;
        self
    }

    /// What sessions start from. Default: an interpreter that has run nothing.
    pub fn image(mut self, image: Image) -> Self {
        self.image = Some(image);
        self
    }

    /// What programs read as `agentkernel.context`. Kept sessions go on only while it is what it was. Default: none.
    pub fn context(mut self, context: Context) -> Self {
        self.context = Some(context);
        self
    }

    /// Lets clients and programs dispatch background tasks. Somebody has to run a worker for them. Clients see
    /// those that clients have dispatched, of whatever connection. Default: none.
    pub fn tasks(mut self, tasks: Tasks) -> Self {
        self.tasks = Some(tasks);
        self
    }

    /// Keeps sessions in this directory, which is made if there is none: the state after each turn, before its
    /// outcome is told. They then belong to the server and not to a connection, so all clients have the same.
    /// One server at a time uses a directory. Default: sessions end with their connection.
    pub fn keep_sessions(mut self, directory: impl Into<PathBuf>) -> Self {
        self.keep = Some(directory.into());
        self
    }

    /// How much the server holds and passes on. Default: [`ServerLimits::default`].
    pub fn limits(mut self, limits: ServerLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Makes the server; it does not serve yet.
    ///
    /// # Errors
    ///
    /// [`Error::Kernel`](crate::Error::Kernel) when a session cannot be started with these grants,
    /// [`Error::Setting`](crate::Error::Setting) when the directory of kept sessions is another server's, lies in
    /// what programs may write, or cannot be kept by this kernel.
    pub fn build(self) -> Result<Server> {
        Server::new(self)
    }
}
