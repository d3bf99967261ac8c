//! Taking the initial memory out of a component, so that the host can lay it in itself.

use std::io;

use serde::Deserialize;
use wasm_encoder::{Component, Module, RawSection};
use wasmparser::{DataKind, Encoding, Operator, Parser, Payload};

use crate::{Error, ErrorKind, Result};

/// A component without data segments, and the memory they would have made.
pub(crate) struct Split {
    pub component: Vec<u8>,
    pub memory: Vec<u8>,
    /// [`Notes`], as they are written.
    pub notes: Vec<u8>,
}

/// What the build knows about the interpreter's memory: a custom section of the component.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Notes {
    /// Writes that make SIGINT pending: an address, and the bits to set in the 32-bit word there.
    pub interrupt: Vec<(u32, u32)>,
    /// The same for SIGSYS.
    pub flush: Vec<(u32, u32)>,
    /// Standard output: the addresses of the text stream and of its buffered writer.
    pub stdout: (u32, u32),
    /// The addresses of the types `list`, `str` and `bytes`.
    pub types: (u32, u32, u32),
}

impl Notes {
    pub const SECTION: &str = "agentkernel";

    pub fn parse(json: &[u8]) -> io::Result<Self> {
        serde_json::from_slice(json).map_err(io::Error::other)
    }
}

fn unexpected(message: &str) -> Error {
    Error::new(ErrorKind::Guest, format!("the interpreter component {message}"))
        .hint("rebuild it with `cargo xtask guest`")
}

fn malformed(error: wasmparser::BinaryReaderError) -> Error {
    unexpected("is not valid").source(error)
}

/// Moves the data segments of the component's one module that has any into an image.
pub(crate) fn split(component: &[u8]) -> Result<Split> {
    let mut memory = None;
    let mut notes = None;
    let mut output = Component::new();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(malformed)?;
        match &payload {
            Payload::Version { encoding, .. } if depth == 0 && *encoding != Encoding::Component => {
                return Err(unexpected("is a core module"));
            }
            Payload::Version { .. } => {
                depth += 1;
                continue;
            }
            Payload::End(_) => {
                depth -= 1;
                continue;
            }
            _ => {}
        }
        if depth != 1 {
            continue;
        }
        if let Payload::CustomSection(custom) = &payload
            && custom.name() == Notes::SECTION
        {
            notes = Some(custom.data().to_vec());
        }
        let Some((id, range)) = payload.as_section() else {
            continue;
        };
        let body = &component[range];
        let stripped = match payload {
            Payload::ModuleSection { .. } => strip(body)?,
            _ => None,
        };
        match stripped {
            Some((module, image)) => {
                if memory.replace(image).is_some() {
                    return Err(unexpected("has data in two of its modules; it is not fused"));
                }
                output.section(&RawSection { id, data: &module });
            }
            None => {
                output.section(&RawSection { id, data: body });
            }
        }
    }
    Ok(Split {
        component: output.finish(),
        memory: memory.ok_or_else(|| unexpected("has no data"))?,
        notes: notes.ok_or_else(|| unexpected("says nothing about its memory"))?,
    })
}

/// The module without its data, and its first memory as the data would have made it.
fn strip(module: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    const DATA: u8 = 11;
    const DATA_COUNT: u8 = 12;
    let mut memory: Option<Vec<u8>> = None;
    let mut output = Module::new();
    let mut has_data = false;
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(malformed)?;
        match &payload {
            Payload::MemorySection(memories) => {
                let first = memories.clone().into_iter().next().transpose().map_err(malformed)?;
                let pages = first.map_or(0, |first| first.initial);
                memory = Some(vec![0; pages as usize * 65536]);
            }
            Payload::DataSection(segments) => {
                has_data = true;
                let memory = memory.as_mut().ok_or_else(|| unexpected("has data for an imported memory"))?;
                for segment in segments.clone() {
                    let segment = segment.map_err(malformed)?;
                    let DataKind::Active { memory_index: 0, offset_expr } = segment.kind else {
                        return Err(unexpected("has data that is not laid in at the start"));
                    };
                    let Ok(Operator::I32Const { value }) = offset_expr.get_operators_reader().read() else {
                        return Err(unexpected("has data at an offset that is not constant"));
                    };
                    let start = value as u32 as usize;
                    memory
                        .get_mut(start..start + segment.data.len())
                        .ok_or_else(|| unexpected("has data outside of its memory"))?
                        .copy_from_slice(segment.data);
                }
            }
            _ => {}
        }
        if let Some((id, range)) = payload.as_section()
            && id != DATA
            && id != DATA_COUNT
        {
            output.section(&RawSection { id, data: &module[range] });
        }
    }
    Ok(match memory {
        Some(memory) if has_data => Some((output.finish(), memory)),
        _ => None,
    })
}
