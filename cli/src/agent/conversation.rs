//! A conversation: a line for each task, until the user leaves.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use agentkernel::agent::{Agent, AgentOutcome, AgentTask};
use agentkernel::{Grants, Kernel, Workspace};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};

use super::approval::{self, Approval, QUESTION, is_yes};
use super::left::Left;
use super::narrator::Narrator;
use super::{exit_code, keep, report};
use crate::arguments::Talk;
use crate::failure::{Failure, Result};
use crate::output::{CLOSED, unwritten};
use crate::repl::is_closed;
use crate::signals::{self, Signal};
use crate::terminal::{self, say};
use crate::{answer, files, overlay};

const HISTORY_LINES: usize = 10_000;

const HELP: &str = "A line is a task. Beside that:
  /run CODE   run Python in the agent's session
  /tools      list the tools
  /diff       show changes to files that are not applied
  /apply      take them over into the directory
  /discard    drop them
  /quit       leave, as Ctrl-D does
Ctrl-C stops a task and keeps the session.";

/// Reads tasks and does them; gives the exit code. What is left of changes at the end is told where they were to
/// a directory of the user's.
pub fn hold(
    agent: &mut Agent,
    kernel: &Kernel,
    grants: &Grants,
    approval: Approval,
    narrator: &Narrator,
    talk: Talk,
) -> Result<i32> {
    let working = Arc::new(AtomicBool::new(false));
    let (works, interrupter) = (Arc::clone(&working), agent.interrupter());
    let left = Left::default();
    let told = left.clone();
    // At a prompt Ctrl-C is a key; one that comes between a task and the prompt is not meant for this process.
    let is_terminal = std::io::stdin().is_terminal();
    signals::listen(move |signal| match signal {
        Signal::Interrupt if is_terminal || works.load(Ordering::SeqCst) => interrupter.interrupt(),
        signal => {
            told.tell();
            crate::exit(signal.exit_code())
        }
    })
    .map_err(|error| Failure::new(format!("cannot listen for signals: {error}")))?;
    let config = Config::builder()
        .auto_add_history(true)
        .max_history_size(HISTORY_LINES)
        .and_then(|config| config.history_ignore_dups(true))
        .map_err(cannot_edit)?
        .build();
    let mut editor: Editor<(), FileHistory> = Editor::with_config(config).map_err(cannot_edit)?;
    let history = files::state().map(|directory| directory.join("agent-history"));
    if let Some(file) = &history {
        // There is none the first time.
        let _ = editor.load_history(file);
    }
    if crate::run::interactive() && !talk.quiet {
        say!("AgentKernel {}. A line is a task; `/help` tells the rest.", env!("CARGO_PKG_VERSION"));
    }
    let mut held = Held { agent, kernel, approval, narrator, talk, working, code: 0, grants, left };
    let code = held.converse(&mut editor);
    if grants.workspace != Workspace::Temporary {
        held.leave();
    }
    let code = code?;
    if let Some(file) = &history {
        // A history that cannot be kept is no reason to fail.
        let _ = file.parent().map(std::fs::create_dir_all);
        let _ = editor.save_history(file);
    }
    Ok(code)
}

struct Held<'a> {
    agent: &'a mut Agent,
    kernel: &'a Kernel,
    approval: Approval,
    narrator: &'a Narrator,
    talk: Talk,
    /// Whether a task goes on.
    working: Arc<AtomicBool>,
    /// Of the last task.
    code: i32,
    grants: &'a Grants,
    left: Left,
}

impl Held<'_> {
    fn converse(&mut self, editor: &mut Editor<(), FileHistory>) -> Result<i32> {
        loop {
            let line = match editor.readline("> ") {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => break,
                Err(error) if is_closed(&error) => return Ok(CLOSED),
                Err(error) => return Err(cannot_edit(error)),
            };
            let line = line.trim();
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            match word {
                "" => {}
                "/quit" | "/exit" => break,
                "/help" => say!("{HELP}"),
                "/tools" => self.tools(),
                "/diff" => self.diff(),
                "/apply" => self.apply(),
                "/discard" => match self.agent.discard() {
                    Ok(()) => {
                        self.left.nothing();
                        self.remark("changes that were not applied are dropped");
                    }
                    Err(error) => self.complain(error),
                },
                "/run" if rest.trim().is_empty() => {
                    terminal::error("there is no code to run", Some("write it behind `/run`"));
                }
                "/run" => {
                    if let Some(code) = self.work(AgentTask::code(rest), editor)? {
                        return Ok(code);
                    }
                }
                command if command.starts_with('/') => {
                    let command = terminal::escaped(command);
                    terminal::error(&format!("`{command}` is no command"), Some("`/help` lists them"));
                }
                _ => {
                    if let Some(code) = self.work(AgentTask::text(line), editor)? {
                        return Ok(code);
                    }
                }
            }
        }
        Ok(if std::io::stdin().is_terminal() { 0 } else { self.code })
    }

    /// Says what is lost with the agent; what was to be applied is kept.
    fn leave(&mut self) {
        let problem = self.left.problem();
        match (self.agent.diff(), problem) {
            (Ok(diff), _) if diff.changes.is_empty() => self.left.nothing(),
            (_, Some(problem)) => {
                // Once more: something may have been changed since.
                self.keep(problem);
                self.left.tell();
            }
            (Ok(_), None) => self.remark("changes that were not applied are dropped"),
            (Err(error), None) => self.complain(error),
        }
    }

    /// Keeps what could not be applied, in place of what was kept before: the process may end at any moment.
    fn keep(&mut self, problem: String) {
        let Held { agent, grants, left, .. } = self;
        left.replace(problem, |why| keep(agent, grants, why));
    }

    /// Does one task; gives an exit code if nobody reads what comes of it.
    fn work(&mut self, task: AgentTask, editor: &mut Editor<(), FileHistory>) -> Result<Option<i32>> {
        self.working.store(true, Ordering::SeqCst);
        let outcome = self.agent.execute_task_blocking(task);
        self.working.store(false, Ordering::SeqCst);
        self.narrator.settle();
        let mut outcome = match outcome {
            Ok(outcome) => outcome,
            // The next task may do better, and changes are still held.
            Err(error) => {
                // Where they were to be applied.
                if !self.approval.holds() && self.agent.diff().map_or(true, |diff| !diff.changes.is_empty()) {
                    self.keep(error.to_string());
                }
                self.complain(error);
                return Ok(None);
            }
        };
        let printed = answer::print(outcome.answer.as_deref());
        self.code = exit_code(&outcome);
        // What nobody reads is no reason to drop what was approved beforehand.
        if printed.is_ok() || !self.approval.asks() {
            self.approve(&mut outcome, editor)?;
        }
        report::complain_of_changes(&outcome);
        report::complain(&outcome);
        if let Err(error) = printed {
            return unwritten(&error).map(Some);
        }
        if !self.talk.quiet {
            report::remarks(&outcome, self.approval.holds());
        }
        if outcome.changes_problem.is_some() {
            self.code = exit_code(&outcome);
        }
        if let Some(problem) = outcome.changes_problem {
            self.keep(problem);
        } else if outcome.applied {
            self.left.nothing();
        }
        Ok(None)
    }

    fn approve(&mut self, outcome: &mut AgentOutcome, editor: &mut Editor<(), FileHistory>) -> Result<()> {
        if !self.approval.asks() {
            if let Err(failure) = self.approval.end(self.agent, outcome, self.talk, || false) {
                self.complain(failure);
            }
            return Ok(());
        }
        if outcome.changes.changes.is_empty() {
            return Ok(());
        }
        approval::show(&outcome.changes);
        match editor.readline(QUESTION) {
            Ok(answer) if is_yes(&answer) => self.apply(),
            Ok(_) | Err(ReadlineError::Interrupted | ReadlineError::Eof) => {
                self.remark("these changes are held; `/apply` takes them over, `/discard` drops them");
            }
            Err(error) => return Err(cannot_edit(error)),
        }
        Ok(())
    }

    fn tools(&self) {
        for tool in self.kernel.tools() {
            say!("{:<16} {}", tool.name, terminal::line(&tool.summary, 100));
        }
    }

    fn diff(&mut self) {
        match self.agent.diff() {
            Ok(diff) if diff.changes.is_empty() => terminal::remark("nothing differs"),
            Ok(diff) => say!("{}", overlay::differences(&diff, true).trim_end_matches('\n')),
            Err(error) => self.complain(error),
        }
    }

    fn apply(&mut self) {
        match self.agent.apply() {
            Ok(()) => {
                self.left.nothing();
                self.remark("changes were applied");
            }
            Err(error) => {
                self.keep(error.to_string());
                self.complain(error);
            }
        }
    }

    /// Says what went wrong; the conversation goes on.
    fn complain(&mut self, error: impl Into<Failure>) {
        let error = error.into();
        terminal::error(&terminal::escaped(&error.message), error.hint.as_deref());
        self.code = 1;
    }

    fn remark(&self, message: &str) {
        if !self.talk.quiet {
            terminal::remark(message);
        }
    }
}

fn cannot_edit(error: ReadlineError) -> Failure {
    Failure::new(format!("cannot read from the terminal: {error}"))
}
