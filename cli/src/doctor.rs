//! `agentkernel doctor`: what this machine supports, each lack with a remedy.

use std::path::Path;
use std::time::Instant;

use agentkernel::task::Tasks;
use agentkernel::{CompilationCache, Ending, Kernel, Skills};

use crate::arguments::{Arguments, Configuration, Doctor, Lasting, Talk};
use crate::config::Config;
use crate::failure::Result;
use crate::llm::{self, DotEnv, PROVIDER_VARIABLES};
use crate::repetition::Again;
use crate::settings::Settings;
use crate::terminal::{self, say};
use crate::units::{show_bytes, show_duration, show_number_of};
use crate::{files, task};

/// One finding: how well, what, and what to do about it.
struct Finding {
    state: State,
    what: String,
    remedy: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// It works, and could be faster or safer.
    Fair,
    Bad,
}

fn good(what: impl Into<String>) -> Finding {
    Finding { state: State::Good, what: what.into(), remedy: None }
}

fn fair(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { state: State::Fair, what: what.into(), remedy: Some(remedy.into()) }
}

fn bad(what: impl Into<String>, remedy: Option<&str>) -> Finding {
    Finding { state: State::Bad, what: what.into(), remedy: remedy.map(str::to_owned) }
}

pub fn run(arguments: Doctor) -> Result<i32> {
    use clap::CommandFactory;
    let version = Arguments::command().get_version().unwrap_or_default().to_owned();
    let mut findings = vec![good(format!("agentkernel {version}"))];
    providers(&arguments.sandbox.configuration, &mut findings);
    match Settings::with_models(arguments.sandbox, &arguments.models, &Again::default()) {
        Ok(settings) => {
            examine(&settings, &mut findings);
            stores(&settings, &arguments.lasting, &mut findings);
        }
        Err(failure) => findings.push(bad(failure.message, failure.hint.as_deref())),
    }
    let mut worst = State::Good;
    for Finding { state, what, remedy } in findings {
        let mark = match state {
            State::Good => "ok  ",
            State::Fair => "note",
            State::Bad => "FAIL",
        };
        say!("{mark}  {what}");
        if let Some(remedy) = remedy {
            say!("      {remedy}");
        }
        if worst != State::Bad && state != State::Good {
            worst = state;
        }
    }
    Ok(i32::from(worst == State::Bad))
}

fn examine(settings: &Settings, findings: &mut Vec<Finding>) {
    findings.push(match &settings.config_file {
        Some(file) => good(format!("configuration: `{}`", file.display())),
        None => good("configuration: no agentkernel.toml here or above; flags and defaults"),
    });
    findings.push(good(match &settings.llm {
        Some(granted) => format!("model: {}", granted.summary()),
        None => "model: none, so programs cannot ask one; `--model` grants one".to_owned(),
    }));
    let start = Instant::now();
    let kernel = match settings.kernel().on_progress(terminal::progress(Talk::default())).build() {
        Ok(kernel) => kernel,
        Err(error) => return findings.push(bad(format!("interpreter: {error}"), error.remedy())),
    };
    let info = kernel.info();
    let loaded = start.elapsed();
    findings.push(good(format!("interpreter: CPython {}, ready in {}", info.cpython, show_duration(loaded))));
    findings.push(if info.host_owned_memory {
        good(format!(
            "memory: sessions are copy-on-write views of one image ({}), stopped by a safepoint page",
            show_bytes(info.memory_at_start_bytes)
        ))
    } else {
        let remedy = match (cfg!(target_os = "linux"), settings.grants.limits.fuel.is_some()) {
            (false, _) => "the fast way needs Linux",
            (true, true) => "fuel asks for it; without `--fuel` the fast way serves",
            (true, false) => "`--portable` asks for it; without it the fast way serves",
        };
        fair("memory: wasmtime's own, stopped by epochs: programs run about a quarter slower", remedy)
    });
    findings.push(if info.page_scan {
        good("recycling: the system tells which pages changed (PAGEMAP_SCAN)")
    } else {
        fair(
            "recycling: the system cannot tell which pages changed, so starts are slower",
            "Linux 6.7 can (PAGEMAP_SCAN)",
        )
    });
    cache(&kernel, findings);
    session(&kernel, settings, findings);
}

/// What outlives runs, each with where it is.
fn stores(settings: &Settings, lasting: &Lasting, findings: &mut Vec<Finding>) {
    let named = |file: Option<&Path>, what: &str, remedy: &str| match file {
        None => good(format!("{what}: none; {remedy}")),
        Some(path) if path.exists() => good(format!("{what}: `{}`", path.display())),
        Some(path) => good(format!("{what}: `{}`, made when it is needed", path.display())),
    };
    let state = lasting.state.as_deref().or(settings.configured.state());
    findings.push(named(state, "state", "`--state FILE` grants some"));
    let own = lasting.skills.skills_write.as_deref().or(lasting.skills.skills.as_deref());
    findings.push(match own.or(settings.configured.skills()) {
        Some(directory) => match Skills::open(directory).and_then(|skills| skills.list()) {
            Ok(skills) => good(format!(
                "skills: `{}`, {}",
                directory.display(),
                show_number_of(skills.len() as u64, "skill")
            )),
            Err(error) => bad(format!("skills: {error}"), error.remedy()),
        },
        None => good("skills: none; `--skills DIR` grants some"),
    });
    let tasks = task::place(&settings.tasks);
    findings.push(match &tasks {
        Some(file) if file.exists() => match Tasks::open(file) {
            Ok(tasks) => {
                let left = task::unfinished(&tasks).map_or_else(
                    |failure| failure.message,
                    |left| format!("{} not ended", show_number_of(left, "task")),
                );
                good(format!("tasks: `{}`, {left}", file.display()))
            }
            Err(error) => bad(format!("tasks: {error}"), error.remedy()),
        },
        Some(file) => good(format!("tasks: `{}`, made when it is needed", file.display())),
        None => fair("tasks: no place for them", "set HOME, or name a file with AGENTKERNEL_TASK_STORE"),
    });
    findings.push(match files::sessions() {
        Some(directory) => {
            let number = kept(&directory, "session.json");
            good(format!("sessions: `{}`, {}", directory.display(), show_number_of(number, "session")))
        }
        None => {
            fair("sessions: no place for them", "set HOME, or name a directory with AGENTKERNEL_DATA_DIR")
        }
    });
    if let Some(directory) = files::data().map(|data| data.join(files::CHANGES))
        && let number @ 1.. = kept(&directory, "changes.json")
    {
        let number = show_number_of(number, "set");
        findings.push(fair(
            format!("changes: `{}`, {number} that could not be applied", directory.display()),
            "`agentkernel changes list` lists them",
        ));
    }
}

/// How many directories have a file.
fn kept(directory: &Path, file: &str) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().join(file).is_file()).count() as u64
}

/// Which variables of providers are set, by their names alone.
fn providers(configuration: &Configuration, findings: &mut Vec<Finding>) {
    let set = |is_set: &dyn Fn(&str) -> bool| -> Vec<&str> {
        PROVIDER_VARIABLES.iter().copied().filter(|name| is_set(name)).collect()
    };
    let own = set(&|name| llm::own(name).is_some());
    let mut places = Vec::new();
    if !own.is_empty() {
        places.push(format!("{} in the environment", own.join(", ")));
    }
    match Config::of(configuration).and_then(|config| DotEnv::load(&config, configuration.no_config)) {
        Ok(dot_env) => {
            let written = set(&|name| dot_env.has(name));
            if let Some(file) = dot_env.file.filter(|_| !written.is_empty()) {
                places.push(format!("{} in `{}`", written.join(", "), file.display()));
            }
        }
        // Told with the settings, or of no effect without a model.
        Err(failure) => findings.push(fair(failure.message, failure.hint.unwrap_or_default())),
    }
    findings.push(match places.is_empty() {
        true => good("providers of models: no variable of one is set"),
        false => good(format!("providers of models: {}", places.join("; "))),
    });
}

fn cache(kernel: &Kernel, findings: &mut Vec<Finding>) {
    let Some(directory) = kernel.info().cache else {
        return findings.push(fair(
            "cache: none, so every start compiles Python",
            "set HOME, or name a directory with `--cache-dir`",
        ));
    };
    let shown = directory.display();
    findings.push(match CompilationCache::new(Some(directory.clone())).entries() {
        Err(error) => fair(format!("cache: {error}"), error.remedy().unwrap_or_default()),
        Ok(entries) if entries.is_empty() => fair(
            format!("cache: `{shown}` cannot be written, so every start compiles Python"),
            "make it writable, or name another with `--cache-dir`",
        ),
        Ok(entries) => match entries.iter().find(|entry| entry.problem.is_some()) {
            Some(entry) => fair(
                format!("cache: `{shown}/{}`: {}", entry.key, entry.problem.as_deref().unwrap_or_default()),
                "it is not used; remove it with `agentkernel cache clear`",
            ),
            None => {
                let bytes = entries.iter().map(|entry| entry.bytes).sum();
                good(format!("cache: `{shown}`, {} in {} entries", show_bytes(bytes), entries.len()))
            }
        },
    });
}

fn session(kernel: &Kernel, settings: &Settings, findings: &mut Vec<Finding>) {
    let start = Instant::now();
    let started = kernel.session().grants(settings.grants.clone()).start();
    let outcome = started.and_then(|mut session| session.run_blocking("1 + 1"));
    let elapsed = show_duration(start.elapsed());
    findings.push(match outcome {
        Ok(outcome) => match outcome.ending {
            Ending::Completed(Some(value)) if value.repr == "2" => {
                good(format!("session: started and ran `1 + 1` in {elapsed}"))
            }
            other => bad(
                format!("session: `1 + 1` ended in {}", other.name()),
                Some("run `agentkernel cache clear`"),
            ),
        },
        Err(error) => bad(format!("session: {error}"), error.remedy()),
    });
    let limits = &settings.grants.limits;
    findings.push(good(format!(
        "limits: {} a turn, {} memory, {} output, {} written, {} open files",
        limits.timeout.map_or("any time".to_owned(), show_duration),
        show_bytes(limits.memory_bytes),
        show_bytes(limits.output_bytes),
        show_bytes(limits.write_bytes),
        limits.open_files,
    )));
}
