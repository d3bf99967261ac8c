//! What is put into the bridge for one program, as `compose/bridge/src/data.rs` reads it: numbers of
//! four bytes, little-endian; texts and lists with their lengths before them.

use super::types::Types;
use crate::tool::names::literal;

/// Bytes in the making.
#[derive(Default)]
pub(super) struct Data(pub Vec<u8>);

impl Data {
    pub fn number(&mut self, number: usize) {
        let number = u32::try_from(number).expect("no more than the memory of 32 bits holds");
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub fn optional(&mut self, index: Option<usize>) {
        self.number(index.map_or(0, |index| index + 1));
    }

    pub fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }
}

/// What a number that Python calls by stands for.
pub(super) enum Target {
    Function {
        /// Its place among the calls that are generated.
        call: usize,
        parameters: usize,
        result: Option<usize>,
        indirect: bool,
        returns_in_memory: bool,
    },
    /// Its place among the resources that can be closed.
    Close(usize),
    Refused(String),
}

/// The Python of a program.
pub(super) struct Program {
    /// File names and sources.
    sources: Vec<(String, String)>,
    modules: Vec<(String, String, bool)>,
}

/// The name of the module that finds the program's own modules.
const OWN: &str = "_composed";

/// Python for the modules of a tool that is a Python package, which are among the program's own.
pub(super) fn public_modules(tool: &str) -> String {
    format!("__import__({}).public({})", literal(OWN), literal(tool))
}

impl Program {
    pub fn new(code: String, file: String) -> Self {
        Program { sources: vec![(file, code)], modules: Vec::new() }
    }

    /// A module that the interpreter asks for when a program imports it.
    pub fn provide(&mut self, name: &str, source: String, is_package: bool) {
        self.modules.push((name.to_owned(), source, is_package));
    }

    /// Modules of the program's own. They are not provided one by one, as tracebacks leave frames of
    /// such modules out.
    pub fn own_modules(&mut self, modules: &[(String, String, bool)]) {
        let mut source = String::from("MODULES = {\n");
        for (name, text, is_package) in modules {
            let is_package = if *is_package { "True" } else { "False" };
            source += &format!("    {}: ({}, {is_package}),\n", literal(name), literal(text));
        }
        source += "}\n\n";
        source += include_str!("own_modules.py");
        self.provide(OWN, source, false);
        self.sources.insert(0, ("<modules>".to_owned(), format!("__import__({})", literal(OWN))));
    }

    pub fn encode(self, types: &Types, targets: &[Target]) -> Vec<u8> {
        let mut data = Data::default();
        data.number(self.sources.len());
        for (file, code) in &self.sources {
            data.text(file);
            data.text(code);
        }
        let tops: Vec<&str> = self.modules.iter().map(|(name, ..)| name.as_str()).collect();
        let tops: Vec<&str> = tops.into_iter().filter(|name| !name.contains('.')).collect();
        data.number(tops.len());
        tops.into_iter().for_each(|name| data.text(name));
        data.number(self.modules.len());
        for (name, source, is_package) in &self.modules {
            data.text(name);
            data.text(source);
            data.number((*is_package).into());
        }
        types.encode(&mut data);
        data.number(targets.len());
        for target in targets {
            match target {
                Target::Function { call, parameters, result, indirect, returns_in_memory } => {
                    data.number(0);
                    data.number(*call);
                    data.number(*parameters);
                    data.optional(*result);
                    data.number((*indirect).into());
                    data.number((*returns_in_memory).into());
                }
                Target::Close(resource) => {
                    data.number(1);
                    data.number(*resource);
                }
                Target::Refused(why) => {
                    data.number(2);
                    data.text(why);
                }
            }
        }
        data.0
    }
}
