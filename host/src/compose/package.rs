//! A tool that is a Python package: its modules are put in, as there is no directory to import from.

use std::fs;
use std::io;
use std::path::Path;

use crate::tool::Package;
use crate::{Error, ErrorKind, Result};

/// A module: its full name, its source, and whether it has submodules.
pub(super) type Module = (String, String, bool);

/// The modules of the package that is the tool `tool`.
pub(super) fn modules(tool: &str, package: &Package) -> Result<Vec<Module>> {
    let mut found = Vec::new();
    collect(&package.directory, format!("tools.{tool}"), &mut found).map_err(|error| {
        Error::new(
            ErrorKind::Tool,
            format!("the modules of the tool `{tool}` cannot be read from `{}`", package.directory.display()),
        )
        .hint("give a directory whose `.py` files are UTF-8")
        .source(error)
    })?;
    Ok(found)
}

/// The modules of a directory, which is a package itself if there is any Python in it: says whether.
fn collect(directory: &Path, name: String, found: &mut Vec<Module>) -> io::Result<bool> {
    let mut paths =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    let init = directory.join("__init__.py");
    // Python imports from directories without one as well.
    let mut has_python = init.is_file();
    let own = found.len();
    found.push((name.clone(), if has_python { read(&init)? } else { String::new() }, true));
    for path in paths {
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        if stem == "__init__" || !stem.chars().all(|letter| letter.is_alphanumeric() || letter == '_') {
            continue;
        }
        let inner = format!("{name}.{stem}");
        match path.extension().and_then(|extension| extension.to_str()) {
            // A package goes before a module of the same name, and that before a directory.
            Some("py") if path.is_file() && !path.with_extension("").join("__init__.py").is_file() => {
                found.push((inner, read(&path)?, false));
                has_python = true;
            }
            // A link to a directory may lead back to where it lies.
            None if fs::symlink_metadata(&path)?.is_dir()
                && (path.join("__init__.py").is_file() || !path.with_extension("py").is_file()) =>
            {
                has_python |= collect(&path, inner, found)?;
            }
            _ => {}
        }
    }
    if !has_python {
        found.truncate(own);
    }
    Ok(has_python)
}

fn read(file: &Path) -> io::Result<String> {
    let text = fs::read_to_string(file)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
