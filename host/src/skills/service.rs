//! What programs ask about skills, and how they import them.

use serde::Deserialize;

use super::{Skills, name};
use crate::bindings::modules::Module;
use crate::bindings::operations::Failure;
use crate::operations::Answer;
use crate::service::{Called, Kind, Service, failure};
use crate::{Access, Error, ErrorKind};

/// The package that skills are modules of.
pub(crate) const PACKAGE: &str = "skills";

const PACKAGE_SOURCE: &str =
    "\"\"\"Programs that were kept; `from agentkernel import skills` looks after them.\"\"\"

from agentkernel._skills import _names as __dir__
";

/// Numbers of the functions, as `skills.py` has them.
mod function {
    pub const LIST: u8 = 0;
    pub const SEARCH: u8 = 1;
    pub const SHOW: u8 = 2;
    pub const SAVE: u8 = 3;
    pub const DELETE: u8 = 4;
}

pub(crate) struct SkillsService(pub Skills);

/// What goes with code that is saved.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    name: String,
    description: String,
}

impl SkillsService {
    fn answer(&self, function: u8, head: &[u8], tail: &[u8]) -> Answer {
        let SkillsService(skills) = self;
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| failure("value", "text must be UTF-8"));
        match function {
            function::LIST => json(&skills.list().map_err(told)?),
            function::SEARCH => json(&skills.search(text(head)?).map_err(told)?),
            function::SHOW => {
                let (skill, code) = skills.get(text(head)?).map_err(told)?;
                json(&(skill, code))
            }
            function::SAVE | function::DELETE if skills.access == Access::ReadOnly => Err(failure(
                "denied",
                "this program may read skills, and not save or delete them; grant it with `--skills-write DIR`, or with [skills] write = true in agentkernel.toml (docs/skills.md)",
            )),
            function::SAVE => {
                let about: Saved =
                    serde_json::from_slice(head).map_err(|error| failure("value", error.to_string()))?;
                json(&skills.save(&about.name, text(tail)?, &about.description).map_err(told)?)
            }
            function::DELETE => {
                skills.delete(text(head)?).map_err(told)?;
                Ok(Vec::new())
            }
            _ => Err(failure("unknown", "there is no such function")),
        }
    }
}

impl Service for SkillsService {
    fn kind(&self) -> Kind {
        Kind::Skills
    }

    fn call(&self, function: u8, head: &[u8], tail: &[u8]) -> Called {
        Called::Ready(self.answer(function, head, tail))
    }

    /// The package, and modules of it: each asks for its code, so that a replay has it as well.
    fn module(&self, module: &str) -> Option<Module> {
        let rest = module.strip_prefix(PACKAGE)?;
        if rest.is_empty() {
            return Some(Module { source: PACKAGE_SOURCE.into(), is_package: true });
        }
        let skill = rest.strip_prefix('.')?;
        name::check(skill).ok()?;
        let source = format!("__import__('agentkernel._skills')._skills._load('{skill}', globals())\n");
        Some(Module { source, is_package: false })
    }
}

fn json(value: &impl serde::Serialize) -> Answer {
    serde_json::to_vec(value).map_err(|error| failure("trap", error.to_string()))
}

fn told(error: Error) -> Failure {
    let message = match error.remedy() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    };
    failure(if error.kind() == ErrorKind::Grant { "denied" } else { "skill" }, message)
}
