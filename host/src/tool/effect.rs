//! Grants that a tool could not use are mistakes that somebody should hear of.

use super::ambient::{ClockSource, RandomSource};
use super::{ToolGrants, http};
use crate::{Error, ErrorKind, Result};

/// Refuses grants of what the component does not import.
pub(super) fn check(tool: &str, grants: &ToolGrants, imports: &[String]) -> Result<()> {
    for (given, key, import) in [
        (!grants.mounts.is_empty(), "mounts", "wasi:filesystem/"),
        (!grants.environment.is_empty(), "env", "wasi:cli/environment"),
        (!grants.http.is_empty(), "http", "wasi:http/outgoing-handler"),
        (!grants.secrets.is_empty(), "secrets", "wasi:http/outgoing-handler"),
        (grants.random != RandomSource::System, "random", "wasi:random/"),
        (grants.clock != ClockSource::System, "clock", "wasi:clocks/"),
    ] {
        if given && !imports.iter().any(|name| name.starts_with(import)) {
            let message =
                format!("`{key}` has no effect on the tool `{tool}`, which does not import `{import}`");
            return Err(Error::new(ErrorKind::Grant, message.replace("/`", "`"))
                .hint(format!("take `{key}` out of its grants")));
        }
    }
    let limits = &grants.limits;
    if !grants.http.is_empty() && (limits.requests == 0 || limits.concurrent_requests == 0) {
        return Err(Error::new(
            ErrorKind::Grant,
            format!("the tool `{tool}` may send requests, and no more than 0"),
        )
        .hint("give at least 1, or take `http` out of its grants"));
    }
    http::check(grants)
}
