//! The bridge's core module with what is generated.

use wasm_encoder as we;
use wasm_encoder::reencode::{self, Reencode};
use wasmparser as wp;

use super::super::broken;
use super::{BRIDGE, GENERATED, Generated, Import};
use crate::Result;

type Reencoded<T> = std::result::Result<T, reencode::Error<std::convert::Infallible>>;

/// Numbers functions anew: imports of tools come after those of the bridge itself, and some of these
/// are functions that are generated.
struct Functions {
    /// The new number of each that the bridge imports.
    imported: Vec<u32>,
    /// How much the numbers of its own functions grow by; it wraps, as they may shrink.
    shift: u32,
}

impl Reencode for Functions {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, index: u32) -> Reencoded<u32> {
        Ok(self.imported.get(index as usize).copied().unwrap_or(index.wrapping_add(self.shift)))
    }
}

/// A function in place of an import.
struct Replacement {
    ty: u32,
    body: we::Function,
}

impl Generated {
    pub(super) fn module(&self, exit_codes: bool) -> Result<Vec<u8>> {
        self.rewrite(exit_codes).map_err(broken)
    }

    /// Imports of tools, calls first.
    fn imports(&self) -> impl Iterator<Item = &Import> {
        self.calls.iter().chain(&self.drops)
    }

    fn rewrite(&self, exit_codes: bool) -> Reencoded<Vec<u8>> {
        let mut output = we::Module::new();
        let mut functions = Functions { imported: Vec::new(), shift: 0 };
        let mut replacements: Vec<Replacement> = Vec::new();
        let mut first_type = 0;
        let mut code = we::CodeSection::new();
        let mut bodies_left = 0;
        let own = own_functions();
        for payload in wp::Parser::new(0).parse_all(BRIDGE) {
            match payload? {
                wp::Payload::TypeSection(section) => {
                    let mut types = we::TypeSection::new();
                    functions.parse_type_section(&mut types, section)?;
                    first_type = types.len();
                    for import in self.imports() {
                        types.ty().function(import.parameters.iter().copied(), import.result);
                    }
                    output.section(&types);
                }
                wp::Payload::ImportSection(section) => {
                    let mut imports = we::ImportSection::new();
                    let mut replaced = Vec::new();
                    for import in section.into_imports() {
                        let import = import?;
                        let wp::TypeRef::Func(ty) = import.ty else {
                            functions.parse_import(&mut imports, import)?;
                            continue;
                        };
                        if import.module == GENERATED || (import.name == EXIT && !exit_codes) {
                            replaced.push((functions.imported.len(), import.name, ty));
                            functions.imported.push(0);
                        } else {
                            functions.imported.push(imports.len());
                            functions.parse_import(&mut imports, import)?;
                        }
                    }
                    let first_import = imports.len();
                    for (position, import) in (0..).zip(self.imports()) {
                        let ty = we::EntityType::Function(first_type + position);
                        imports.import(&import.module, &import.name, ty);
                    }
                    functions.shift = imports.len().wrapping_sub(functions.imported.len() as u32);
                    for (old, name, ty) in replaced {
                        functions.imported[old] = imports.len() + own + replacements.len() as u32;
                        let body = self.body(name, first_import);
                        replacements.push(Replacement { ty, body });
                    }
                    output.section(&imports);
                }
                wp::Payload::FunctionSection(section) => {
                    let mut defined = we::FunctionSection::new();
                    functions.parse_function_section(&mut defined, section)?;
                    for replacement in &replacements {
                        defined.function(replacement.ty);
                    }
                    output.section(&defined);
                }
                wp::Payload::ExportSection(section) => {
                    let mut exports = we::ExportSection::new();
                    functions.parse_export_section(&mut exports, section)?;
                    output.section(&exports);
                }
                wp::Payload::ElementSection(section) => {
                    let mut elements = we::ElementSection::new();
                    functions.parse_element_section(&mut elements, section)?;
                    output.section(&elements);
                }
                wp::Payload::DataCountSection { .. } => {}
                wp::Payload::CodeSectionStart { count, .. } => {
                    output.section(&we::DataCountSection { count: segments() + 1 });
                    bodies_left = count;
                }
                wp::Payload::CodeSectionEntry(body) => {
                    functions.parse_function_body(&mut code, body)?;
                    bodies_left -= 1;
                    if bodies_left == 0 {
                        for replacement in &replacements {
                            code.function(&replacement.body);
                        }
                        output.section(&code);
                    }
                }
                wp::Payload::DataSection(section) => {
                    let mut data = we::DataSection::new();
                    functions.parse_data_section(&mut data, section)?;
                    data.passive(self.data.iter().copied());
                    output.section(&data);
                }
                payload => {
                    if let Some((id, range)) = payload.as_section() {
                        output.section(&we::RawSection { id, data: &BRIDGE[range] });
                    }
                }
            }
        }
        for (number, metadata) in self.metadata.iter().enumerate() {
            let name = format!("component-type:tool-{number}");
            output.section(&we::CustomSection { name: name.into(), data: metadata.into() });
        }
        Ok(output.finish())
    }

    /// The body of a function that stands in for an import; `compose/bridge/src/composed.rs` says what
    /// each does.
    fn body(&self, name: &str, first_import: u32) -> we::Function {
        let mut body = we::Function::new([]);
        let mut code = body.instructions();
        match name {
            "data-length" => {
                code.i32_const(self.data.len() as i32);
            }
            "data-copy" => {
                code.local_get(0).i32_const(0).i32_const(self.data.len() as i32).memory_init(0, segments());
            }
            "call" => select(&mut code, &self.calls, first_import, |code, import, function| {
                let slot =
                    |position: usize| we::MemArg { offset: 8 * position as u64, align: 2, memory_index: 0 };
                // For what is returned.
                code.local_get(1);
                for (position, ty) in import.parameters.iter().enumerate() {
                    code.local_get(1);
                    match ty {
                        we::ValType::I64 => code.i64_load(slot(position)),
                        we::ValType::F32 => code.f32_load(slot(position)),
                        we::ValType::F64 => code.f64_load(slot(position)),
                        _ => code.i32_load(slot(position)),
                    };
                }
                code.call(function);
                match import.result {
                    None => code.drop(),
                    Some(we::ValType::I64) => code.i64_store(slot(0)),
                    Some(we::ValType::F32) => code.f32_store(slot(0)),
                    Some(we::ValType::F64) => code.f64_store(slot(0)),
                    Some(_) => code.i32_store(slot(0)),
                };
            }),
            "drop" => {
                let first_import = first_import + self.calls.len() as u32;
                select(&mut code, &self.drops, first_import, |code, _, function| {
                    code.local_get(1).call(function);
                });
            }
            // Of the exit code nothing is told but whether it is 0, which comes after.
            _ => {}
        }
        code.end();
        body
    }
}

/// The function that ends a program with an exit code.
const EXIT: &str = "exit-with-code";

/// Code for each import, chosen by the first parameter.
fn select(
    code: &mut we::InstructionSink<'_>,
    imports: &[Import],
    first_import: u32,
    one: impl Fn(&mut we::InstructionSink<'_>, &Import, u32),
) {
    let count = imports.len() as u32;
    for _ in 0..=count {
        code.block(we::BlockType::Empty);
    }
    let choices: Vec<u32> = (0..count).collect();
    code.local_get(0).br_table(choices, count);
    for (function, import) in (first_import..).zip(imports) {
        code.end();
        one(code, import, function);
        code.return_();
    }
    code.end().unreachable();
}

/// How many functions the bridge defines itself.
fn own_functions() -> u32 {
    count(|payload| match payload {
        wp::Payload::FunctionSection(section) => Some(section.count()),
        _ => None,
    })
}

/// How many data segments it has.
fn segments() -> u32 {
    count(|payload| match payload {
        wp::Payload::DataSection(section) => Some(section.count()),
        _ => None,
    })
}

fn count(find: impl Fn(&wp::Payload) -> Option<u32>) -> u32 {
    wp::Parser::new(0).parse_all(BRIDGE).flatten().find_map(|payload| find(&payload)).unwrap_or(0)
}
