//! The structure of a linked component, as far as fusing needs it.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, anyhow, bail};
use wasmparser as wp;

/// The interface that componentize-py exports for its own use while it builds.
pub const BUILD_EXPORTS: &str = "exports";

/// A core module, parsed.
#[derive(Default)]
pub struct Module<'a> {
    pub types: Vec<wp::FuncType>,
    pub imported_functions: Vec<Import<'a>>,
    pub imported_globals: Vec<Import<'a>>,
    /// Types of the functions it defines.
    pub functions: Vec<u32>,
    pub bodies: Vec<wp::FunctionBody<'a>>,
    pub globals: Vec<wp::Global<'a>>,
    pub tables: Vec<wp::TableType>,
    pub memories: Vec<wp::MemoryType>,
    pub exports: HashMap<&'a str, u32>,
    pub elements: Vec<wp::Element<'a>>,
    pub data: Vec<wp::Data<'a>>,
    pub names: HashMap<u32, &'a str>,
    has_start: bool,
    fills_imports_table: bool,
}

#[derive(Clone, Copy)]
pub struct Import<'a> {
    pub module: &'a str,
    pub name: &'a str,
    /// The type index of a function, unused for a global.
    pub ty: u32,
}

/// A core instance.
pub enum Instance<'a> {
    Module {
        module: usize,
        arguments: HashMap<&'a str, usize>,
    },
    /// Items put together under names.
    Bag(HashMap<&'a str, Reference>),
}

/// An item in one of the component's core index spaces.
#[derive(Clone, Copy)]
pub enum Reference {
    Function(u32),
    Global(u32),
    Other,
}

/// Where an item of a core index space comes from.
#[derive(Clone)]
pub enum Item<'a> {
    Export {
        instance: usize,
        name: &'a str,
    },
    /// A function of the component model: a lowered import, a resource operation.
    Canonical,
}

/// A function lifted into an export.
pub struct Lift {
    pub function: u32,
    pub post_return: Option<u32>,
}

#[derive(Default)]
pub struct Component<'a> {
    pub modules: Vec<Module<'a>>,
    pub instances: Vec<Instance<'a>>,
    pub functions: Vec<Item<'a>>,
    pub globals: Vec<Item<'a>>,
    pub lifts: Vec<Lift>,
    /// Interface name without version → with the version the component imports.
    pub versions: BTreeMap<&'a str, &'a str>,
    /// wit-component's instance of trampolines, and the one that fills them in.
    pub shim: Option<usize>,
    pub fixup: Option<usize>,
}

pub fn read(bytes: &[u8]) -> Result<Component<'_>> {
    let mut component = Component::default();
    let mut depth = 0;
    for payload in wp::Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        match &payload {
            wp::Payload::Version { encoding, .. } => {
                if depth == 0 && *encoding != wp::Encoding::Component {
                    bail!("it is a core module");
                }
                depth += 1;
            }
            wp::Payload::End(_) => depth -= 1,
            _ if depth == 1 => read_section(&mut component, bytes, payload)?,
            _ => {}
        }
    }
    for (index, instance) in component.instances.iter().enumerate() {
        if let Instance::Module { module, .. } = instance {
            let module = &component.modules[*module];
            if module.exports.contains_key("$imports") {
                component.shim = Some(index);
            }
            if module.fills_imports_table {
                component.fixup = Some(index);
            }
        }
    }
    Ok(component)
}

fn read_section<'a>(component: &mut Component<'a>, bytes: &'a [u8], payload: wp::Payload<'a>) -> Result<()> {
    match payload {
        wp::Payload::ModuleSection { unchecked_range, .. } => {
            component.modules.push(read_module(&bytes[unchecked_range])?);
        }
        wp::Payload::ComponentImportSection(imports) => {
            for import in imports {
                let name = import?.name.name;
                if let Some((base, _)) = name.split_once('@') {
                    component.versions.insert(base, name);
                }
            }
        }
        wp::Payload::InstanceSection(instances) => {
            for instance in instances {
                component.instances.push(match instance? {
                    wp::Instance::Instantiate { module_index, args } => Instance::Module {
                        module: module_index as usize,
                        arguments: args.iter().map(|arg| (arg.name, arg.index as usize)).collect(),
                    },
                    wp::Instance::FromExports(exports) => Instance::Bag(
                        exports
                            .iter()
                            .map(|export| {
                                let reference = match export.kind {
                                    wp::ExternalKind::Func => Reference::Function(export.index),
                                    wp::ExternalKind::Global => Reference::Global(export.index),
                                    _ => Reference::Other,
                                };
                                (export.name, reference)
                            })
                            .collect(),
                    ),
                });
            }
        }
        wp::Payload::ComponentAliasSection(aliases) => {
            for alias in aliases {
                let wp::ComponentAlias::CoreInstanceExport { kind, instance_index, name } = alias? else {
                    continue;
                };
                let item = Item::Export { instance: instance_index as usize, name };
                match kind {
                    wp::ExternalKind::Func => component.functions.push(item),
                    wp::ExternalKind::Global => component.globals.push(item),
                    _ => {}
                }
            }
        }
        wp::Payload::ComponentCanonicalSection(functions) => {
            for function in functions {
                match function? {
                    wp::CanonicalFunction::Lift { core_func_index, options, .. } => {
                        let post_return = options.iter().find_map(|option| match option {
                            wp::CanonicalOption::PostReturn(function) => Some(*function),
                            _ => None,
                        });
                        component.lifts.push(Lift { function: core_func_index, post_return });
                    }
                    _ => component.functions.push(Item::Canonical),
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn read_module(bytes: &[u8]) -> Result<Module<'_>> {
    let mut module = Module::default();
    for payload in wp::Parser::new(0).parse_all(bytes) {
        match payload? {
            wp::Payload::TypeSection(groups) => {
                for group in groups {
                    for ty in group?.into_types() {
                        let wp::CompositeInnerType::Func(ty) = ty.composite_type.inner else {
                            bail!("a module has a type that is not a function's");
                        };
                        module.types.push(ty);
                    }
                }
            }
            wp::Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    let (name, module_name) = (import.name, import.module);
                    let entry = |ty| Import { module: module_name, name, ty };
                    match import.ty {
                        wp::TypeRef::Func(ty) => module.imported_functions.push(entry(ty)),
                        wp::TypeRef::Global(_) => module.imported_globals.push(entry(0)),
                        wp::TypeRef::Table(_) if name == "$imports" => module.fills_imports_table = true,
                        _ => {}
                    }
                }
            }
            wp::Payload::FunctionSection(types) => {
                module.functions = types.into_iter().collect::<Result<_, _>>()?;
            }
            wp::Payload::TableSection(tables) => {
                for table in tables {
                    module.tables.push(table?.ty);
                }
            }
            wp::Payload::MemorySection(memories) => {
                module.memories = memories.into_iter().collect::<Result<_, _>>()?;
            }
            wp::Payload::GlobalSection(globals) => {
                module.globals = globals.into_iter().collect::<Result<_, _>>()?;
            }
            wp::Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    module.exports.insert(export.name, export.index);
                }
            }
            wp::Payload::ElementSection(elements) => {
                module.elements = elements.into_iter().collect::<Result<_, _>>()?;
            }
            wp::Payload::DataSection(data) => {
                module.data = data.into_iter().collect::<Result<_, _>>()?;
            }
            wp::Payload::CodeSectionEntry(body) => module.bodies.push(body),
            wp::Payload::StartSection { .. } => module.has_start = true,
            wp::Payload::TagSection(_) => bail!("a module has exception tags"),
            wp::Payload::CustomSection(section) => {
                if let wp::KnownCustom::Name(names) = section.as_known() {
                    read_names(&mut module, names);
                }
            }
            _ => {}
        }
    }
    if module.has_start {
        bail!("a module has a start function, so it was not pre-initialised");
    }
    Ok(module)
}

/// Function names serve debugging and wasm-opt's messages; broken ones are left out.
fn read_names<'a>(module: &mut Module<'a>, names: wp::NameSectionReader<'a>) {
    for name in names.into_iter().flatten() {
        if let wp::Name::Function(functions) = name {
            for naming in functions.into_iter().flatten() {
                module.names.insert(naming.index, naming.name);
            }
        }
    }
}

impl<'a> Component<'a> {
    /// The module that instance `instance` was made of.
    pub fn module(&self, instance: usize) -> Result<&Module<'a>> {
        match &self.instances[instance] {
            Instance::Module { module, .. } => Ok(&self.modules[*module]),
            Instance::Bag(_) => Err(anyhow!("core instance {instance} is not a module's")),
        }
    }
}
