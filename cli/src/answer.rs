//! Answers of models that write programs, as the command line tells them: questions and tasks alike.

use std::io::{self, IsTerminal};
use std::time::Duration;

use agentkernel::Stream;
use agentkernel::rlm::RunEnding;

use crate::signals::Signal;
use crate::{hints, output, terminal};

/// How long a block of code may run where nobody says: it waits for models and for children.
pub const BLOCK_TIMEOUT: Duration = Duration::from_secs(600);

/// The exit code of an answer that is only the best that was known at a limit.
const BEST_EFFORT: i32 = 3;

/// How long programs that are stopped may take to notice.
const STOPPING: Duration = Duration::from_secs(2);

/// Waits for programs that were stopped in the middle: they take their workspaces with them when they have noticed,
/// for which this process must live.
pub fn wait_for(mut holds: impl FnMut() -> bool) {
    let waited = std::time::Instant::now();
    while holds() && waited.elapsed() < STOPPING {
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn exit_code(ending: RunEnding, has_answer: bool) -> i32 {
    match (ending, has_answer) {
        (RunEnding::Interrupted, _) => Signal::Interrupt.exit_code(),
        (RunEnding::Answered, true) => 0,
        (RunEnding::Limit | RunEnding::Failed, true) => BEST_EFFORT,
        _ => 1,
    }
}

/// Prints the answer. A terminal would obey what is in it.
pub fn print(answer: Option<&str>) -> io::Result<()> {
    let Some(answer) = answer else { return Ok(()) };
    let mut text = match io::stdout().is_terminal() {
        true => terminal::escaped(answer),
        false => answer.to_owned(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    output::write(Stream::Stdout, text.as_bytes())
}

/// Says why it has not ended with an answer, if it has not. `steps` is the flag that gives more of them.
pub fn complain(ending: RunEnding, has_answer: bool, message: Option<&str>, steps: &str) {
    if ending == RunEnding::Answered {
        return;
    }
    let reason = terminal::escaped(message.unwrap_or("nobody knows why"));
    let hint = match ending {
        RunEnding::Limit if reason.contains("steps were made") => Some(format!("give more with `{steps}`")),
        RunEnding::Limit => hints::more(&reason),
        _ => None,
    };
    let what = match has_answer {
        true => "this is only the best that was known",
        false => "there is no answer",
    };
    terminal::error(&format!("{what}: {reason}"), hint.as_deref());
}
