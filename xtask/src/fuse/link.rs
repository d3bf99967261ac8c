//! Resolves what the modules import from each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, Result, anyhow, bail, ensure};
use wasmparser as wp;

use super::component::{BUILD_EXPORTS, Component, Import, Instance, Item, Reference};
use super::leak::Leaks;

/// Functions of CPython and libc that the build calls; the finished component does not export them.
pub const BUILD_FUNCTIONS: [&str; 2] = [SET_INTERRUPT, FORGET_DIRECTORIES];

/// CPython's way to make a signal pending.
pub const SET_INTERRUPT: &str = "PyErr_SetInterruptEx";
/// libc's way to let go of all file descriptors; the granted directories are asked for anew.
pub const FORGET_DIRECTORIES: &str = "__wasilibc_reset_preopens";

/// An item that a module instance defines: the instance, and the index in its module.
pub type Definition = (usize, u32);

/// A function, resolved.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Function {
    /// An import of the component, by its index in [`Linked::imports`].
    Import(usize),
    Defined(Definition),
    /// Calls an import, and frees what the caller forgets.
    Freeing(usize),
}

/// A function that the fused module imports.
pub struct FunctionImport {
    pub module: String,
    pub name: String,
    pub ty: wp::FuncType,
    /// Parameters that point to memory which nobody else frees.
    pub forgotten: Vec<u32>,
}

/// Everything that [`emit`](super::emit) writes.
pub struct Linked<'a> {
    pub component: &'a Component<'a>,
    /// Instances of modules, without wit-component's trampolines.
    pub instances: Vec<usize>,
    pub imports: Vec<FunctionImport>,
    pub exports: BTreeMap<String, Function>,
    pub table: Vec<Option<Function>>,
    /// Functions to define, in the order they are written.
    pub live: BTreeSet<Function>,
    /// Globals that some live function sets.
    pub mutable: BTreeSet<Definition>,
    pub memory: wp::MemoryType,
    /// libc's `free`.
    pub free: Option<Function>,
    leaks: Leaks,
    functions: HashMap<(usize, u32), Function>,
    forwarded: HashMap<Function, Function>,
}

pub fn link<'a>(component: &'a Component<'a>, leaks: Leaks) -> Result<Linked<'a>> {
    let instances: Vec<usize> = (0..component.instances.len())
        .filter(|index| matches!(component.instances[*index], Instance::Module { .. }))
        .filter(|index| Some(*index) != component.shim && Some(*index) != component.fixup)
        .collect();
    let (memory, table_size) = shared(component, &instances)?;
    let mut linked = Linked {
        component,
        instances,
        imports: Vec::new(),
        exports: BTreeMap::new(),
        table: vec![None; table_size],
        live: BTreeSet::new(),
        mutable: BTreeSet::new(),
        memory,
        free: None,
        leaks,
        functions: HashMap::new(),
        forwarded: HashMap::new(),
    };
    linked.resolve_functions()?;
    linked.fill_table()?;
    linked.find_forwarders()?;
    linked.find_exports()?;
    linked.find_free()?;
    linked.find_live()?;
    Ok(linked)
}

/// The one memory and the size of the one table.
fn shared(component: &Component, instances: &[usize]) -> Result<(wp::MemoryType, usize)> {
    let (mut memories, mut tables) = (Vec::<&wp::MemoryType>::new(), Vec::<&wp::TableType>::new());
    for instance in instances {
        let module = component.module(*instance)?;
        memories.extend(&module.memories);
        tables.extend(&module.tables);
    }
    let ([memory], [table]) = (&memories[..], &tables[..]) else {
        bail!("expected one memory and one table, found {} and {}", memories.len(), tables.len());
    };
    Ok((**memory, usize::try_from(table.initial)?))
}

impl<'a> Linked<'a> {
    fn resolve_functions(&mut self) -> Result<()> {
        let mut known = BTreeMap::new();
        for &instance in &self.instances.clone() {
            let module = self.component.module(instance)?;
            let count = module.imported_functions.len() + module.functions.len();
            for index in 0..u32::try_from(count)? {
                let function = self.resolve_function(instance, index, &mut known)?;
                self.functions.insert((instance, index), function);
            }
        }
        Ok(())
    }

    fn resolve_function(
        &mut self,
        instance: usize,
        index: u32,
        known: &mut BTreeMap<(String, String), usize>,
    ) -> Result<Function> {
        let module = self.component.module(instance)?;
        let Some(import) = module.imported_functions.get(index as usize) else {
            return Ok(Function::Defined((instance, index)));
        };
        match self.target(instance, import)? {
            Item::Export { instance, name } => {
                let index = self.export(instance, name)?;
                self.resolve_function(instance, index, known)
            }
            Item::Canonical => {
                // An adapter may ask for an older version than the one the component imports.
                let module_name = import
                    .module
                    .split_once('@')
                    .and_then(|(base, _)| self.component.versions.get(base).copied())
                    .unwrap_or(import.module);
                let key = (module_name.to_owned(), import.name.to_owned());
                let position = *known.entry(key.clone()).or_insert_with(|| {
                    let forgotten = self.leaks.remove(&key).unwrap_or_default();
                    let (module_name, name) = key;
                    let ty = module.types[import.ty as usize].clone();
                    self.imports.push(FunctionImport { module: module_name, name, ty, forgotten });
                    self.imports.len() - 1
                });
                Ok(match self.imports[position].forgotten.is_empty() {
                    true => Function::Import(position),
                    false => Function::Freeing(position),
                })
            }
        }
    }

    /// What an import of `instance` is wired to, seen through wit-component's trampolines.
    fn target(&self, instance: usize, import: &Import<'a>) -> Result<Item<'a>> {
        let Instance::Module { arguments, .. } = &self.component.instances[instance] else {
            bail!("core instance {instance} is not a module's");
        };
        let source = *arguments
            .get(import.module)
            .ok_or_else(|| anyhow!("nothing is wired to `{}` of core instance {instance}", import.module))?;
        let mut item = self.item(source, import.name)?;
        while let Item::Export { instance, name } = item
            && Some(instance) == self.component.shim
        {
            let fixup = self.component.fixup.ok_or_else(|| anyhow!("trampolines are never filled in"))?;
            let Instance::Module { arguments, .. } = &self.component.instances[fixup] else {
                bail!("the instance that fills in trampolines is not a module's");
            };
            let source = *arguments.get("").ok_or_else(|| anyhow!("trampolines are filled in by nothing"))?;
            item = self.item(source, name)?;
        }
        Ok(item)
    }

    fn item(&self, instance: usize, name: &'a str) -> Result<Item<'a>> {
        let bag = match &self.component.instances[instance] {
            Instance::Module { .. } => return Ok(Item::Export { instance, name }),
            Instance::Bag(bag) => bag,
        };
        let reference = bag.get(name).ok_or_else(|| anyhow!("core instance {instance} has no `{name}`"))?;
        let item = match reference {
            Reference::Function(index) => &self.component.functions[*index as usize],
            Reference::Global(index) => &self.component.globals[*index as usize],
            Reference::Other => {
                bail!("`{name}` of core instance {instance} is neither function nor global")
            }
        };
        match item {
            Item::Export { instance, name } => self.item(*instance, name),
            Item::Canonical => Ok(Item::Canonical),
        }
    }

    fn export(&self, instance: usize, name: &str) -> Result<u32> {
        let module = self.component.module(instance)?;
        module
            .exports
            .get(name)
            .copied()
            .ok_or_else(|| anyhow!("core instance {instance} does not export `{name}`"))
    }

    /// The definition of a global.
    pub fn global(&self, instance: usize, index: u32) -> Result<Definition> {
        let module = self.component.module(instance)?;
        let Some(import) = module.imported_globals.get(index as usize) else {
            return Ok((instance, index));
        };
        match self.target(instance, import)? {
            Item::Export { instance, name } => self.global(instance, self.export(instance, name)?),
            Item::Canonical => bail!("`{}` is not a global", import.name),
        }
    }

    /// The initial value of a global.
    pub fn global_value(&self, (instance, index): Definition) -> Result<i32> {
        let module = self.component.module(instance)?;
        let global = &module.globals[index as usize - module.imported_globals.len()];
        ensure!(global.ty.content_type == wp::ValType::I32, "a global is not an i32");
        self.constant(instance, &global.init_expr)
    }

    /// Evaluates a constant expression of a module of `instance`.
    pub fn constant(&self, instance: usize, expression: &wp::ConstExpr) -> Result<i32> {
        let mut stack = Vec::new();
        for operator in expression.get_operators_reader() {
            match operator? {
                wp::Operator::I32Const { value } => stack.push(value),
                wp::Operator::GlobalGet { global_index } => {
                    stack.push(self.global_value(self.global(instance, global_index)?)?);
                }
                wp::Operator::I32Add => {
                    let (b, a) = (stack.pop(), stack.pop());
                    let sum = a.zip(b).map(|(a, b): (i32, i32)| a.wrapping_add(b));
                    stack.push(sum.context("a constant expression adds nothing")?);
                }
                wp::Operator::End => {}
                other => bail!("a constant expression has {other:?}"),
            }
        }
        stack.pop().context("a constant expression is empty")
    }

    /// The address that the stack grows down from, where nothing but the stack lies below it.
    pub fn stack_top(&self) -> Result<u32> {
        ensure!(
            self.mutable.len() == 1,
            "there are {} mutable globals, not the stack pointer alone",
            self.mutable.len()
        );
        let global = self.mutable.first().context("there is no stack pointer")?;
        let top = self.global_value(*global)?;
        for &instance in &self.instances {
            let imports = &self.component.module(instance)?.imported_globals;
            for (index, _) in (0u32..).zip(imports).filter(|(_, import)| import.name == "__memory_base") {
                let base = self.global_value(self.global(instance, index)?)?;
                ensure!(base as u32 >= top as u32, "data lies below the stack");
            }
        }
        Ok(top as u32)
    }

    /// The function that `index` of a module of `instance` stands for.
    pub fn function(&self, instance: usize, index: u32) -> Function {
        self.forward(self.functions[&(instance, index)])
    }

    pub fn function_type(&self, function: Function) -> &wp::FuncType {
        match function {
            Function::Import(index) | Function::Freeing(index) => &self.imports[index].ty,
            Function::Defined((instance, index)) => {
                let Instance::Module { module, .. } = &self.component.instances[instance] else {
                    unreachable!("definitions are of module instances")
                };
                let module = &self.component.modules[*module];
                let ty = module.functions[index as usize - module.imported_functions.len()];
                &module.types[ty as usize]
            }
        }
    }

    /// The body of a defined function.
    pub fn body(&self, (instance, index): Definition) -> Result<&wp::FunctionBody<'a>> {
        let module = self.component.module(instance)?;
        Ok(&module.bodies[index as usize - module.imported_functions.len()])
    }

    fn fill_table(&mut self) -> Result<()> {
        for &instance in &self.instances {
            let module = self.component.module(instance)?;
            for element in &module.elements {
                let offset = match &element.kind {
                    wp::ElementKind::Active { offset_expr, .. } => self.constant(instance, offset_expr)?,
                    // Only declares functions whose references are taken.
                    wp::ElementKind::Declared => continue,
                    wp::ElementKind::Passive => bail!("a module has a passive element segment"),
                };
                let mut slot = usize::try_from(offset).context("a table offset is negative")?;
                let mut put = |function| {
                    let entry = self.table.get_mut(slot).context("a function outside of the table")?;
                    *entry = function;
                    slot += 1;
                    Ok::<_, anyhow::Error>(())
                };
                match element.items.clone() {
                    wp::ElementItems::Functions(functions) => {
                        for function in functions {
                            put(Some(self.functions[&(instance, function?)]))?;
                        }
                    }
                    wp::ElementItems::Expressions(_, expressions) => {
                        for expression in expressions {
                            let mut function = None;
                            for operator in expression?.get_operators_reader() {
                                if let wp::Operator::RefFunc { function_index } = operator? {
                                    function = Some(self.functions[&(instance, function_index)]);
                                }
                            }
                            put(function)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Finds functions that only call a fixed table entry with their own arguments.
    fn find_forwarders(&mut self) -> Result<()> {
        for &instance in &self.instances {
            let module = self.component.module(instance)?;
            for (position, body) in module.bodies.iter().enumerate() {
                let ty = &module.types[module.functions[position] as usize];
                let Some(slot) = forwards_to(body, ty, &module.types)? else {
                    continue;
                };
                if let Some(Some(target)) = self.table.get(slot).copied()
                    && self.function_type(target) == ty
                {
                    let index = u32::try_from(module.imported_functions.len() + position)?;
                    self.forwarded.insert(Function::Defined((instance, index)), target);
                }
            }
        }
        Ok(())
    }

    fn forward(&self, function: Function) -> Function {
        let mut at = function;
        // A circle of forwarders would never return at run time either; it is left alone.
        for _ in 0..16 {
            match self.forwarded.get(&at) {
                Some(next) => at = *next,
                None => return at,
            }
        }
        function
    }

    fn find_exports(&mut self) -> Result<()> {
        let mut names = Vec::new();
        for lift in &self.component.lifts {
            for function in std::iter::once(lift.function).chain(lift.post_return) {
                let Item::Export { instance, name } = self.component.functions[function as usize] else {
                    bail!("a function of the component model is exported as it is");
                };
                if !name.contains(&format!("{BUILD_EXPORTS}#")) {
                    names.push((name.to_owned(), instance, self.export(instance, name)?));
                }
            }
        }
        let mut realloc = None;
        for &instance in &self.instances {
            if let Some(index) = self.component.module(instance)?.exports.get("cabi_realloc") {
                realloc = Some((instance, *index));
            }
        }
        let (instance, index) = realloc.context("no module exports `cabi_realloc`")?;
        names.push(("cabi_realloc".to_owned(), instance, index));
        for name in BUILD_FUNCTIONS {
            for &instance in &self.instances {
                if let Some(index) = self.component.module(instance)?.exports.get(name) {
                    names.push((name.to_owned(), instance, *index));
                }
            }
        }
        for (name, instance, index) in names {
            let function = self.function(instance, index);
            self.exports.insert(name, function);
        }
        Ok(())
    }

    fn find_free(&mut self) -> Result<()> {
        for &instance in &self.instances {
            if let Some(index) = self.component.module(instance)?.exports.get("free") {
                self.free = Some(self.function(instance, *index));
            }
        }
        Ok(())
    }

    /// Finds what exports and the table can reach, and which globals it sets.
    fn find_live(&mut self) -> Result<()> {
        let mut work: Vec<Function> = self.exports.values().copied().collect();
        work.extend(self.table.iter().flatten().map(|function| self.forward(*function)));
        while let Some(function) = work.pop() {
            if !self.live.insert(function) {
                continue;
            }
            let definition = match function {
                Function::Import(_) => continue,
                Function::Freeing(import) => {
                    work.push(Function::Import(import));
                    work.push(self.free.context("no module exports `free`")?);
                    continue;
                }
                Function::Defined(definition) => definition,
            };
            let instance = definition.0;
            for operator in self.body(definition)?.get_operators_reader()? {
                match operator? {
                    wp::Operator::Call { function_index }
                    | wp::Operator::RefFunc { function_index }
                    | wp::Operator::ReturnCall { function_index } => {
                        work.push(self.function(instance, function_index));
                    }
                    wp::Operator::GlobalSet { global_index } => {
                        let global = self.global(instance, global_index)?;
                        self.mutable.insert(global);
                    }
                    operator @ (wp::Operator::TableSet { .. }
                    | wp::Operator::TableGrow { .. }
                    | wp::Operator::TableFill { .. }
                    | wp::Operator::TableInit { .. }
                    | wp::Operator::TableCopy { .. }
                    | wp::Operator::MemoryInit { .. }
                    | wp::Operator::DataDrop { .. }
                    | wp::Operator::ElemDrop { .. }) => {
                        bail!("a function changes the table or the segments: {operator:?}");
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// The table slot that a function calls with its own arguments, if that is all it does.
fn forwards_to(body: &wp::FunctionBody, ty: &wp::FuncType, types: &[wp::FuncType]) -> Result<Option<usize>> {
    let mut operators = body.get_operators_reader()?;
    for parameter in 0..u32::try_from(ty.params().len())? {
        if !matches!(operators.read()?, wp::Operator::LocalGet { local_index } if local_index == parameter) {
            return Ok(None);
        }
    }
    let wp::Operator::I32Const { value } = operators.read()? else {
        return Ok(None);
    };
    let wp::Operator::CallIndirect { type_index, .. } = operators.read()? else {
        return Ok(None);
    };
    let ends = matches!(operators.read()?, wp::Operator::End) && operators.eof();
    Ok((ends && types[type_index as usize] == *ty).then_some(value as u32 as usize))
}
