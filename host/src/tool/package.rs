//! Tools that are Python packages: they run in the interpreter, with the rights of the program.

use std::path::{Path, PathBuf};

use super::names::literal;
use crate::{Error, ErrorKind, Result};

/// Where packages stand in the guest.
pub(crate) const DIRECTORY: &str = "/tools";

/// A directory with a Python package, or with modules.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub directory: PathBuf,
    /// The first line of its docstring.
    pub summary: String,
    has_init: bool,
}

impl Package {
    pub fn open(name: &str, directory: &Path) -> Result<Self> {
        let bad = |message: String| {
            Error::new(ErrorKind::Tool, format!("the tool `{name}` {message}"))
                .hint("name a directory with an `__init__.py`, or with modules that end in `.py`")
        };
        let entries = std::fs::read_dir(directory)
            .map_err(|error| bad(format!("cannot be read from `{}`: {error}", directory.display())))?;
        let init = directory.join("__init__.py");
        let has_init = init.is_file();
        let has_modules = || {
            entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "py"))
        };
        if !has_init && !has_modules() {
            return Err(bad(format!("has no Python in `{}`", directory.display())));
        }
        let summary = match has_init {
            true => summary(
                &std::fs::read_to_string(&init)
                    .map_err(|error| bad(format!("cannot be read from `{}`: {error}", init.display())))?,
            ),
            false => String::new(),
        };
        Ok(Package { directory: directory.to_owned(), summary, has_init })
    }

    /// Where the package of the tool `name` stands in the guest.
    pub fn place(name: &str) -> String {
        format!("{DIRECTORY}/{name}")
    }

    /// The module that stands for the package: it puts the one from the directory in its place.
    pub fn module(&self, name: &str) -> String {
        let place = literal(&Self::place(name));
        if !self.has_init {
            return format!("__path__ = [{place}]\n");
        }
        format!(
            "import importlib.util as _util, sys as _sys
_place = {place}
_spec = _util.spec_from_file_location(__name__, _place + '/__init__.py', submodule_search_locations=[_place])
_module = _util.module_from_spec(_spec)
_sys.modules[__name__] = _module
_spec.loader.exec_module(_module)
"
        )
    }
}

/// The first line of a module's docstring, if it begins with one.
fn summary(source: &str) -> String {
    let start = source.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let Some(line) = start else { return String::new() };
    let line = line.trim_start_matches(['r', 'R']);
    for quote in ["\"\"\"", "'''", "\"", "'"] {
        if let Some(rest) = line.strip_prefix(quote) {
            let text = rest.split(quote).next().unwrap_or_default().trim();
            if !text.is_empty() {
                return text.to_owned();
            }
            // The text begins on the next line.
            let mut lines = source.lines().skip_while(|other| !other.contains(quote)).skip(1);
            return lines.next().unwrap_or_default().trim().trim_end_matches(quote).to_owned();
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn the_first_line_of_a_docstring_is_found() {
        assert_eq!(summary("# comment\n\n\"\"\"Counts words.\n\nMore.\"\"\"\nimport os"), "Counts words.");
        assert_eq!(summary("'''\nCounts words.\n'''"), "Counts words.");
        assert_eq!(summary("r'one line'"), "one line");
        assert_eq!(summary("import os\n'''no docstring'''"), "");
        assert_eq!(summary(""), "");
    }
}
