//! Python functions and methods that encode their arguments, call the host, and decode what comes back.

use std::fmt::Write;

use super::code::Code;
use super::{Writer, stubs};
use crate::tool::describe::{Function, Kind, Type};
use crate::tool::names::{literal, snake};

impl Writer<'_> {
    pub(super) fn method(&mut self, function: &Function, number: u32, out: &mut String) {
        let (Kind::Constructor(index) | Kind::Method(index) | Kind::Static(index)) = function.kind else {
            return;
        };
        let class = self.classes[index].clone();
        let name = stubs::python_name(function);
        let private = format!("_{class}_{name}");
        self.function(function, number, &private, function.is_async, out);
        let bound = match function.kind {
            Kind::Static(_) => format!("_staticmethod({private})"),
            _ => private.clone(),
        };
        let _ = write!(
            out,
            "{private}.__name__, {private}.__qualname__ = {}, {}\n{class}.{name} = {bound}\n",
            literal(&name),
            literal(&format!("{class}.{name}")),
        );
    }

    /// A function with its signature, documentation and body.
    pub(super) fn function(
        &mut self,
        function: &Function,
        number: u32,
        name: &str,
        is_async: bool,
        out: &mut String,
    ) {
        let mut signature = Vec::new();
        let mut encoded: Vec<(String, Type)> = Vec::new();
        if let Kind::Method(index) = function.kind {
            signature.push("self".to_owned());
            encoded.push(("self".into(), Type::Borrow(index)));
        } else if let Kind::Constructor(_) = function.kind {
            signature.push("self".to_owned());
        }
        for (position, (parameter, ty)) in function.parameters.iter().enumerate() {
            let python = snake(parameter);
            let default = if function.is_optional(position) { " = None" } else { "" };
            signature.push(format!("{python}: {}{default}", literal(&self.annotation(ty))));
            encoded.push((python, ty.clone()));
        }
        let returns = self.returned(function);
        let mut code = Code::default();
        let (head, tail) = self.arguments(&mut code, &encoded);
        let mut text = Code::default();
        let passes = self.described.passes_resources(function);
        let call = match is_async {
            // Which ends no resource but in the instance that has it.
            true if passes => "await _start_here",
            true => "await _start",
            false if passes && self.recreates => "_call_here",
            false => "_call",
        };
        let mut passed = format!("_h, {tail}");
        if code.text.is_empty() && head == "b\"\"" {
            passed = "b\"\", b\"\"".to_owned();
            text.line(format!("_b = {call}({number}, {passed})"));
        } else {
            let gives = code.text.contains(", _g)") || head.contains(", _g)");
            text.line("try:".into());
            text.deeper();
            if gives {
                text.line("_g = []".into());
            }
            text.text.push_str(&code.indented(1));
            text.line(format!("_h = {head}"));
            text.shallower();
            text.line("except _r._WRONG as _x:".into());
            let arguments: Vec<&str> = encoded.iter().map(|(name, _)| name.as_str()).collect();
            let described: Vec<String> = encoded
                .iter()
                .map(|(name, ty)| format!("({}, {})", literal(name), self.descriptor(ty)))
                .collect();
            text.deeper();
            text.line(format!(
                "raise _explain(_x, ({},), ({},)) from None",
                described.join(", "),
                arguments.join(", ")
            ));
            text.shallower();
            let given = "for _x in _g: _x._given()";
            if gives && !self.recreates {
                text.line(given.into());
            }
            text.line(format!("_b = {call}({number}, {passed})"));
            // What was not called is called again.
            if gives && self.recreates {
                text.line(given.into());
            }
        }
        match self.recipe(function) {
            Some(recipe) => {
                self.reader(function, number, &recipe, out);
                let call = [format!("_b, {number}, _n{number}, {passed}")].into_iter().chain(recipe.given);
                let call = call.collect::<Vec<_>>().join(", ");
                text.line(match function.kind {
                    Kind::Constructor(_) => format!("self._make({call})"),
                    _ => format!("return {}._made({call})", self.classes[recipe.class]),
                });
            }
            None => self.results(&mut text, function),
        }
        let word = if is_async { "async def" } else { "def" };
        let _ = write!(
            out,
            "\n\n{word} {name}({}) -> {}:\n    {}\n{}",
            signature.join(", "),
            literal(&returns),
            literal(&function.docs),
            text.indented(1)
        );
        if passes && self.recreates {
            let again = if is_async { "again_async" } else { "again" };
            let _ = writeln!(out, "{name} = _recreated.{again}({name})");
        }
    }

    /// How a resource that a function gives is made anew, if it can be: it is all that the function gives, and those that it is
    /// made of are the first of the arguments.
    fn recipe(&self, function: &Function) -> Option<Recipe> {
        if !self.recreates {
            return None;
        }
        let (class, may_fail) = match (&function.kind, &function.result) {
            (Kind::Constructor(class), result) => (*class, matches!(result, Some(Type::Result(..)))),
            (_, Some(Type::Own(class))) => (*class, false),
            (_, Some(Type::Result(Some(ok), _))) if let Type::Own(class) = **ok => (class, true),
            _ => return None,
        };
        let is_lent = |(_, ty): &&(String, Type)| matches!(ty, Type::Borrow(_));
        let lent = function.parameters.iter().take_while(is_lent).map(|(name, _)| snake(name));
        let given: Vec<String> = match function.kind {
            Kind::Method(_) => std::iter::once("self".to_owned()).chain(lent).collect(),
            _ => lent.collect(),
        };
        let others = function.parameters.iter().skip_while(is_lent);
        let none = others.into_iter().all(|(_, ty)| !self.described.holds_resources(ty));
        none.then_some(Recipe { class, may_fail, given })
    }

    /// A function that takes the number of a resource from an answer, or raises what that is.
    fn reader(&mut self, function: &Function, number: u32, recipe: &Recipe, out: &mut String) {
        let mut code = Code::default();
        if let Some(Type::Result(_, error)) = &function.result {
            self.raise(&mut code, error.as_deref());
        }
        let tag = self.format("I");
        code.line(format!("return _u{tag}(_b, {})[0]", u8::from(recipe.may_fail)));
        let _ = write!(out, "\n\ndef _n{number}(_b):\n{}", code.indented(1));
    }
}

/// How a resource is made.
struct Recipe {
    class: usize,
    /// Whether it comes in a `result`.
    may_fail: bool,
    /// The names of the parameters that are the resources which it is made of.
    given: Vec<String>,
}
