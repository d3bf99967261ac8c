//! Spans of the host library, for people (`--trace`) and for collectors (`--otlp`). What is not asked for is not there: no
//! layer, no thread.

mod file;
#[cfg(feature = "otlp")]
mod otlp;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterFn, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, registry};

use crate::arguments::{Configuration, Talk, Telemetry};
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::terminal;

/// The targets of the host library's spans.
const TARGET: &str = "agentkernel";

/// The flags of a command, and where it looks for the configuration if it does.
pub struct Flags<'a> {
    pub telemetry: &'a Telemetry,
    pub configuration: Option<&'a Configuration>,
}

/// What was started, to be ended with the process.
struct Started {
    trace: Option<(PathBuf, file::Tracks)>,
    #[cfg(feature = "otlp")]
    otlp: Option<otlp::Collector>,
    content: bool,
}

static STARTED: OnceLock<Mutex<Started>> = OnceLock::new();

/// What is asked for.
#[derive(Default)]
struct Asked {
    trace: Option<PathBuf>,
    otlp: Option<String>,
    /// Whether the file, and not who started this process, says where spans are sent.
    #[cfg(feature = "otlp")]
    otlp_of_file: bool,
    content: bool,
}

impl Asked {
    fn of(flags: &Flags<'_>) -> Result<Self> {
        let own = flags.telemetry;
        let config = flags.configuration.map(Config::of).transpose()?.unwrap_or_default();
        let base = &config.directory;
        let table = config.telemetry.unwrap_or_default();
        let asked = Asked {
            trace: own.trace.clone().or_else(|| table.trace.as_ref().map(|file| base.join(file))),
            otlp: own.otlp.clone().or_else(|| table.otlp.clone()),
            #[cfg(feature = "otlp")]
            otlp_of_file: own.otlp.is_none() && table.otlp.is_some(),
            content: own.trace_content || table.content,
        };
        let ambient = std::env::var_os("AGENTKERNEL_TRACE_CONTENT").is_some();
        if own.trace_content && !ambient && asked.trace.is_none() && asked.otlp.is_none() {
            return Err(Failure::new("`--trace-content` has no effect: nothing is told to anybody")
                .hint("give `--trace FILE` or `--otlp URL` as well"));
        }
        Ok(asked)
    }
}

/// Refuses a collector of the configuration to which nothing can be sent.
pub fn check(_named: &str) -> Result<()> {
    #[cfg(feature = "otlp")]
    otlp::endpoint(_named, true)?;
    Ok(())
}

/// A layer that spans are passed on to.
type Listener = Box<dyn Layer<Registry> + Send + Sync>;

/// Passes warnings on to standard error, and spans to where they are asked for.
pub fn start(talk: Talk, flags: Option<Flags<'_>>) -> Result<()> {
    let asked = flags.as_ref().map(Asked::of).transpose()?.unwrap_or_default();
    if asked.trace.is_none() && asked.otlp.is_none() {
        registry().with(terminal::listener(talk)).init();
        return Ok(());
    }
    let mut listeners: Vec<Listener> = Vec::new();
    let trace = match asked.trace {
        Some(file) => {
            let tracks = file::Tracks::create(&file)?;
            listeners.push(tracks.clone().with_filter(spans()).boxed());
            Some((file, tracks))
        }
        None => None,
    };
    #[cfg(feature = "otlp")]
    let otlp = match &asked.otlp {
        Some(url) => {
            let (layer, collector) = otlp::start(url, asked.otlp_of_file)?;
            listeners.push(layer.with_filter(spans()).boxed());
            Some(collector)
        }
        None => None,
    };
    #[cfg(not(feature = "otlp"))]
    if asked.otlp.is_some() {
        return Err(Failure::new("this program was built without `--otlp`")
            .hint("build it with the feature `otlp`, which is a default one"));
    }
    registry().with(listeners).with(terminal::listener(talk)).init();
    let started = Started {
        trace,
        #[cfg(feature = "otlp")]
        otlp,
        content: asked.content,
    };
    let _ = STARTED.set(Mutex::new(started));
    Ok(())
}

/// Whether spans hold texts.
pub fn content() -> bool {
    let started = STARTED.get().map(|started| started.lock().unwrap_or_else(PoisonError::into_inner));
    started.is_some_and(|started| started.content)
}

/// Passes on what is left, within a time limit. What goes wrong is a warning: the run itself is over.
pub fn finish() {
    let Some(started) = STARTED.get() else { return };
    let mut started = started.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((file, tracks)) = started.trace.take()
        && let Err(error) = tracks.finish()
    {
        unwritten(&file, &error);
    }
    #[cfg(feature = "otlp")]
    if let Some(collector) = started.otlp.take()
        && let Err(problem) = collector.finish()
    {
        terminal::warning(&problem);
    }
}

fn unwritten(file: &Path, error: &std::io::Error) {
    terminal::warning(&format!("the trace `{}` is not whole: {error}", file.display()));
}

/// What is passed on: spans of the host library. Its messages are for who reads standard error, and may quote programs.
fn spans() -> FilterFn {
    let is_told: fn(&Metadata<'_>) -> bool = |metadata| metadata.is_span() && metadata.target() == TARGET;
    filter_fn(is_told).with_max_level_hint(LevelFilter::INFO)
}
