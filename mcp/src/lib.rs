//! An MCP server over AgentKernel.
