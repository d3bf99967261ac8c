//! `agentkernel tool`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use agentkernel::{Ending, Kernel, Tool, ToolInfo, ToolItem, ToolKind, Turn};
use serde_json::{Value, json};

use crate::arguments::{Detail, Engine, Sandbox, Talk, ToolAction};
use crate::failure::{Failure, Result};
use crate::input::Input;
use crate::output::{Output, unwritten};
use crate::settings::Settings;
use crate::signals::{Signal, Stopper};
use crate::terminal::{self, say};
use crate::{files, report};

pub fn run(action: ToolAction) -> Result<i32> {
    match action {
        ToolAction::List { json, sandbox } => list(&kernel(&Settings::resolve(sandbox)?)?, json),
        ToolAction::Describe { name, detail, json, sandbox } => {
            let kernel = kernel(&Settings::resolve(sandbox)?)?;
            if json {
                ask_servers(&kernel);
                return describe_json(&kernel, &name);
            }
            let detail = match detail {
                None => "None",
                Some(Detail::Name) => "'name'",
                Some(Detail::Summary) => "'summary'",
                Some(Detail::Full) => "'full'",
            };
            let text = ask(&kernel, &format!("tools.describe({}, {detail})", python(&name)))?;
            say!("{}", plain(text.as_str().unwrap_or_default()).trim_end());
            Ok(0)
        }
        ToolAction::Search { words, limit, json, sandbox } => {
            let kernel = kernel(&Settings::resolve(sandbox)?)?;
            let found = format!("tools.search({}, {limit})", python(&words.join(" ")));
            let code = format!("[[i.name, i.signature, i.docs, repr(i)] for i in {found}]");
            search(&ask(&kernel, &code)?, json)
        }
        ToolAction::Call { name, arguments, sandbox } => call(&name, arguments, sandbox),
        ToolAction::Check { files, engine } => check(&files, &engine),
        ToolAction::Stubs { out, sandbox } => {
            let kernel = kernel(&Settings::resolve(sandbox)?)?;
            ask_servers(&kernel);
            stubs(&kernel, &out)
        }
        ToolAction::Document { file, wit, out } => {
            let bytes = fs::read(&file).map_err(|error| {
                Failure::new(format!("cannot read the component `{}`: {error}", file.display()))
            })?;
            files::replace(out.as_ref().unwrap_or(&file), &Tool::document(&bytes, &wit)?)?;
            Ok(0)
        }
    }
}

fn kernel(settings: &Settings) -> Result<Kernel> {
    if settings.tools.is_empty() {
        return Err(Failure::new("there are no tools")
            .hint("name a component with `--tools FILE`, or in agentkernel.toml: `[tool.NAME]`"));
    }
    Ok(settings.kernel().on_progress(terminal::progress(Talk::default())).build()?)
}

/// Asks MCP servers what they offer; those that do not say are told of.
fn ask_servers(kernel: &Kernel) {
    for (name, error) in kernel.ask_servers() {
        terminal::remark(&format!("the tool `{name}` is left out: {}", plain(&error.to_string())));
    }
}

fn list(kernel: &Kernel, json: bool) -> Result<i32> {
    let tools = kernel.tools();
    if json {
        let tools = tools.iter().map(|tool| json!({ "name": tool.name, "summary": tool.summary }));
        say!("{}", Value::Array(tools.collect()));
        return Ok(0);
    }
    let width = tools.iter().map(|tool| tool.name.len()).max().unwrap_or(0);
    for tool in tools {
        say!("{}", format!("{:width$}  {}", tool.name, plain(&tool.summary)).trim_end());
    }
    Ok(0)
}

fn describe_json(kernel: &Kernel, name: &str) -> Result<i32> {
    let below = format!("{name}.");
    let tools = kernel.tools();
    let found: Vec<Value> = tools
        .iter()
        .flat_map(|tool| &tool.items)
        .filter(|item| item.name == name || item.name.starts_with(&below))
        .map(|ToolItem { name, signature, docs, .. }| item(name, signature, docs))
        .collect();
    if found.is_empty() {
        let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
        return Err(Failure::new(format!("there is no tool `{name}`"))
            .hint(format!("there are {}", names.join(", "))));
    }
    say!("{}", Value::Array(found));
    Ok(0)
}

fn item(name: &str, signature: &str, docs: &str) -> Value {
    json!({ "name": name, "signature": signature, "docs": docs })
}

fn search(found: &Value, json: bool) -> Result<i32> {
    let found: Vec<[String; 4]> = serde_json::from_value(found.clone())
        .map_err(|error| Failure::new(format!("cannot understand what was found: {error}")))?;
    if json {
        let items = found.iter().map(|[name, signature, docs, _]| item(name, signature, docs));
        say!("{}", Value::Array(items.collect()));
        return Ok(0);
    }
    if found.is_empty() {
        terminal::remark("nothing was found; `agentkernel tool list` shows all tools");
        return Ok(1);
    }
    for [.., line] in found {
        say!("{}", plain(&line));
    }
    Ok(0)
}

/// The value of an expression about `tools`, in a session without grants.
fn ask(kernel: &Kernel, expression: &str) -> Result<Value> {
    let outcome = kernel.session().start()?.run_blocking(Turn::new(format!("import tools\n{expression}")))?;
    match outcome.ending {
        Ending::Completed(Some(value)) => Ok(value.json.unwrap_or_default()),
        Ending::Raised(exception) if exception.kind == "LookupError" => {
            let tools: Vec<_> = kernel.tools().into_iter().map(|tool| tool.name).collect();
            Err(Failure::new(plain(&exception.message)).hint(format!("there are {}", tools.join(", "))))
        }
        Ending::Raised(exception) => Err(Failure::new(plain(&exception.message))),
        other => Err(Failure::new(format!("the tools cannot be read: it ended in {}", other.name()))),
    }
}

/// Calls a function in a session with all that is granted.
fn call(name: &str, mut arguments: String, sandbox: Sandbox) -> Result<i32> {
    if arguments == "-" {
        arguments.clear();
        Input::default().read_to_string(&mut arguments).map_err(|error| {
            Failure::new(format!("cannot read the arguments from standard input: {error}"))
        })?;
    }
    let given: Value = serde_json::from_str(&arguments).map_err(|error| {
        Failure::new(format!("the arguments are not JSON: {error}"))
            .hint("give an array, `'[\"a\", 1]'`, or an object by name, `'{\"text\": \"a\"}'`")
    })?;
    if !given.is_array() && !given.is_object() {
        return Err(Failure::new("the arguments are neither an array nor an object")
            .hint(format!("write `'[{given}]'`")));
    }
    let settings = Settings::resolve(sandbox)?;
    let kernel = kernel(&settings)?;
    let output = Output::default();
    let mut session = kernel.session().grants(settings.grants.clone()).on_output(output.handler()).start()?;
    output.stops(session.canceller());
    let canceller = session.canceller();
    let stopper = Stopper::start(move || canceller.cancel());
    let code = format!(
        "from tools._runtime import call_json\nprint(call_json({}, {}))",
        python(name),
        python(&given.to_string())
    );
    let outcome = session.run_blocking(Turn::new(code).last())?;
    let signal = stopper.ended();
    let exit = signal.map_or_else(|| outcome.ending.exit_code(), Signal::exit_code);
    drop(session);
    if let Some(error) = output.finish(!outcome.ending.is_kept()) {
        return unwritten(&error);
    }
    if let Ending::Raised(exception) = &outcome.ending {
        terminal::error(&format!("{}: {}", exception.kind, plain(&exception.message)), None);
        if exception.kind == "LookupError" {
            terminal::hint("`agentkernel tool list` shows the tools, `tool describe NAME` their functions");
        }
    } else if let Some((message, hint)) = report::stopped(&outcome.ending, &settings.grants.limits) {
        terminal::error(&message, hint);
    }
    Ok(exit)
}

fn check(files: &[PathBuf], engine: &Engine) -> Result<i32> {
    let mut code = 0;
    for file in files {
        let tools = Tool::discover(file)?;
        let settings = Settings { engine: engine.clone(), tools, ..Settings::default() };
        match kernel(&settings) {
            Ok(kernel) => kernel.tools().iter().for_each(|tool| show(tool, file)),
            Err(failure) => {
                terminal::error(&failure.message, failure.hint.as_deref());
                code = 1;
            }
        }
    }
    Ok(code)
}

fn show(tool: &ToolInfo, file: &Path) {
    say!("{}: sound, imported as `tools.{}`", file.display(), tool.name);
    if !tool.summary.is_empty() {
        say!("  {}", plain(&tool.summary));
    }
    if tool.kind == ToolKind::Component && tool.items.iter().all(|item| item.docs.is_empty()) {
        say!(
            "  without documentation: put it in with `agentkernel tool document {} --wit DIR`",
            file.display()
        );
    }
    for item in tool.items.iter().filter(|item| item.signature != item.name) {
        say!("  exports {}", plain(&item.signature));
    }
    for import in &tool.imports {
        say!("  imports {}", plain(import));
    }
}

fn stubs(kernel: &Kernel, out: &Path) -> Result<i32> {
    for (path, text) in kernel.tool_stubs() {
        let path = out.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .map_err(|error| Failure::new(format!("cannot make `{}`: {error}", parent.display())))?;
        }
        files::replace(&path, text.as_bytes())?;
        say!("{}", path.display());
    }
    Ok(0)
}

/// A Python string literal: JSON writes strings as Python does, but for surrogates, of which there are none.
fn python(text: &str) -> String {
    Value::from(text).to_string()
}

/// Text of a tool's without what a terminal would obey.
fn plain(text: &str) -> String {
    let obeyed = |letter: char| letter.is_control() || terminal::reorders(letter);
    text.chars().filter(|letter| !obeyed(*letter) || *letter == '\n').collect()
}
