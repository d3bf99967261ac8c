//! `agentkernel compose`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use agentkernel::{Composition, Ending, Turn};

use crate::arguments::{Compose, Sandbox, Talk};
use crate::failure::{Failure, Result};
use crate::settings::Settings;
use crate::units::show_bytes;
use crate::{run, terminal};

/// A Python module that goes into the component.
struct Module {
    name: String,
    file: PathBuf,
    source: String,
    is_package: bool,
}

pub fn run(arguments: Compose) -> Result<i32> {
    let Compose { script, output, modules, exit_codes, tools, talk, engine, configuration } = arguments;
    let mut settings = Settings::resolve(Sandbox { tools, engine, configuration, ..Sandbox::default() })?;
    let tools = std::mem::take(&mut settings.tools);
    let name = script.to_str().ok_or_else(|| {
        Failure::new(format!("the name of the script `{}` is not UTF-8", script.display()))
            .hint("rename it, as Python shows it in tracebacks")
    })?;
    let code = read(&script)?;
    let mut found = Vec::new();
    for directory in &modules {
        collect(directory, "", &mut found)?;
    }
    check(&settings, talk, name, &code, &found)?;

    let granted = tools.iter().any(|tool| tool.has_own_grants());
    let mut composition = Composition::new(code).file(name).exit_codes(exit_codes);
    for tool in tools {
        composition = composition.tool(tool);
    }
    for Module { name, source, is_package, .. } in found {
        composition = composition.module(name, source, is_package);
    }
    if let Some(guest) = &settings.engine.guest {
        composition = composition.guest(guest);
    }
    let component = composition.build()?;
    write(&output, &component).map_err(|error| {
        Failure::new(format!("cannot write `{}`: {error}", output.display()))
            .hint("name a file in a directory that you can write to with `--output`")
    })?;
    if !talk.quiet {
        let (shown, size) = (output.display(), show_bytes(component.len() as u64));
        terminal::remark(&format!("`{shown}` is a component of {size}"));
        if granted {
            terminal::remark(
                "the grants of agentkernel.toml end here: program and tools share what the component is granted",
            );
        }
        terminal::hint(&format!("run it with `wasmtime run --dir .::/workspace {shown}`"));
    }
    Ok(0)
}

fn read(file: &Path) -> Result<String> {
    let shown = format!("`{}`", file.display());
    let bytes = fs::read(file).map_err(|error| Failure::new(format!("cannot read {shown}: {error}")))?;
    run::source(bytes, &shown)
}

/// The Python modules of a directory, and of the packages in it.
fn collect(directory: &Path, package: &str, found: &mut Vec<Module>) -> Result<()> {
    let unreadable = |error: io::Error| {
        Failure::new(format!("cannot read the modules in `{}`: {error}", directory.display()))
            .hint("name a directory with files that end in `.py`")
    };
    let mut entries = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>())
        .map_err(unreadable)?;
    entries.sort();
    for path in entries {
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        let importable =
            !stem.is_empty() && stem.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
        // A link to a directory may lead back to where it lies.
        let is_directory = fs::symlink_metadata(&path).map_err(unreadable)?.is_dir();
        let init = path.join("__init__.py");
        let (file, is_package) = match path.extension().and_then(|extension| extension.to_str()) {
            Some("py") if importable && stem != "__init__" && path.is_file() => (path.clone(), false),
            None if importable && is_directory && init.is_file() => (init, true),
            _ => continue,
        };
        let name = if package.is_empty() { stem.to_owned() } else { format!("{package}.{stem}") };
        if let Some(other) = found.iter().find(|module| module.name == name) {
            return Err(Failure::new(format!(
                "`{}` and `{}` are both the module `{name}`",
                other.file.display(),
                file.display()
            ))
            .hint("rename one of them, or leave one directory out"));
        }
        let source = read(&file)?;
        found.push(Module { name: name.clone(), file, source, is_package });
        if is_package {
            collect(&path, &name, found)?;
        }
    }
    Ok(())
}

/// Refuses what Python cannot compile: who runs the component may be far away.
fn check(settings: &Settings, talk: Talk, name: &str, code: &str, modules: &[Module]) -> Result<()> {
    let kernel = settings.kernel().on_progress(terminal::progress(talk)).build()?;
    let mut session = kernel.session().start()?;
    let modules = modules.iter().map(|module| (module.file.to_string_lossy(), module.source.as_str()));
    for (file, source) in std::iter::once((name.into(), code)).chain(modules) {
        // A string in JSON is one in Python.
        let [source, shown] =
            [source, &*file].map(|text| serde_json::to_string(text).unwrap_or_else(|_| "''".to_owned()));
        let code =
            format!("import ast; compile({source}, {shown}, 'exec', ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)");
        let outcome = session.run_blocking(Turn::new(code).without_value())?;
        match outcome.ending {
            Ending::Completed(_) => {}
            Ending::Raised(exception) => {
                return Err(Failure::new(format!("Python cannot compile `{file}`: {}", exception.message))
                    .hint(format!("`agentkernel run {file}` shows the place")));
            }
            other => {
                return Err(Failure::new(format!(
                    "Python cannot compile `{file}`: it ended in {}",
                    other.name()
                )));
            }
        }
    }
    Ok(())
}

/// Writes a file so that it is there as a whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut partial = name.to_owned();
    partial.push(format!(".{}.part", std::process::id()));
    let partial = path.with_file_name(partial);
    let written = File::create_new(&partial)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written
}
