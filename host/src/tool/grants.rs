//! What a tool may touch and use: pure data.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Constraints;
use super::ToolResources;
use super::ambient::{ClockSource, RandomSource};
use super::http::{HttpRule, Secret};
use crate::{Access, Mount};

/// Everything that a tool may touch. The default is nothing but clocks, randomness and the default
/// [`ToolLimits`]: no directory, no environment variable, no network.
///
/// A program that may call a tool may do through it whatever the tool was granted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolGrants {
    /// Directories. A host path that begins with [`ToolGrants::WORKSPACE`] is the workspace of the
    /// session that calls, or a directory in it.
    pub mounts: Vec<Mount>,
    /// The tool's environment variables. It sees none of the program's or the host's.
    pub environment: BTreeMap<String, String>,
    /// The HTTP requests that it may make: those that one of these rules allows.
    pub http: Vec<HttpRule>,
    /// What `{{NAME}}` in the header of a request stands for, by its name.
    pub secrets: BTreeMap<String, Secret>,
    /// Where its random numbers come from.
    pub random: RandomSource,
    /// What its clocks show.
    pub clock: ClockSource,
    /// What the arguments of its functions must be like, by their names in Python below the tool's
    /// (`search`, `Table.filter`). Functions that are not named take any.
    pub allow: BTreeMap<String, Constraints>,
    /// Whether each call gets an instance of its own, so that nothing of one call is there in the next.
    /// Default: an instance serves the calls of a session until one fails.
    pub per_call: bool,
    /// What becomes of its open resources when a session is forked, kept or put back.
    pub resources: ToolResources,
    /// How much it may use.
    pub limits: ToolLimits,
}

impl ToolGrants {
    /// Stands for the session's workspace in a mount: `{workspace}`, `{workspace}/data`.
    pub const WORKSPACE: &str = "{workspace}";

    /// The workspace of the session that calls, at `/workspace`, where the shipped tools look for files.
    pub fn workspace(access: Access) -> Self {
        let mount = Mount { host: Self::WORKSPACE.into(), guest: "/workspace".into(), access };
        ToolGrants { mounts: vec![mount], ..ToolGrants::default() }
    }
}

/// How much a tool may use in one session.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ToolLimits {
    /// Wall-clock time of one call, waiting included; the time limit of the turn holds as well.
    /// Default: 30 seconds. `None` is no limit.
    pub timeout: Option<Duration>,
    /// Memory of an instance in bytes, all of its linear memories together. Default: 256 MiB.
    pub memory_bytes: u64,
    /// Instances that calls which overlap may have at once; more wait. Default: 8.
    pub instances: u32,
    /// Files and directories open at once, in all its instances. Default: 256.
    pub open_files: u32,
    /// Bytes written to all its directories in a session. Default: 1 GiB.
    pub write_bytes: u64,
    /// Files, directories and links made, less those removed, in a session. Default: 20,000.
    pub new_entries: u32,
    /// Length of a path in bytes. Default: 4096.
    pub path_bytes: u32,
    /// HTTP requests in a session. Default: 1,000.
    pub requests: u32,
    /// HTTP requests of an instance at once; more wait for one of these to end. Default: 16.
    pub concurrent_requests: u32,
    /// Bytes sent over HTTP in a session. Default: 1 GiB.
    pub sent_bytes: u64,
    /// Bytes received over HTTP in a session. Default: 1 GiB.
    pub received_bytes: u64,
}

impl Default for ToolLimits {
    fn default() -> Self {
        ToolLimits {
            timeout: Some(Duration::from_secs(30)),
            memory_bytes: 256 << 20,
            instances: 8,
            open_files: 256,
            write_bytes: 1 << 30,
            new_entries: 20_000,
            path_bytes: 4096,
            requests: 1000,
            concurrent_requests: 16,
            sent_bytes: 1 << 30,
            received_bytes: 1 << 30,
        }
    }
}
