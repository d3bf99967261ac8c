//! The host side of `wit/kernel.wit`, generated.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "python",
    imports: { default: trappable },
    with: { "agentkernel:kernel/operations.operation": crate::operations::Operation },
});

pub(crate) use self::agentkernel::kernel::{console, modules, operations};
pub(crate) use self::exports::agentkernel::kernel::guest;
