//! `agentkernel config init`: a file to begin with.

use std::fmt::Write;
use std::path::Path;

use super::keys::{NAME, Table, tables};
use crate::failure::{Failure, Result};
use crate::files;
use crate::terminal::say;

/// Columns of a comment.
const WIDTH: usize = 100;

const HEAD: &str = "\
# Configuration of AgentKernel: every key, each in a comment with its default or an example.
# A flag wins over a variable, a variable over this file. Relative paths start where this file lies.
# `agentkernel config check` says what is wrong here, `agentkernel config show` what is in force.
";

pub fn run(file: &Path, force: bool) -> Result<i32> {
    let shown = file.display();
    if file.symlink_metadata().is_ok() && !force {
        return Err(Failure::new(format!("`{shown}` is there already"))
            .hint("name another file, or replace it with `--force`"));
    }
    files::replace(file, text(&tables()).as_bytes())?;
    say!("wrote `{shown}`");
    Ok(0)
}

/// The file's content.
pub fn text(tables: &[Table]) -> String {
    let mut text = HEAD.to_owned();
    for table in tables {
        text.push('\n');
        if !table.path.is_empty() {
            comment(&mut text, &table.docs);
            // A string takes all.
            let _ = writeln!(text, "# [{}]", table.path.join("."));
        }
        for key in &table.keys {
            if key.name() != NAME {
                let default = match key.default.as_str() {
                    "" => String::new(),
                    default => format!(" Default: {default}."),
                };
                comment(&mut text, &format!("{}{default}", key.docs));
            }
            let _ = writeln!(text, "# {} = {}", key.name(), key.toml());
        }
    }
    text
}

fn comment(text: &mut String, words: &str) {
    let mut column = 0;
    for word in words.split(' ') {
        if column > 0 && column + word.len() + 1 > WIDTH {
            text.push('\n');
            column = 0;
        }
        let before = if column == 0 { "## " } else { " " };
        text.push_str(before);
        text.push_str(word);
        column += before.len() + word.len();
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// The keys without their comments.
    fn uncommented(text: &str) -> String {
        let lines = text.lines().filter(|line| !line.starts_with("##"));
        let lines = lines.filter(|line| line.contains(" = ") || line.contains("# ["));
        lines.filter_map(|line| line.strip_prefix("# ")).map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn what_stands_in_the_comments_is_a_configuration() {
        let text = text(&tables());
        let config: Config = toml::from_str(&text).unwrap();
        assert!(config.timeout.is_none() && config.llm.is_none());
        let config: Config = toml::from_str(&uncommented(&text)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.max_open_files, Some(256));
        assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')));
    }

    #[test]
    fn defaults_that_are_told_are_those_that_hold() {
        let config: Config = toml::from_str(&uncommented(&text(&tables()))).unwrap();
        let limits = agentkernel::Limits::default();
        assert_eq!(config.timeout.unwrap().0, limits.timeout);
        assert_eq!(config.memory, Some(limits.memory_bytes));
        assert_eq!(config.max_output, Some(limits.output_bytes));
        assert_eq!(config.max_written, Some(limits.write_bytes));
        assert_eq!(config.max_open_files, Some(limits.open_files));
        assert_eq!(config.max_entries, Some(limits.new_entries));
        assert_eq!(config.max_path, Some(limits.path_bytes));
        assert_eq!(config.max_operations, Some(limits.operations));
        let limits = agentkernel::ToolLimits::default();
        let tool = &config.tool["NAME"];
        assert_eq!(tool.timeout.unwrap().0, limits.timeout);
        assert_eq!(tool.memory, Some(limits.memory_bytes));
        assert_eq!(tool.max_written, Some(limits.write_bytes));
        assert_eq!(tool.max_open_files, Some(limits.open_files));
        assert_eq!(tool.max_entries, Some(limits.new_entries));
        assert_eq!(tool.max_path, Some(limits.path_bytes));
        assert_eq!(tool.max_instances, Some(limits.instances));
        assert_eq!(tool.max_requests, Some(limits.requests));
        assert_eq!(tool.max_concurrent_requests, Some(limits.concurrent_requests));
        assert_eq!(tool.max_sent, Some(limits.sent_bytes));
        assert_eq!(tool.max_received, Some(limits.received_bytes));
        let (told, limits) = (config.tasks.limits(), agentkernel::task::TaskLimits::default());
        assert_eq!(format!("{told:?}"), format!("{limits:?}"));
        config.llm.unwrap().check_defaults();
    }
}
