//! Finding servers among the tools.

use super::{Act, Mcp};
use crate::tool::loaded::{Body, Loaded};
use crate::tool::toolbox::Toolbox;

impl Toolbox {
    /// The server that function number `number` is of, and what that function does.
    pub fn act(&self, number: u32) -> Option<(usize, Act)> {
        let position = self.tools.iter().rposition(|tool| tool.first_function <= number)?;
        let tool = &self.tools[position];
        tool.mcp()?;
        Some((position, Act::of(number - tool.first_function)?))
    }

    /// The server that programs call as `name`.
    pub fn server(&self, name: &str) -> Option<(usize, &Mcp)> {
        let position = self.tools.iter().position(|tool| tool.name == name)?;
        Some((position, self.tools[position].mcp()?))
    }
}

impl<C> Loaded<C> {
    /// The server that it is, if it is one.
    pub fn mcp(&self) -> Option<&Mcp> {
        match &self.body {
            Body::Mcp(server) => Some(server),
            _ => None,
        }
    }
}
