//! `agentkernel session replay`: the state made anew of what the journal says was run.

use agentkernel::{Context, Ending, Image, Overlay, Turn, Workspace};

use super::journal::{Entry, Journal, Ran, What};
use super::state::{After, Files, Purpose, State, kernel};
use crate::arguments::Talk;
use crate::failure::{Failure, Result};
use crate::store::Store;
use crate::terminal::{self, escaped, say};
use crate::units::show_number_of;

/// Characters of a difference that are shown.
const SHOWN: usize = 80;

pub fn run(store: &Store, name: &str, talk: Talk) -> Result<i32> {
    let mut state = State::open(store, name, Purpose::Replay)?;
    let turns = turns(&state.journal, name)?;
    let context = state.open_context()?;
    state.config.check_beginning(context.as_ref().map(Context::mark))?;
    let kernel = kernel(&state.settings, talk)?;
    let background = state.background(&kernel)?;
    let mut grants = state.settings.grants.clone();
    // The files are there already. What the programs do to them once more goes nowhere.
    grants.workspace = match (&state.files, &state.overlay) {
        (Files::Directory(directory), _) => Workspace::Overlay(Overlay::over(directory)?),
        (Files::Own, _) => Workspace::Overlay(Overlay::over(store.empty()?)?),
    };
    let start = |image: Option<&Image>, import_path: &Option<String>| {
        let mut grants = grants.clone();
        grants.import_paths.extend(import_path.clone());
        let mut builder = kernel.session().grants(grants);
        if let Some(context) = &context {
            builder = builder.context(context.clone());
        }
        if let Some(background) = &background {
            builder = builder.tasks(&background.tasks);
        }
        match image {
            Some(image) => builder.image(image).start(),
            None => builder.start(),
        }
    };
    let mut import_path = turns.first().and_then(|(_, ran)| ran.import_path.clone());
    let mut session = start(state.beginning(&kernel)?.as_ref(), &import_path)?;
    let mut differing = 0;
    for (number, ran) in &turns {
        if ran.import_path != import_path {
            let image = session.snapshot()?;
            import_path.clone_from(&ran.import_path);
            session = start(Some(&image), &import_path)?;
        }
        let arguments = std::iter::once(&ran.file).chain(&ran.arguments);
        let outcome = session
            .run_blocking(Turn::new(ran.code.as_str()).file(ran.file.as_str()).arguments(arguments))?;
        if let Some(difference) = difference(ran, &outcome) {
            differing += 1;
            say!("turn {number}: {}", escaped(&difference));
        }
    }
    session.snapshot()?.save(state.next_image())?;
    let replayed = turns.len() as u64;
    drop(session);
    let context = context.map(|context| context.mark().clone());
    state.commit(After::New, What::Replayed { turns: replayed, differing, context }, None)?;
    if let Some(background) = background {
        background.end(talk);
    }
    if !talk.quiet {
        let files = "files stay as they were";
        terminal::remark(&format!(
            "{} replayed, {differing} of them went another way; {files}",
            show_number_of(replayed, "turn")
        ));
    }
    Ok(i32::from(differing > 0))
}

/// What led to the state from the beginning on.
fn turns(journal: &Journal, name: &str) -> Result<Vec<(u64, Ran)>> {
    if let Some((turn, from)) = journal.restored() {
        return Err(Failure::new(format!(
            "the session `{name}` cannot be replayed: its state came from `{}` at turn {turn}",
            escaped(from)
        ))
        .hint(format!("restore that file once more: `agentkernel session restore {name} FILE`")));
    }
    let kept = |entry: &Entry| match &entry.what {
        What::Turn(ran) if ran.kept => Some((entry.turn, (**ran).clone())),
        _ => None,
    };
    Ok(journal.since_reset().iter().filter_map(kept).collect())
}

/// What is not as it was, if something is not.
fn difference(ran: &Ran, outcome: &agentkernel::Outcome) -> Option<String> {
    let name = outcome.ending.name();
    if name != ran.outcome {
        return Some(format!("it was {}, and is {name}", ran.outcome));
    }
    let told = |what: &str, before: &str, after: &str| {
        // The journal has the beginning of what is long.
        let same = before == after || (ran.truncated && after.starts_with(before));
        (!same).then(|| {
            format!(
                "{what} was `{}`, and is `{}`",
                terminal::line(before, SHOWN),
                terminal::line(after, SHOWN)
            )
        })
    };
    let found = match (&outcome.ending, &ran.exception) {
        (Ending::Raised(after), Some(before)) => told("the exception", &before.r#type, &after.kind),
        (Ending::Completed(value), _) => {
            let after = value.as_ref().map_or("", |value| value.repr.as_str());
            told("the value", ran.value.as_deref().unwrap_or_default(), after)
        }
        (Ending::Exited(code), _) if code & 0xff != ran.exit_code => {
            Some(format!("the exit code was {}, and is {}", ran.exit_code, code & 0xff))
        }
        _ => None,
    };
    found
        .or_else(|| told("its output", &ran.stdout, &String::from_utf8_lossy(&outcome.stdout)))
        .or_else(|| told("its errors", &ran.stderr, &String::from_utf8_lossy(&outcome.stderr)))
}
