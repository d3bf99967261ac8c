//! Gates between the interpreter and the host, so that signals are set only while no host code looks.
//!
//! The host sets signals in the interpreter's memory from another thread. That is sound only while
//! no host function holds a reference into that memory, so the two sides agree by two words of the
//! safepoint page, as in Dekker's algorithm: the interpreter says that it is [`INSIDE`] between its
//! exports and its imports, and leaves only when nobody is [`RAISING`]; the host says that it is
//! raising, and goes on only if the interpreter is inside.

use anyhow::{Result, anyhow, ensure};
use wasm_encoder as we;
use wasm_encoder::reencode::Reencode;
use wasmparser as wp;

use super::link::FORGET_DIRECTORIES;
use super::rewrite::copy;

/// 1 while the interpreter runs, 0 while the host does. The host knows this address too.
const INSIDE: u64 = 4;
/// 1 while the host sets a signal. The host knows this address too.
const RAISING: u64 = 8;

/// Ends the name of the export that is libc's function `__wasilibc_reset_preopens`, whatever the component
/// had there: no Python can let go of the handles that libc holds.
const REST: &str = "/guest@0.1.0#rest";

/// Puts a gate around every import, and around every export that runs programs.
pub fn add_gates(module: &[u8]) -> Result<Vec<u8>> {
    let mut types: Vec<wp::FuncType> = Vec::new();
    let mut imports: Vec<u32> = Vec::new();
    let mut functions: Vec<u32> = Vec::new();
    let mut exports: Vec<(String, u32)> = Vec::new();
    let mut reset = None;
    for payload in wp::Parser::new(0).parse_all(module) {
        match payload? {
            wp::Payload::TypeSection(section) => {
                types = section.into_iter_err_on_gc_types().collect::<Result<_, _>>()?;
            }
            wp::Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let wp::TypeRef::Func(ty) = import?.ty else {
                        anyhow::bail!("the module imports more than functions");
                    };
                    imports.push(ty);
                }
            }
            wp::Payload::FunctionSection(section) => {
                functions = section.into_iter().collect::<Result<_, _>>()?
            }
            wp::Payload::MemorySection(section) => {
                ensure!(section.count() == 2, "gates need the safepoint page");
            }
            wp::Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if runs_programs(&export) {
                        exports.push((export.name.to_owned(), export.index));
                    }
                    if export.name == FORGET_DIRECTORIES {
                        reset = Some(export.index);
                    }
                }
            }
            _ => {}
        }
    }
    if let Some((_, rest)) = exports.iter_mut().find(|(name, _)| name.ends_with(REST)) {
        *rest = reset.ok_or_else(|| anyhow!("the module does not export `{}`", FORGET_DIRECTORIES))?;
    }
    let defined = u32::try_from(imports.len() + functions.len())?;
    let mut gates = Gates { imports: u32::try_from(imports.len())?, defined };
    let ty = |function: u32| {
        let index = function as usize;
        imports.get(index).or_else(|| functions.get(index - imports.len())).copied()
    };
    let gated: Vec<(u32, bool)> = (0..gates.imports)
        .map(|index| (index, true))
        .chain(exports.iter().map(|(_, index)| (*index, false)))
        .collect();

    let mut output = we::Module::new();
    let mut code = we::CodeSection::new();
    let mut bodies_left = 0;
    for payload in wp::Parser::new(0).parse_all(module) {
        let payload = payload?;
        match &payload {
            wp::Payload::FunctionSection(_) => {
                let mut section = we::FunctionSection::new();
                for ty in &functions {
                    section.function(*ty);
                }
                for (function, _) in &gated {
                    section.function(ty(*function).ok_or_else(|| anyhow!("a function without a type"))?);
                }
                output.section(&section);
            }
            wp::Payload::ExportSection(section) => {
                let mut rewritten = we::ExportSection::new();
                for export in section.clone() {
                    let export = export?;
                    // What follows a call of Python would undo what was not done.
                    let follows = export.name.starts_with("cabi_post_") && export.name.ends_with(REST);
                    if export.name == FORGET_DIRECTORIES || follows {
                        continue;
                    }
                    let index = match exports.iter().position(|(name, _)| name == export.name) {
                        Some(position) => defined + gates.imports + u32::try_from(position)?,
                        None => export.index,
                    };
                    rewritten.export(export.name, export.kind.into(), index);
                }
                output.section(&rewritten);
            }
            wp::Payload::ElementSection(section) => {
                let mut rewritten = we::ElementSection::new();
                gates.parse_element_section(&mut rewritten, section.clone()).map_err(unwritable)?;
                output.section(&rewritten);
            }
            wp::Payload::CodeSectionStart { count, .. } => bodies_left = *count,
            wp::Payload::CodeSectionEntry(body) => {
                gates.parse_function_body(&mut code, body.clone()).map_err(unwritable)?;
                bodies_left -= 1;
                if bodies_left == 0 {
                    for (function, is_import) in &gated {
                        let ty = ty(*function).ok_or_else(|| anyhow!("a function without a type"))?;
                        code.function(&gate(*function, types[ty as usize].params().len(), *is_import)?);
                    }
                    output.section(&code);
                }
            }
            _ => copy(&mut output, module, &payload),
        }
    }
    let module = output.finish();
    super::validate(&module)?;
    Ok(module)
}

/// Whether an export may run for long. The others are called by the host while it converts values.
fn runs_programs(export: &wp::Export) -> bool {
    export.kind == wp::ExternalKind::Func
        && export.name.contains('#')
        && !export.name.starts_with("cabi_post_")
}

fn unwritable<E: std::fmt::Display>(error: we::reencode::Error<E>) -> anyhow::Error {
    anyhow!("cannot be encoded: {error}")
}

/// Calls `function` with its own arguments, outside of the interpreter if it is an import and inside
/// if it is an export.
fn gate(function: u32, parameters: usize, is_import: bool) -> Result<we::Function> {
    let word = |offset| we::MemArg { offset, align: 2, memory_index: 1 };
    let mut body = we::Function::new([]);
    let mut code = body.instructions();
    let enter = |code: &mut we::InstructionSink| {
        code.i32_const(0).i32_const(1).i32_atomic_store(word(INSIDE));
    };
    let leave = |code: &mut we::InstructionSink| {
        code.i32_const(0).i32_const(0).i32_atomic_store(word(INSIDE));
        code.loop_(we::BlockType::Empty).i32_const(0).i32_atomic_load(word(RAISING)).br_if(0).end();
    };
    if is_import {
        leave(&mut code)
    } else {
        enter(&mut code)
    }
    for parameter in 0..u32::try_from(parameters)? {
        code.local_get(parameter);
    }
    code.call(function);
    if is_import {
        enter(&mut code)
    } else {
        leave(&mut code)
    }
    code.end();
    Ok(body)
}

/// Lets calls of imports go through their gates.
struct Gates {
    imports: u32,
    defined: u32,
}

impl Reencode for Gates {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, we::reencode::Error<Self::Error>> {
        Ok(if index < self.imports { self.defined + index } else { index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_and_exports_go_through_gates() {
        let module = wat::parse_str(
            r#"(module
                (import "host" "f" (func $f (param i32) (result i32)))
                (memory 1) (memory 1 1)
                (table 1 1 funcref) (elem (i32.const 0) $f)
                (func $run (param i32) (result i32) (call $f (local.get 0)))
                (export "a#run" (func $run))
                (export "cabi_realloc" (func $run))
                (export "memory" (memory 0)))"#,
        )
        .unwrap();
        let module = add_gates(&module).unwrap();
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::new(&engine, module).unwrap();
        let mut linker = wasmtime::Linker::<()>::new(&engine);
        linker.func_wrap("host", "f", |value: i32| value + 1).unwrap();
        let mut store = wasmtime::Store::new(&engine, ());
        let instance = linker.instantiate(&mut store, &module).unwrap();
        for name in ["a#run", "cabi_realloc"] {
            let run = instance.get_typed_func::<i32, i32>(&mut store, name).unwrap();
            assert_eq!(run.call(&mut store, 41).unwrap(), 42, "{name}");
        }
    }

    #[test]
    fn libc_takes_the_place_of_rest() {
        let module = wat::parse_str(
            r#"(module
                (memory 1) (memory 1 1)
                (global $reset (export "was reset") (mut i32) (i32.const 0))
                (func $python unreachable)
                (func $libc (global.set $reset (i32.const 1)))
                (export "agentkernel:kernel/guest@0.1.0#rest" (func $python))
                (export "cabi_post_agentkernel:kernel/guest@0.1.0#rest" (func $python))
                (export "__wasilibc_reset_preopens" (func $libc))
                (export "memory" (memory 0)))"#,
        )
        .unwrap();
        let module = add_gates(&module).unwrap();
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::new(&engine, module).unwrap();
        let mut store = wasmtime::Store::new(&engine, ());
        let instance = wasmtime::Linker::<()>::new(&engine).instantiate(&mut store, &module).unwrap();
        let rest = instance.get_typed_func::<(), ()>(&mut store, "agentkernel:kernel/guest@0.1.0#rest");
        rest.unwrap().call(&mut store, ()).unwrap();
        assert!(instance.get_func(&mut store, "cabi_post_agentkernel:kernel/guest@0.1.0#rest").is_none());
        assert_eq!(instance.get_global(&mut store, "was reset").unwrap().get(&mut store).i32(), Some(1));
    }
}
