//! What becomes of a tool's open resources where the state of a session is kept, copied or put back.

use super::describe::{Description, Shape};
use crate::{Error, ErrorKind, Result};

/// What becomes of open resources of a tool when a session is forked, kept as an image, or put back to where it was before a
/// turn. A resource is in the tool's instance, which cannot be copied; what a program holds is its number.
///
/// ```
/// # fn main() {
/// use agentkernel::{ToolGrants, ToolResources};
///
/// let grants = ToolGrants { resources: ToolResources::Recreated, ..ToolGrants::default() };
/// # assert_ne!(grants, ToolGrants::default());
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToolResources {
    /// A session that is put back keeps the instance: what was open before the turn is open still, as the turn left it. What
    /// the turn closed is closed, and so is what it opened. In forks and in sessions from images they are closed.
    #[default]
    Kept,
    /// They are closed wherever the state goes: a session that is put back gets another instance too. Using one raises
    /// `tools.ToolClosed`.
    Closed,
    /// As [`ToolResources::Closed`], but one that is used is made anew first, by the call that made it. This is for resources
    /// that are what their arguments say. One that cannot be made so (it was part of another value, or was made of much) is closed.
    Recreated,
    /// While one is open the state is not kept: forks, snapshots and transactions fail with
    /// [`ErrorKind::Held`](crate::ErrorKind::Held), and a turn that is stopped ends the session, as with open files.
    Refused,
}

impl ToolResources {
    /// Refuses what would have no effect.
    pub(super) fn check(self, tool: &str, described: &Description) -> Result<()> {
        let has_resources = described.types.iter().any(|ty| matches!(ty.shape, Shape::Resource));
        if self == Self::Kept || has_resources {
            return Ok(());
        }
        let message = format!("`resources` has no effect on the tool `{tool}`, which has none");
        Err(Error::new(ErrorKind::Grant, message).hint("take `resources` out of its grants"))
    }
}
