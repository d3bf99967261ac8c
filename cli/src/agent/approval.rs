//! Changes to files that are kept only when somebody says so.

use std::io::Read;

use agentkernel::agent::{Agent, AgentOutcome};
use agentkernel::{Diff, Grants, Stream, Workspace};

use super::can_ask;
use crate::arguments::{Approve, Talk};
use crate::failure::{Failure, Result};
use crate::input::Input;
use crate::{output, overlay, terminal};

/// Bytes of an answer to the question.
const LONGEST_ANSWER: usize = 100;

/// Who says it, if somebody has to.
#[derive(Clone, Copy, Debug)]
pub struct Approval(Option<Approve>);

impl Approval {
    pub fn new(approve: Option<Approve>, grants: &Grants) -> Result<Self> {
        if approve.is_some() && grants.workspace == Workspace::Temporary {
            return Err(Failure::new("`--approve` has no directory whose changes could be approved")
                .hint("name it with `--workspace DIR`; without one, files are dropped anyway"));
        }
        if approve == Some(Approve::Ask) && !can_ask() {
            return Err(Failure::new("`--approve` asks on a terminal, and there is none").hint(
                "say it beforehand: `--approve=yes` shows changes and keeps them, `--approve=no` shows and drops them",
            ));
        }
        Ok(Approval(approve))
    }

    /// Whether changes are held until something is said of them.
    pub fn holds(self) -> bool {
        self.0.is_some()
    }

    /// Whether the user is asked.
    pub fn asks(self) -> bool {
        self.0 == Some(Approve::Ask)
    }

    /// Shows what a task has changed, and does what is said of it, by `ask` where the user says it; the outcome says whether it is in the directory then.
    pub fn end(
        self,
        agent: &mut Agent,
        outcome: &mut AgentOutcome,
        talk: Talk,
        ask: impl FnOnce() -> bool,
    ) -> Result<()> {
        let Some(approve) = self.0 else { return Ok(()) };
        if outcome.changes.changes.is_empty() {
            return Ok(());
        }
        if approve == Approve::Ask || !talk.quiet {
            show(&outcome.changes);
        }
        let is_kept = match approve {
            Approve::Yes => true,
            Approve::No => false,
            Approve::Ask => ask(),
        };
        if !is_kept {
            agent.discard()?;
        } else if let Err(error) = agent.apply() {
            outcome.changes_problem = Some(error.to_string());
            return Ok(());
        }
        outcome.applied = is_kept;
        if !talk.quiet {
            terminal::remark(match is_kept {
                true => "these changes were applied",
                false => "these changes were dropped",
            });
        }
        Ok(())
    }
}

/// Shows differences on standard error, as a terminal may be shown them.
pub fn show(changes: &Diff) {
    let _ = output::write(Stream::Stderr, overlay::differences(changes, true).as_bytes());
}

/// What the question is.
pub const QUESTION: &str = "apply? [y/N] ";

/// Whether an answer to it is a yes.
pub fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Asks the question of a user at `input`; an interrupt is a no.
pub fn asked(mut input: Input) -> bool {
    let _ = output::write(Stream::Stderr, QUESTION.as_bytes());
    let mut answer = Vec::new();
    let mut letter = [0];
    // Byte by byte: what is typed after the line is for others.
    while answer.len() < LONGEST_ANSWER && input.read(&mut letter).is_ok_and(|read| read == 1) {
        if letter[0] == b'\n' {
            return is_yes(&String::from_utf8_lossy(&answer));
        }
        answer.push(letter[0]);
    }
    let _ = output::write(Stream::Stderr, b"\n");
    false
}
