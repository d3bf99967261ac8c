//! Writes the fused module.

use std::collections::HashMap;
use std::convert::Infallible;

use anyhow::{Result, anyhow, ensure};
use wasm_encoder as we;
use wasm_encoder::reencode::{self, Reencode};
use wasmparser as wp;

use super::link::{Definition, Function, Linked};

/// The types of the fused module, each once.
#[derive(Default)]
struct Types {
    section: we::TypeSection,
    indices: HashMap<wp::FuncType, u32>,
}

impl Types {
    fn index(&mut self, ty: &wp::FuncType) -> Result<u32> {
        if let Some(index) = self.indices.get(ty) {
            return Ok(*index);
        }
        let values = |values: &[wp::ValType]| -> Result<Vec<we::ValType>> {
            values
                .iter()
                .map(|value| {
                    we::ValType::try_from(*value).map_err(|_| anyhow!("a type {value:?} is not known"))
                })
                .collect()
        };
        self.section.ty().function(values(ty.params())?, values(ty.results())?);
        let index = u32::try_from(self.indices.len())?;
        self.indices.insert(ty.clone(), index);
        Ok(index)
    }
}

pub fn emit(linked: &Linked) -> Result<Vec<u8>> {
    let mut types = Types::default();
    let mut names = we::NameMap::new();

    // Imports sort before definitions in `live`, so positions are function indices.
    let mut indices = HashMap::new();
    let mut imports = we::ImportSection::new();
    let mut functions = we::FunctionSection::new();
    for (index, function) in (0u32..).zip(&linked.live) {
        indices.insert(*function, index);
        let ty = types.index(linked.function_type(*function))?;
        match function {
            Function::Import(position) => {
                let import = &linked.imports[*position];
                imports.import(&import.module, &import.name, we::EntityType::Function(ty));
                names.append(index, &format!("{}#{}", import.module, import.name));
            }
            Function::Freeing(position) => {
                functions.function(ty);
                names.append(index, &format!("{} and free", linked.imports[*position].name));
            }
            Function::Defined((instance, local)) => {
                functions.function(ty);
                let module = linked.component.module(*instance)?;
                match module.names.get(local) {
                    Some(name) => names.append(index, name),
                    None => names.append(index, &format!("instance{instance}_function{local}")),
                }
            }
        }
    }

    let mut globals = we::GlobalSection::new();
    let mut global_indices = HashMap::new();
    for (index, global) in (0u32..).zip(&linked.mutable) {
        let ty = we::GlobalType { val_type: we::ValType::I32, mutable: true, shared: false };
        globals.global(ty, &we::ConstExpr::i32_const(linked.global_value(*global)?));
        global_indices.insert(*global, index);
    }

    let mut code = we::CodeSection::new();
    let mut merge: Option<Merge> = None;
    for function in &linked.live {
        let definition = match function {
            Function::Import(_) => continue,
            Function::Freeing(position) => {
                code.function(&freeing(linked, *position, &indices)?);
                continue;
            }
            Function::Defined(definition) => definition,
        };
        if merge.as_ref().is_none_or(|merge| merge.instance != definition.0) {
            merge = Some(Merge::new(linked, definition.0, &mut types, &indices, &global_indices)?);
        }
        if let Some(merge) = &mut merge {
            merge
                .parse_function_body(&mut code, linked.body(*definition)?.clone())
                .map_err(|error| anyhow!("a function cannot be encoded: {error}"))?;
        }
    }

    let size = linked.table.len() as u64;
    let mut tables = we::TableSection::new();
    tables.table(we::TableType {
        element_type: we::RefType::FUNCREF,
        minimum: size,
        maximum: Some(size),
        table64: false,
        shared: false,
    });
    let mut memories = we::MemorySection::new();
    memories.memory(we::MemoryType {
        minimum: linked.memory.initial,
        maximum: linked.memory.maximum,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut exports = we::ExportSection::new();
    exports.export("memory", we::ExportKind::Memory, 0);
    for (name, function) in &linked.exports {
        exports.export(name, we::ExportKind::Func, indices[function]);
    }
    let mut name_section = we::NameSection::new();
    name_section.functions(&names);

    let mut module = we::Module::new();
    module
        .section(&types.section)
        .section(&imports)
        .section(&functions)
        .section(&tables)
        .section(&memories)
        .section(&globals)
        .section(&exports)
        .section(&elements(linked, &indices)?)
        .section(&code)
        .section(&data(linked)?)
        .section(&name_section);
    Ok(module.finish())
}

/// Calls an import with its own arguments, then frees those that the caller forgets.
fn freeing(linked: &Linked, position: usize, indices: &HashMap<Function, u32>) -> Result<we::Function> {
    let import = &linked.imports[position];
    let free = linked.free.ok_or_else(|| anyhow!("no module exports `free`"))?;
    let mut function = we::Function::new([]);
    let mut code = function.instructions();
    for parameter in 0..u32::try_from(import.ty.params().len())? {
        code.local_get(parameter);
    }
    code.call(indices[&Function::Import(position)]);
    for parameter in &import.forgotten {
        code.local_get(*parameter).call(indices[&free]);
    }
    code.end();
    Ok(function)
}

/// The table's content, one segment for each run of functions.
fn elements(linked: &Linked, indices: &HashMap<Function, u32>) -> Result<we::ElementSection> {
    let index = |function: &Function| match function {
        Function::Defined((instance, local)) => indices[&linked.function(*instance, *local)],
        Function::Import(_) | Function::Freeing(_) => indices[function],
    };
    let mut section = we::ElementSection::new();
    let mut start = 0;
    for run in linked.table.split_inclusive(Option::is_none) {
        let functions: Vec<u32> = run.iter().flatten().map(index).collect();
        if !functions.is_empty() {
            let offset = we::ConstExpr::i32_const(i32::try_from(start)?);
            section.active(None, &offset, we::Elements::Functions(functions.into()));
        }
        start += run.len();
    }
    Ok(section)
}

fn data(linked: &Linked) -> Result<we::DataSection> {
    let mut section = we::DataSection::new();
    for &instance in &linked.instances {
        for data in &linked.component.module(instance)?.data {
            let wp::DataKind::Active { offset_expr, memory_index } = &data.kind else {
                anyhow::bail!("a module has a passive data segment");
            };
            ensure!(*memory_index == 0, "a data segment is for a second memory");
            let offset = we::ConstExpr::i32_const(linked.constant(instance, offset_expr)?);
            section.active(0, &offset, data.data.iter().copied());
        }
    }
    Ok(section)
}

/// Translates the indices of one instance's module to those of the fused one.
struct Merge {
    instance: usize,
    types: Vec<u32>,
    /// `None` where the function is not live, so no live body refers to it.
    functions: Vec<Option<u32>>,
    globals: Vec<Global>,
}

#[derive(Clone, Copy)]
enum Global {
    Constant(i32),
    Variable(u32),
}

impl Merge {
    fn new(
        linked: &Linked,
        instance: usize,
        types: &mut Types,
        indices: &HashMap<Function, u32>,
        variables: &HashMap<Definition, u32>,
    ) -> Result<Self> {
        let module = linked.component.module(instance)?;
        let function_count = module.imported_functions.len() + module.functions.len();
        let global_count = module.imported_globals.len() + module.globals.len();
        Ok(Merge {
            instance,
            types: module.types.iter().map(|ty| types.index(ty)).collect::<Result<_>>()?,
            functions: (0..function_count as u32)
                .map(|index| indices.get(&linked.function(instance, index)).copied())
                .collect(),
            globals: (0..global_count as u32)
                .map(|index| {
                    let global = linked.global(instance, index)?;
                    Ok(match variables.get(&global) {
                        Some(variable) => Global::Variable(*variable),
                        None => Global::Constant(linked.global_value(global)?),
                    })
                })
                .collect::<Result<_>>()?,
        })
    }
}

type Encoded<T> = Result<T, reencode::Error<Infallible>>;

impl Reencode for Merge {
    type Error = Infallible;

    fn type_index(&mut self, index: u32) -> Encoded<u32> {
        Ok(self.types[index as usize])
    }

    fn function_index(&mut self, index: u32) -> Encoded<u32> {
        Ok(self.functions[index as usize].expect("a live function refers to live functions only"))
    }

    fn global_index(&mut self, index: u32) -> Encoded<u32> {
        match self.globals[index as usize] {
            Global::Variable(index) => Ok(index),
            Global::Constant(_) => {
                unreachable!("reads of constants are replaced, and nothing sets them")
            }
        }
    }

    fn instruction<'a>(&mut self, operator: wp::Operator<'a>) -> Encoded<we::Instruction<'a>> {
        if let wp::Operator::GlobalGet { global_index } = operator
            && let Global::Constant(value) = self.globals[global_index as usize]
        {
            return Ok(we::Instruction::I32Const(value));
        }
        reencode::utils::instruction(self, operator)
    }
}
