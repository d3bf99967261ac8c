//! The sources of a tool's modules: what they import, what is in them, what programs find there.

use std::fmt::Write;

use super::Writer;
use crate::tool::describe::{Interface, Kind};
use crate::tool::names::{literal, snake};

impl Writer<'_> {
    pub(super) fn modules(mut self) -> Vec<(String, String)> {
        let described = self.described;
        let first = self.next_function;
        let several = self.several();
        let mut body = String::new();
        for index in 0..described.types.len() {
            self.class(index, &mut body);
        }
        for (index, name) in &self.exceptions {
            let _ = write!(
                body,
                "\n\nclass {name}(Error):\n    \"\"\"A call ended in an error; `payload` is a `{}`.\"\"\"\n",
                self.classes[*index]
            );
        }
        for index in 0..described.types.len() {
            self.codec(index, &mut body);
        }
        let mut public = Vec::new();
        let mut submodules = Vec::new();
        for (position, interface) in described.interfaces.iter().enumerate() {
            // What the component exports by itself is the tool's own.
            let module = &self.interfaces[position];
            let apart = several && !module.is_empty();
            let prefix = if apart { format!("_{module}__") } else { String::new() };
            let mut names = Vec::new();
            for function in &interface.functions {
                let number = self.next_function;
                self.next_function += 1;
                if function.kind == Kind::Free {
                    let name = snake(&function.name);
                    self.function(function, number, &format!("{prefix}{name}"), function.is_async, &mut body);
                    names.push(name);
                } else {
                    self.method(function, number, &mut body);
                }
            }
            let classes: Vec<String> = (0..described.types.len())
                .filter(|index| described.types[*index].interface == Some(position))
                .flat_map(|index| {
                    std::iter::once(self.classes[index].clone()).chain(self.exceptions.get(&index).cloned())
                })
                .collect();
            if apart {
                submodules.push(self.submodule(interface, position, &names, &classes));
            } else {
                public.extend(names);
            }
        }
        public.extend(self.classes.iter().cloned());
        public.extend(self.exceptions.values().cloned());
        public.push("Error".to_owned());
        let mut parts: Vec<String> = match several {
            true => self.interfaces.iter().filter(|name| !name.is_empty()).cloned().collect(),
            false => Vec::new(),
        };
        public.extend(parts.iter().cloned());
        let aio = self.aio(first);
        parts.extend(aio.first().map(|_| "aio".to_owned()));
        let mut source = format!("{}\n\n", literal(&self.docs()));
        source.push_str("from tools import *\nfrom tools import _runtime as _r\n");
        source.push_str("from tools._runtime import _array, _bool, _char, _explain, _flags, _give, _handle, _items, _numbers, _result, _some, _variant\n");
        source.push_str(
            "import dataclasses as _dataclasses\nimport enum as _enum\nimport struct as _struct\n\n",
        );
        // A tool may call its own things by such names.
        source.push_str("from builtins import chr as _chr, int as _int, len as _len, range as _range\n");
        source
            .push_str("from builtins import staticmethod as _staticmethod, tuple as _tuple, type as _type\n");
        source.push_str(match self.recreates {
            true => {
                "from tools import _recreated\n_generation = [b\"\"]\n_call, _start = _r._caller([0]), _r._starter([0])\n_call_here, _start_here = _recreated.callers(_generation)\n"
            }
            false => {
                "_generation = [0]\n_call, _start, _start_here = _r._caller(_generation), _r._starter([0]), _r._starter(_generation)\n"
            }
        });
        for (position, format) in self.formats.iter().enumerate() {
            let _ = writeln!(source, "_s{position} = _struct.Struct({})", literal(&format!("<{format}")));
            let _ =
                writeln!(source, "_p{position}, _u{position} = _s{position}.pack, _s{position}.unpack_from");
        }
        let _ = write!(
            source,
            "\n\nclass Error(_r.ToolError):\n    \"\"\"A call of the tool `{}` ended in an error; `payload` is what the tool says.\"\"\"\n",
            self.tool
        );
        source.push_str(&body);
        let _ = write!(
            source,
            "\n\n__all__ = [{}]\n",
            public.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ")
        );
        if !parts.is_empty() {
            let names: Vec<String> = parts.iter().map(|name| literal(name)).collect();
            let _ = write!(source, "\n__getattr__ = _r._submodules(__name__, ({},))\n", names.join(", "));
        }
        let mut modules = vec![(format!("tools.{}", self.tool), source)];
        modules.extend(submodules);
        modules.extend(aio);
        modules
    }

    fn submodule(
        &self,
        interface: &Interface,
        position: usize,
        names: &[String],
        classes: &[String],
    ) -> (String, String) {
        let module = &self.interfaces[position];
        let prefix = format!("_{module}__");
        let mut source = format!("{}\n\n", literal(&interface.docs));
        let tool = format!("tools.{}", self.tool);
        for name in names {
            let _ = writeln!(source, "from {tool} import {prefix}{name} as {name}");
        }
        for name in classes.iter().map(String::as_str).chain(["Error"]) {
            let _ = writeln!(source, "from {tool} import {name}");
        }
        let all = names.iter().chain(classes).map(|name| literal(name)).collect::<Vec<_>>().join(", ");
        let _ = write!(source, "\n__all__ = [{all}, \"Error\"]\n");
        for name in names {
            let _ = writeln!(source, "{name}.__name__, {name}.__module__ = {}, __name__", literal(name));
        }
        (format!("{tool}.{module}"), source)
    }
}
