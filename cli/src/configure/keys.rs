//! Every key of the configuration, as the schema of its types has it.

use clap::CommandFactory;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::arguments::Arguments;
use crate::config::Config;

/// What stands for a name that the user chooses.
pub const NAME: &str = "NAME";

/// A table, and the keys in it.
#[derive(Debug)]
pub struct Table {
    /// Where it is: `["tool", "NAME"]`; empty for the file itself.
    pub path: Vec<String>,
    pub docs: String,
    pub keys: Vec<Key>,
}

#[derive(Debug)]
pub struct Key {
    /// Where it is, itself last.
    pub path: Vec<String>,
    /// What a person calls its type: `size`, `list of texts`.
    pub kind: String,
    /// What it is, without its default.
    pub docs: String,
    /// What holds where nothing is said, in words; a value stands between backticks.
    pub default: String,
    pub example: Option<Value>,
    /// Flags that say the same, and the variables that stand in for them.
    pub flags: Vec<String>,
    pub variables: Vec<String>,
    /// Whether the file or directory that it names is made when it is needed.
    pub is_made: bool,
}

impl Key {
    pub fn name(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    pub fn dotted(&self) -> String {
        self.path.join(".")
    }

    /// The default, if it is a value.
    pub fn value(&self) -> Option<&str> {
        self.default.strip_prefix('`')?.strip_suffix('`')
    }

    /// A value as TOML writes it: the default, or else an example.
    pub fn toml(&self) -> String {
        match (self.value(), &self.example) {
            (Some(value), _) if self.is_text() => toml(&Value::from(value)),
            (Some(value), _) => value.to_owned(),
            (None, Some(example)) => toml(example),
            (None, None) => "\"\"".to_owned(),
        }
    }

    fn is_text(&self) -> bool {
        matches!(self.kind.as_str(), "text" | "path" | "size" | "time" | "time or none")
            || self.kind.starts_with("text or")
    }
}

/// A value as TOML writes it.
pub fn toml(value: &Value) -> String {
    match value {
        // One with backslashes is an expression.
        Value::String(text) if text.contains('\\') && !text.contains('\'') => format!("'{text}'"),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        // As JSON does.
        other => other.to_string(),
    }
}

/// The schema of the file.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>().to_value();
    tidy(&mut schema);
    schema
}

/// Takes out what says nothing here: defaults of Rust's types and their formats, and that a value may be null.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.contains_key("type") || map.contains_key("anyOf") || map.contains_key("$ref") {
                map.remove("default");
            }
            // TOML has no null.
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [one] = &types[..] {
                    let one = one.clone();
                    map.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(values)) = map.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            if let Some(Value::Array(choices)) = map.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
            }
            if let Some(Value::String(docs)) = map.get_mut("description") {
                *docs = line(docs);
            }
            let number =
                |format: &Value| format.as_str().is_some_and(|format| format.starts_with(['u', 'd', 'f']));
            if map.get("format").is_some_and(number) && !map.contains_key("pattern") {
                map.remove("format");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// All tables in the order in which the types have them.
pub fn tables() -> Vec<Table> {
    let schema = schema();
    let command = Arguments::command();
    let mut walk = Walk { root: &schema, command: &command, tables: Vec::new() };
    walk.table(&[], &schema, "");
    walk.tables
}

struct Walk<'a> {
    root: &'a Value,
    command: &'a clap::Command,
    tables: Vec<Table>,
}

impl<'a> Walk<'a> {
    /// What a schema refers to, without the possibility that it is absent.
    fn resolve(&self, mut schema: &'a Value) -> &'a Value {
        loop {
            if let Some(name) = schema["$ref"].as_str() {
                let pointer = name.trim_start_matches('#');
                match self.root.pointer(pointer) {
                    Some(referred) => schema = referred,
                    None => return schema,
                }
            } else if schema.get("x-type").is_none()
                && let Some(choices) = schema["anyOf"].as_array().or_else(|| schema["allOf"].as_array())
                && let [one] = choices.iter().filter(|one| one["type"] != "null").collect::<Vec<_>>()[..]
            {
                schema = one;
            } else {
                return schema;
            }
        }
    }

    fn table(&mut self, path: &[String], schema: &'a Value, docs: &str) {
        let own = schema["description"].as_str().unwrap_or_default();
        let docs = if docs.is_empty() { own } else { docs };
        let position = self.tables.len();
        self.tables.push(Table { path: path.to_vec(), docs: line(docs), keys: Vec::new() });
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let mut path = path.to_vec();
            path.push(name.clone());
            self.field(position, path, field);
        }
    }

    /// A key, or the tables below it.
    fn field(&mut self, table: usize, mut path: Vec<String>, field: &'a Value) {
        let docs = field["description"].as_str().unwrap_or_default();
        let mut schema = self.resolve(field);
        // Names that the user chooses.
        let mut of_names = false;
        while schema["properties"].is_null() && schema["additionalProperties"].is_object() {
            of_names = true;
            path.push(NAME.to_owned());
            schema = self.resolve(&schema["additionalProperties"]);
        }
        if schema["properties"].is_object() && schema.get("x-type").is_none() {
            return self.table(&path, schema, docs);
        }
        let key = self.key(path, field, schema, docs);
        match of_names {
            // A table of values by name.
            true => {
                let path = key.path[..key.path.len() - 1].to_vec();
                self.tables.push(Table { path, docs: key.docs.clone(), keys: vec![key] });
            }
            false => self.tables[table].keys.push(key),
        }
    }

    fn key(&self, path: Vec<String>, field: &'a Value, schema: &'a Value, docs: &str) -> Key {
        let docs = line(docs);
        let (docs, default) = match docs.split_once(" Default: ") {
            Some((docs, default)) => (docs.to_owned(), default.trim_end_matches('.').to_owned()),
            None => (docs, String::new()),
        };
        let flags: Vec<String> = match &field["x-flag"] {
            Value::Array(flags) => flags.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            flag => flag.as_str().map(str::to_owned).into_iter().collect(),
        };
        let variables = flags.iter().filter_map(|flag| variable(self.command, flag.trim_start_matches('-')));
        let variables = variables.collect();
        let example = field["examples"].as_array().and_then(|examples| examples.first()).cloned();
        let kind = self.kind(schema);
        let is_made = field["x-made"] == true;
        Key { path, kind, docs, default, example, flags, variables, is_made }
    }

    fn kind(&self, schema: &'a Value) -> String {
        let schema = self.resolve(schema);
        if let Some(kind) = schema["x-type"].as_str() {
            return kind.to_owned();
        }
        let types = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
            kind => kind.as_str(),
        };
        match types {
            Some("string") => schema["format"].as_str().unwrap_or("text").to_owned(),
            Some("integer") => "whole number".to_owned(),
            Some("number") => "number".to_owned(),
            Some("boolean") => "true or false".to_owned(),
            Some("array") => match self.kind(&schema["items"]).as_str() {
                "value" => "list".to_owned(),
                kind => format!("list of {kind}s"),
            },
            _ => "value".to_owned(),
        }
    }
}

/// The variable that stands in for a flag, of whichever command.
fn variable(command: &clap::Command, flag: &str) -> Option<String> {
    let own = command.get_arguments().find(|argument| argument.get_long() == Some(flag));
    let own = own.and_then(|argument| Some(argument.get_env()?.to_str()?.to_owned()));
    own.or_else(|| command.get_subcommands().find_map(|below| variable(below, flag)))
}

/// A text in one line.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described() {
        for table in tables() {
            assert!(!table.docs.is_empty(), "{:?}", table.path);
            for key in &table.keys {
                assert!(!key.docs.is_empty() && !key.default.is_empty(), "{key:?}");
                assert!(key.docs.ends_with('.'), "{key:?}");
                assert!(key.value().is_some() || key.example.is_some(), "no value to show: {key:?}");
                assert_ne!(key.kind, "value", "{key:?}");
                let known = key.flags.iter().all(|flag| has_flag(&Arguments::command(), flag));
                assert!(known, "{key:?}");
            }
        }
    }

    fn has_flag(command: &clap::Command, flag: &str) -> bool {
        let long = Some(flag.trim_start_matches('-'));
        command.get_arguments().any(|argument| argument.get_long() == long)
            || command.get_subcommands().any(|below| has_flag(below, flag))
    }

    #[test]
    fn every_variable_of_a_flag_with_a_key_is_told() {
        let told: Vec<_> =
            tables().into_iter().flat_map(|table| table.keys).flat_map(|key| key.variables).collect();
        // These say where files are, or are secrets.
        let apart = ["AGENTKERNEL_CONFIG", "AGENTKERNEL_DATA_DIR", "AGENTKERNEL_MCP_TOKEN"];
        for variable in crate::arguments::VARIABLES {
            assert!(told.iter().any(|told| told == variable) || apart.contains(variable), "{variable}");
        }
    }
}
