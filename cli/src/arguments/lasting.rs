//! Flags of what lasts longer than a session.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::{Configuration, Engine};

/// What programs find again in later sessions.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Grants")]
pub struct Lasting {
    /// A database of what programs keep as `agentkernel.state`, made if there is none [default: none].
    #[arg(long, value_name = "FILE", env = "AGENTKERNEL_STATE", hide_env = true, value_hint = ValueHint::FilePath)]
    pub state: Option<PathBuf>,
    #[command(flatten)]
    pub skills: Skills,
}

/// Where skills are, and whether they may be changed.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Grants")]
pub struct Skills {
    /// A directory of skills, which programs import from `skills` [default: none].
    #[arg(long, value_name = "DIR", env = "AGENTKERNEL_SKILLS", hide_env = true, value_hint = ValueHint::DirPath)]
    pub skills: Option<PathBuf>,
    /// The same, where programs may save and delete skills as well.
    #[arg(long, value_name = "DIR", env = "AGENTKERNEL_SKILLS_WRITE", hide_env = true, conflicts_with = "skills", value_hint = ValueHint::DirPath)]
    pub skills_write: Option<PathBuf>,
}

/// `agentkernel skill`.
#[derive(Debug, Subcommand)]
pub enum SkillAction {
    /// List the skills, each with a line about it.
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: SkillsAt,
    },
    /// Show the code of a skill.
    Show {
        /// The skill.
        name: String,
        #[command(flatten)]
        at: SkillsAt,
    },
    /// Find skills by words in their names, descriptions and code.
    Search {
        /// Words, in any order.
        #[arg(required = true)]
        words: Vec<String>,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: SkillsAt,
    },
    /// Say whether skills compile.
    Check {
        /// The skills [default: all].
        names: Vec<String>,
        #[command(flatten)]
        at: SkillsAt,
        #[command(flatten)]
        engine: Engine,
    },
    /// Delete skills; what they were stays in `.history`.
    #[command(aliases = ["delete", "remove"])]
    Rm {
        /// The skills.
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        at: SkillsAt,
    },
}

/// Which directory of skills is meant.
#[derive(Clone, Debug, Args)]
pub struct SkillsAt {
    /// The directory [default: that of `[skills]` in agentkernel.toml].
    #[arg(long, value_name = "DIR", env = "AGENTKERNEL_SKILLS", hide_env = true, value_hint = ValueHint::DirPath)]
    pub skills: Option<PathBuf>,
    #[command(flatten)]
    pub configuration: Configuration,
}
