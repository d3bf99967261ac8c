//! `agentkernel tool`.

use agentkernel::{Ending, Turn};

use crate::arguments::{Talk, ToolAction};
use crate::failure::{Failure, Result};
use crate::settings::Settings;
use crate::terminal::{self, say};

pub fn run(action: ToolAction) -> Result<i32> {
    let (settings, name) = match action {
        ToolAction::List { sandbox } => (Settings::resolve(sandbox)?, None),
        ToolAction::Describe { name, sandbox } => (Settings::resolve(sandbox)?, Some(name)),
    };
    if settings.tools.is_empty() {
        return Err(Failure::new("there are no tools")
            .hint("name a component with `--tools FILE`, or in agentkernel.toml: `[tool.NAME]`"));
    }
    let kernel = settings.kernel().on_progress(terminal::progress(Talk::default())).build()?;
    let Some(name) = name else {
        let tools = kernel.tools();
        let width = tools.iter().map(|tool| tool.name.len()).max().unwrap_or(0);
        for tool in tools {
            say!("{}", format!("{:width$}  {}", tool.name, plain(&tool.summary)).trim_end());
        }
        return Ok(0);
    };
    let known = name.split('.').all(|part| {
        !part.is_empty() && part.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    });
    let unknown = || {
        let tools: Vec<_> = kernel.tools().into_iter().map(|tool| tool.name).collect();
        Failure::new(format!("there is no tool `{name}`")).hint(format!("there are {}", tools.join(", ")))
    };
    if !known {
        return Err(unknown());
    }
    // Python's own `help` knows best how to show Python.
    let code = format!("import pydoc, tools\npydoc.plain(pydoc.render_doc(tools.{name}, title='%s'))");
    let outcome = kernel.session().start()?.run_blocking(Turn::new(code))?;
    match outcome.ending {
        Ending::Completed(Some(value)) => {
            say!(
                "{}",
                value.json.as_ref().and_then(|json| json.as_str()).map(plain).unwrap_or_default().trim_end()
            );
            Ok(0)
        }
        Ending::Raised(exception) if exception.kind == "AttributeError" => Err(unknown()),
        Ending::Raised(exception) => {
            Err(Failure::new(format!("cannot describe `{name}`: {}", exception.message)))
        }
        other => Err(Failure::new(format!("cannot describe `{name}`: it ended in {}", other.name()))),
    }
}

/// Text of a tool's without what a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control() || *letter == '\n').collect()
}
