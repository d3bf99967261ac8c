//! Remedies for exceptions whose cause is a grant that was not given.

use std::path::Path;

use agentkernel::{Exception, Grants, Usage, Workspace};

/// What the user can do about an exception, where the sandbox is its likely cause.
pub fn hint(exception: &Exception, grants: &Grants, usage: &Usage, script: Option<&Path>) -> Option<String> {
    match exception.kind.as_str() {
        "ModuleNotFoundError" => match exception.message.as_str() {
            "No module named 'tools'" => Some(
                "tools are granted with `--tools FILE|DIR`, or as `[tool.NAME]` in agentkernel.toml"
                    .to_owned(),
            ),
            "No module named 'skills'" => Some("skills are granted with `--skills DIR`".to_owned()),
            _ => module(exception, script?),
        },
        "socket.gaierror" | "urllib.error.URLError" => Some(
            "the program has no network; what it may ask of the web goes through a tool: docs/tools.md"
                .to_owned(),
        ),
        "FileNotFoundError" => match (&grants.workspace, grants.mounts.is_empty()) {
            (Workspace::Temporary, true) => Some(
                "the program sees an empty directory and nothing of this machine; \
                 grant one with `--workspace DIR` or `--mount HOST:GUEST`"
                    .to_owned(),
            ),
            (Workspace::Directory(directory), _) => {
                // `.` would say nothing.
                let directory = directory.canonicalize().unwrap_or_else(|_| directory.clone());
                let shown = directory.display();
                Some(format!("the program sees `{shown}` as /workspace, and nothing above it"))
            }
            (Workspace::Overlay(overlay), _) => {
                let shown = overlay.directory().display();
                Some(format!("the program sees `{shown}` as /workspace, and nothing above it"))
            }
            (Workspace::Temporary, false) => {
                let seen: Vec<_> = grants.mounts.iter().map(|mount| mount.guest.as_str()).collect();
                Some(format!("the program sees {} and an empty /workspace", seen.join(", ")))
            }
        },
        "agentkernel.BudgetExceeded" => more(&exception.message),
        // One with words is the program's own.
        "MemoryError" if exception.message.is_empty() => Some("give more memory with `--memory`".to_owned()),
        "OSError" if exception.message.contains("[Errno 69]") => {
            Some("a directory was mounted read-only; add `:rw` to its `--mount`".to_owned())
        }
        "OSError" if usage.written_bytes >= grants.limits.write_bytes.saturating_sub(1 << 20) => Some(
            format!("{} bytes may be written; allow more with `--max-written`", grants.limits.write_bytes),
        ),
        _ => None,
    }
}

/// How to give more of what ran out, if the message names it: "… (`max-calls`)".
pub fn more(message: &str) -> Option<String> {
    let name = message.split('`').find(|part| part.starts_with("max-"))?;
    // The message comes from the program.
    let known = ["max-calls", "max-tokens", "max-cost", "max-depth", "max-time"].contains(&name);
    match name {
        "max-input-tokens" | "max-output-tokens" => {
            Some(format!("give more with `{name}` of `[llm]` in agentkernel.toml"))
        }
        _ => known.then(|| format!("give more with `--{name}`")),
    }
}

/// A module that lies beside the script, where the sandbox does not see it.
fn module(exception: &Exception, script: &Path) -> Option<String> {
    let name = exception.message.split('\'').nth(1)?.split('.').next()?;
    // The name comes from the program: it must not make us look anywhere else.
    let identifier = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    let directory = script.parent()?;
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let file = [directory.join(format!("{name}.py")), directory.join(name).join("__init__.py")]
        .into_iter()
        .find(|file| identifier && file.is_file())?;
    Some(format!(
        "`{}` lies beside the script, which the program does not see; grant the directory with `--mount {}:/script`",
        file.display(),
        directory.display()
    ))
}
