//! The host side of `wit/kernel.wit`, generated.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "python",
    imports: { default: trappable },
    with: { "agentkernel:kernel/operations.operation": crate::operations::Operation },
});

pub(crate) use agentkernel::kernel::{console, operations};
pub(crate) use exports::agentkernel::kernel::guest;
