//! The interpreter without what only our host makes use of.
//!
//! Its safepoints and gates (`xtask/src/fuse`) are reads and writes of a memory of their own. Other
//! hosts do not stop or interrupt it that way, and not all of them have multiple memories or atomic
//! instructions. Here that memory goes: it would read as zero at all times.

use wasm_encoder as we;
use wasmparser as wp;

use super::broken;
use crate::Result;

pub(super) fn portable(component: &[u8]) -> Result<Vec<u8>> {
    let mut output = we::Component::new();
    let mut depth = 0;
    for payload in wp::Parser::new(0).parse_all(component) {
        let payload = payload.map_err(broken)?;
        match &payload {
            wp::Payload::Version { .. } => depth += 1,
            wp::Payload::End(_) => depth -= 1,
            _ if depth > 1 => {}
            wp::Payload::ModuleSection { unchecked_range, .. } => {
                let module = &component[unchecked_range.clone()];
                let rewritten = without_second_memory(module)?;
                let data = rewritten.as_deref().unwrap_or(module);
                output.section(&we::RawSection { id: we::ComponentSectionId::CoreModule.into(), data });
            }
            // Where signals and pending output are, and names of what was fused.
            wp::Payload::CustomSection(_) => {}
            _ => {
                if let Some((id, range)) = payload.as_section() {
                    output.section(&we::RawSection { id, data: &component[range] });
                }
            }
        }
    }
    Ok(output.finish())
}

/// The module, if it had a second memory.
fn without_second_memory(module: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut output = we::Module::new();
    let mut code = we::CodeSection::new();
    let mut bodies_left = 0;
    for payload in wp::Parser::new(0).parse_all(module) {
        let payload = payload.map_err(broken)?;
        match &payload {
            wp::Payload::MemorySection(memories) => {
                if memories.count() < 2 {
                    return Ok(None);
                }
                let first = memories.clone().into_iter().next().ok_or_else(|| broken("no memory"))?;
                let mut section = we::MemorySection::new();
                section.memory(first.map_err(broken)?.into());
                output.section(&section);
            }
            wp::Payload::CodeSectionStart { count, .. } => bodies_left = *count,
            wp::Payload::CodeSectionEntry(body) => {
                code.raw(&without_second(module, body).map_err(broken)?);
                bodies_left -= 1;
                if bodies_left == 0 {
                    output.section(&code);
                }
            }
            wp::Payload::CustomSection(_) => {}
            _ => {
                if let Some((id, range)) = payload.as_section() {
                    output.section(&we::RawSection { id, data: &module[range] });
                }
            }
        }
    }
    // Of a module without memories nothing was changed.
    Ok(Some(output.finish()))
}

/// A body without its instructions on the second memory. All of them have the address zero, which
/// stands for what they would read.
fn without_second(module: &[u8], body: &wp::FunctionBody) -> wp::Result<Vec<u8>> {
    let mut output = Vec::with_capacity(body.range().len());
    let mut copied = body.range().start;
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        let start = operators.original_position();
        let replacement: &[u8] = match operators.read()? {
            wp::Operator::I32Load { memarg } | wp::Operator::I32AtomicLoad { memarg }
                if memarg.memory == 1 =>
            {
                &[]
            }
            wp::Operator::I32AtomicStore { memarg } if memarg.memory == 1 => &[DROP, DROP],
            _ => continue,
        };
        output.extend_from_slice(&module[copied..start]);
        output.extend_from_slice(replacement);
        copied = operators.original_position();
    }
    output.extend_from_slice(&module[copied..body.range().end]);
    Ok(output)
}

const DROP: u8 = 0x1a;
