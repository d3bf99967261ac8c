//! What the targets in `fuzz/` call; tests call the same with inputs of their own.

use std::sync::OnceLock;

use wasmtime::component::{Component, Func, Linker};
use wasmtime::{Config, Engine, Store};

use crate::engine::{Handles, Interrupt, Malformed, call};
use crate::tool::describe::{Description, Function};
use crate::tool::{json, python};

#[cfg(test)]
mod tests;

/// Types of all kinds, as functions of the host may have them.
const TYPES: &str = "
type json = string;
record point { x: s32, y: s32 }
record person { name: string, age: option<u8>, tags: list<string>, place: point, any: json }
variant shape { circle(f64), polygon(list<point>), empty, maybe(option<option<char>>) }
enum color { red, green, dark-blue }
flags access { read, write, run }
flags many-flags { a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7, c0, c1, c2, c3, c4, c5, c6,
  c7, d0, d1, d2, d3, d4, d5, d6, d7, e0, e1 }
numbers: func(a: bool, b: s8, c: u8, d: s16, e: u16, f: s32, g: u32, h: s64, i: u64, j: f32, k: f64, l: char);
texts: func(a: string, b: json, c: list<string>);
bytes: func(a: list<u8>, b: list<s64>, c: list<f32>, d: list<list<u16>>);
records: func(a: person, b: list<person>);
variants: func(a: shape, b: color, c: access, d: many-flags);
options: func(a: option<u8>, b: option<option<option<string>>>, c: option<json>);
results: func(a: result<u32, string>, b: result<_, shape>, c: result<json>, d: result);
maps: func(a: map<string, u32>, b: map<u64, list<char>>, c: map<bool, map<s8, string>>);
tuples: func(a: tuple<u8, string, f64>, b: list<tuple<bool, color>>);
";

/// Reads bytes as a component and as WIT, and makes all that is made of a description.
pub fn read(data: &[u8]) {
    made(Description::read(data, "fuzz").ok());
    if let Ok(text) = std::str::from_utf8(data) {
        made(Description::of_interface(text, "fuzz").ok());
    }
}

fn made(described: Option<Description>) {
    let Some(described) = described else { return };
    let stored = serde_json::to_vec(&described).expect("a description is JSON");
    let again: Description = serde_json::from_slice(&stored).expect("a stored description is read");
    assert_eq!(described, again);
    let names = python::function_names("fuzz", &described);
    assert_eq!(names.len(), described.function_count() as usize);
    for recreates in [false, true] {
        python::modules("fuzz", &described, 0, recreates);
    }
    assert_eq!(python::class_names("fuzz", &described).len(), described.types.len());
    python::stubs("fuzz", &described);
    python::items("fuzz", &described, "");
}

fn types() -> (&'static Description, &'static [Function]) {
    static TYPES_READ: OnceLock<Description> = OnceLock::new();
    let described =
        TYPES_READ.get_or_init(|| Description::of_interface(TYPES, "fuzz").expect("the types are WIT"));
    (described, &described.interfaces[0].functions)
}

/// Reads bytes as encoded arguments and as arguments in JSON; the first of them chooses the function.
/// What can be read survives the way there and back.
pub fn json(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let (described, functions) = types();
    let function = &functions[*choice as usize % functions.len()];
    let there_and_back = |value: &serde_json::Value| {
        let encoded = json::encode_arguments(described, function, value).ok()?;
        let read = json::arguments(described, function, &encoded, &[]).expect("what was encoded is read");
        let again = json::encode_arguments(described, function, &read.clone().into()).ok()?;
        assert_eq!(json::arguments(described, function, &again, &[]).as_ref(), Ok(&read));
        assert_eq!(again, encoded);
        Some(())
    };
    // In two parts, as calls may be.
    for middle in [0, data.len() / 2] {
        let (head, tail) = data.split_at(middle);
        let _ = json::arguments_to_check(described, function, head, tail);
        if let Ok(read) = json::arguments(described, function, head, tail) {
            there_and_back(&read.into()).expect("what was read is encoded");
        }
    }
    if let Ok(value) = serde_json::from_slice(data) {
        there_and_back(&value);
    }
}

/// A component whose functions are called with arbitrary arguments, or give arbitrary results.
pub struct Callee {
    component: Component,
    linker: Linker<()>,
    described: Description,
    live: Option<(Store<()>, Vec<Func>)>,
}

impl Callee {
    /// # Panics
    ///
    /// When the component is none.
    pub fn new(component: &[u8]) -> Self {
        let engine = Engine::new(&Config::new()).expect("an engine");
        let described = Description::read(component, "fuzz").expect("a description");
        let component = Component::new(&engine, component).expect("a component");
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&component).expect("imports are linked");
        Callee { component, linker, described, live: None }
    }

    fn functions(&self) -> impl Iterator<Item = (&str, &Function)> {
        let interfaces = &self.described.interfaces;
        interfaces.iter().flat_map(|of| of.functions.iter().map(|function| (of.export.as_str(), function)))
    }

    /// Calls a function of a new instance, or the one that served before.
    fn call(&mut self, position: usize, [head, tail]: [&[u8]; 2]) -> Option<wasmtime::Result<Vec<u8>>> {
        if self.live.is_none() {
            let mut store = Store::new(self.linker.engine(), ());
            let instance = self.linker.instantiate(&mut store, &self.component).expect("an instance");
            let functions = self.functions().map(|(export, function)| {
                let interface = match export {
                    "" => None,
                    export => {
                        Some(instance.get_export_index(&mut store, None, export).expect("an interface"))
                    }
                };
                let index = instance.get_export_index(&mut store, interface.as_ref(), &function.export);
                instance.get_func(&mut store, index.expect("an export")).expect("a function")
            });
            let functions = functions.collect();
            self.live = Some((store, functions));
        }
        let (store, functions) = self.live.as_mut()?;
        let interrupt = Interrupt::new();
        let function = functions[position];
        let called = call(store, function, [head, tail], &mut Handles::default(), &interrupt, Vec::new());
        if called.is_err() {
            self.live = None;
        }
        Some(called)
    }

    /// Takes bytes as the arguments of a function that gives back what it is given; the first of them
    /// chooses it, the second says where they are cut in two.
    pub fn lower(&mut self, data: &[u8]) {
        let [choice, middle, arguments @ ..] = data else { return };
        let (head, tail) = arguments.split_at((*middle as usize).min(arguments.len()));
        let mirrors = self.functions().enumerate().filter(|(_, (export, function))| {
            export.contains("values") && !["nothing", "add", "defaults"].contains(&function.name.as_str())
        });
        let mirrors: Vec<usize> = mirrors.map(|(position, _)| position).collect();
        let position = mirrors[*choice as usize % mirrors.len()];
        match self.call(position, [head, tail]) {
            Some(Ok(given)) => assert_eq!(given, arguments),
            Some(Err(error)) => assert!(error.is::<Malformed>(), "{error:?}"),
            None => {}
        }
    }

    /// Takes bytes as a component's memory, from which a function gives its result; the first of them
    /// chooses it. What can be read of it has a form in JSON, and another one of bytes as in Python.
    pub fn lift(&mut self, data: &[u8]) {
        let Some((choice, memory)) = data.split_first() else { return };
        let filled = memory.len().min(1 << 16);
        let bytes = [&(filled as u32).to_le_bytes(), &memory[..filled]].concat();
        let names: Vec<String> = self.functions().map(|(_, function)| function.export.clone()).collect();
        let fill = names.iter().position(|name| name == "fill").expect("the function `fill`");
        let position = *choice as usize % names.len();
        if position == fill {
            return;
        }
        let Some(Ok(_)) = self.call(fill, [&bytes, &[]]) else { panic!("memory cannot be filled") };
        if let Some(Ok(given)) = self.call(position, [&[], &[]]) {
            let (_, function) = self.functions().nth(position).expect("a function");
            let result = json::result(&self.described, function, &given);
            let result = match result {
                Err(message) if message.contains("values in it") => return,
                result => result.expect("what was lifted is read"),
            };
            let again = json::encode_result(&self.described, function, result.as_ref());
            let again = again.expect("what was read is encoded");
            assert_eq!(json::result(&self.described, function, &again), Ok(result));
        }
    }
}
