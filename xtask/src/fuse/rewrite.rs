//! Changes to the fused module: another memory image, safepoints.

use anyhow::{Context, Result, anyhow, ensure};
use wasm_encoder as we;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasmparser as wp;

const PAGE: usize = 65536;

/// A run of zeroes shorter than this stays inside a data segment.
const GAP: usize = 4096;

/// Replaces the module's initial memory, its size and its content, and takes out the exports that
/// only the build needs.
pub fn replace_memory(module: &[u8], image: &[u8]) -> Result<Vec<u8>> {
    ensure!(image.len().is_multiple_of(PAGE), "a memory image is whole pages");
    let mut output = we::Module::new();
    for payload in wp::Parser::new(0).parse_all(module) {
        let payload = payload?;
        match &payload {
            wp::Payload::MemorySection(memories) => {
                ensure!(memories.count() == 1, "the module has more than one memory already");
                let mut section = we::MemorySection::new();
                section.memory(we::MemoryType {
                    minimum: (image.len() / PAGE) as u64,
                    maximum: None,
                    memory64: false,
                    shared: false,
                    page_size_log2: None,
                });
                output.section(&section);
            }
            wp::Payload::ExportSection(exports) => {
                let mut section = we::ExportSection::new();
                for export in exports.clone() {
                    let export = export?;
                    // The other one's export goes when it has taken a place in the contract.
                    if export.name != super::SET_INTERRUPT {
                        section.export(export.name, export.kind.into(), export.index);
                    }
                }
                output.section(&section);
            }
            wp::Payload::DataCountSection { .. } => {}
            wp::Payload::DataSection(_) => {
                let mut section = we::DataSection::new();
                for (start, bytes) in segments(image) {
                    let offset = we::ConstExpr::i32_const(u32::try_from(start)? as i32);
                    section.active(0, &offset, bytes.iter().copied());
                }
                output.section(&section);
            }
            _ => copy(&mut output, module, &payload),
        }
    }
    Ok(output.finish())
}

/// The parts of an image that are not zero.
fn segments(image: &[u8]) -> Vec<(usize, &[u8])> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = image[at..].iter().position(|byte| *byte != 0).map(|skip| at + skip) {
        let mut end = start + 1;
        while let Some(next) = image[end..].iter().take(GAP).position(|byte| *byte != 0) {
            end += next + 1;
        }
        found.push((start, &image[start..end]));
        at = end;
    }
    found
}

/// What [`add_safepoints`] did.
#[derive(Debug, PartialEq, Eq)]
pub struct Safepoints {
    /// Loops that now read the safepoint page.
    pub loops: usize,
}

/// Adds a second memory of one page, and a read of it at the head of every loop.
///
/// A host that takes the page away makes the guest trap at its next loop, at a fraction of the cost
/// of a counter. A load that may trap is never optimised away. The page is a memory of its own so
/// that no pointer that guest code hands to the host can lie in it. Code without loops ends soon:
/// recursion at the stack's limit, bulk instructions at the memory's.
pub fn add_safepoints(module: &[u8]) -> Result<(Vec<u8>, Safepoints)> {
    let mut output = we::Module::new();
    let mut code = we::CodeSection::new();
    let mut reencode = RoundtripReencoder;
    let mut bodies_left = 0;
    let mut loops = 0;
    for payload in wp::Parser::new(0).parse_all(module) {
        let payload = payload?;
        match &payload {
            wp::Payload::MemorySection(memories) => {
                ensure!(memories.count() == 1, "the module has more than one memory already");
                let mut section = we::MemorySection::new();
                for memory in memories.clone() {
                    section.memory(memory?.into());
                }
                section.memory(we::MemoryType {
                    minimum: 1,
                    maximum: Some(1),
                    memory64: false,
                    shared: false,
                    page_size_log2: None,
                });
                output.section(&section);
            }
            wp::Payload::CodeSectionStart { count, .. } => bodies_left = *count,
            wp::Payload::CodeSectionEntry(body) => {
                loops += add_to_body(&mut code, body, &mut reencode)?;
                bodies_left -= 1;
                if bodies_left == 0 {
                    output.section(&code);
                }
            }
            _ => copy(&mut output, module, &payload),
        }
    }
    let module = output.finish();
    super::validate(&module).context("the module with safepoints is not valid")?;
    Ok((module, Safepoints { loops }))
}

fn add_to_body(
    code: &mut we::CodeSection,
    body: &wp::FunctionBody,
    reencode: &mut RoundtripReencoder,
) -> Result<usize> {
    let mut locals = Vec::new();
    for local in body.get_locals_reader()? {
        let (count, ty) = local?;
        let ty = we::ValType::try_from(ty).map_err(|_| anyhow!("a local has an unknown type"))?;
        locals.push((count, ty));
    }
    let mut function = we::Function::new(locals);
    let mut loops = 0;
    for operator in body.get_operators_reader()? {
        let operator = operator?;
        let is_loop = matches!(operator, wp::Operator::Loop { .. });
        let instruction = reencode
            .instruction(operator)
            .map_err(|error| anyhow!("an instruction cannot be encoded: {error}"))?;
        function.instruction(&instruction);
        if is_loop {
            loops += 1;
            let address = we::MemArg { offset: 0, align: 2, memory_index: 1 };
            function.instructions().i32_const(0).i32_load(address).drop();
        }
    }
    code.function(&function);
    Ok(loops)
}

/// Copies a section as it is.
pub fn copy(output: &mut we::Module, module: &[u8], payload: &wp::Payload) {
    if let Some((id, range)) = payload.as_section() {
        output.section(&we::RawSection { id, data: &module[range] });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_leave_long_runs_of_zeroes_out() {
        let mut image = vec![0; 4 * PAGE];
        image[10] = 1;
        image[20] = 2;
        image[2 * PAGE] = 3;
        image[4 * PAGE - 1] = 4;
        let found: Vec<_> = segments(&image).into_iter().map(|(start, bytes)| (start, bytes.len())).collect();
        assert_eq!(found, [(10, 11), (2 * PAGE, 1), (4 * PAGE - 1, 1)]);
        assert_eq!(segments(&vec![0; PAGE]), []);
    }

    fn module() -> Vec<u8> {
        let mut module = we::Module::new();
        let mut types = we::TypeSection::new();
        types.ty().function([], []);
        let mut functions = we::FunctionSection::new();
        functions.function(0);
        let mut memories = we::MemorySection::new();
        memories.memory(we::MemoryType {
            minimum: 1,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        let mut code = we::CodeSection::new();
        let mut body = we::Function::new([]);
        body.instructions().loop_(we::BlockType::Empty).br(0).end().end();
        code.function(&body);
        let mut data = we::DataSection::new();
        data.active(0, &we::ConstExpr::i32_const(0), [9]);
        module.section(&types).section(&functions).section(&memories).section(&code).section(&data);
        module.finish()
    }

    #[test]
    fn every_loop_reads_the_safepoint() {
        let (output, safepoints) = add_safepoints(&module()).unwrap();
        assert_eq!(safepoints, Safepoints { loops: 1 });
        assert!(add_safepoints(&output).is_err(), "once is enough");
    }

    #[test]
    fn memory_is_replaced() {
        let mut image = vec![0; 2 * PAGE];
        image[PAGE] = 7;
        let output = replace_memory(&module(), &image).unwrap();
        super::super::validate(&output).unwrap();
        let data: Vec<_> = wp::Parser::new(0)
            .parse_all(&output)
            .filter_map(|payload| match payload.unwrap() {
                wp::Payload::DataSection(data) => Some(data),
                _ => None,
            })
            .flatten()
            .map(|segment| segment.unwrap().data.to_vec())
            .collect();
        assert_eq!(data, [vec![7]]);
        assert!(replace_memory(&module(), &[0; 5]).is_err());
    }
}
