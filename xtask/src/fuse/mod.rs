//! Makes one core module of a component that componentize-py linked.
//!
//! componentize-py links libc, libpython, its runtime and their like dynamically: a dozen core
//! modules that share a memory and a table, whose addresses are globals set up at instantiation, and
//! whose calls across modules go through the table. wasmtime fills that table function by function
//! for every instance, which is most of the time of a start.
//!
//! Since the component was pre-initialised, all of those globals are constants. So:
//!
//! 1. [`component`] reads the component: modules, instances, what is wired to what.
//! 2. [`link`] resolves every import to a definition, or to an import of the component itself;
//!    evaluates the globals and the table; finds functions that only forward to a table entry, and
//!    imports whose arguments the runtime forgets to free ([`leak`]).
//! 3. [`emit`] writes one module: constant globals inlined, forwarding functions called directly,
//!    unreachable ones left out, one table, one memory.
//! 4. [`rewrite`] lays another memory in, and puts safepoints at the loops.
//! 5. [`gates`] keeps the host from changing the memory while it reads it.
//! 6. [`wrap`] makes a component of the module, with the world of the original.
//!
//! What this assumes about its input is checked, and an error says what was met instead: one memory,
//! one table, active segments at constant offsets, no start functions, no mutation of the table.

mod component;
mod emit;
mod gates;
mod leak;
mod link;
mod rewrite;

use anyhow::{Context, Result, bail};
use wit_component::{ComponentEncoder, DecodedWasm, StringEncoding};

pub use gates::add_gates;
pub use link::{FORGET_DIRECTORIES, SET_INTERRUPT};
pub use rewrite::{add_safepoints, replace_memory};

/// A component's one module.
pub struct Fused {
    pub module: Vec<u8>,
    /// The address that the stack grows down from; nothing else lies below it.
    pub stack_top: u32,
}

/// Merges the core modules of `component` into one.
pub fn fuse(component: &[u8]) -> Result<Fused> {
    let leaks = leak::find(component).context("reading its types")?;
    let component = component::read(component).context("reading the component")?;
    let linked = link::link(&component, leaks).context("linking its modules")?;
    let module = emit::emit(&linked).context("writing the fused module")?;
    validate(&module).context("the fused module is not valid")?;
    Ok(Fused { module, stack_top: linked.stack_top()? })
}

/// Wraps the fused `module` into a component with the world of `original`.
pub fn wrap(original: &[u8], module: &[u8]) -> Result<Vec<u8>> {
    let DecodedWasm::Component(mut resolve, world) = wit_component::decode(original)? else {
        bail!("the original is a WIT package, not a component");
    };
    // componentize-py exports an interface of its own for pre-initialisation.
    let own: Vec<_> = resolve.worlds[world]
        .exports
        .keys()
        .filter(|key| resolve.name_world_key(key) == component::BUILD_EXPORTS)
        .cloned()
        .collect();
    for key in own {
        resolve.worlds[world].exports.shift_remove(&key);
    }
    let mut module = module.to_vec();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default().validate(true).debug_names(false).module(&module)?.encode()
}

fn validate(module: &[u8]) -> Result<()> {
    wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all()).validate_all(module)?;
    Ok(())
}
