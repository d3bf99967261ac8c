//! `--trace FILE`: spans as Chrome's trace events, which Perfetto shows.
//!
//! A span is an event with its beginning and its length, on a track. It stands on its parent's track as long as
//! nothing else runs there, so that bars lie below each other as calls do; what overlaps gets a track of its own. The file
//! is whole JSON after each write: its end is written over by what comes next.

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::failure::{Failure, Result};

const HEAD: &[u8] = b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
const TAIL: &[u8] = b"\n]}\n";

/// Events wait for others this long, or until there are so many bytes of them.
const WAIT: Duration = Duration::from_millis(200);
const BYTES: usize = 64 << 10;

/// The layer, and what ends it. Clones are the same.
#[derive(Clone)]
pub struct Tracks(Arc<Mutex<State>>);

struct State {
    out: Out,
    began: Instant,
    tracks: Vec<Track>,
    open: HashMap<u64, Open>,
}

/// A row of bars.
struct Track {
    /// What its first span is called, without a number.
    kind: String,
    /// Spans that run on it, each within the one before.
    stack: Vec<u64>,
}

/// A span that has not ended.
struct Open {
    name: String,
    since: Duration,
    track: usize,
    fields: Map<String, Value>,
}

impl Tracks {
    /// Writes into `path`, in place of a file that is there, readable by its owner alone.
    pub fn create(path: &Path) -> Result<Self> {
        let out = Out::create(path).map_err(|error| {
            Failure::new(format!("cannot write the trace `{}`: {error}", path.display()))
                .hint("name a file in a directory that is there: `--trace FILE`")
        })?;
        let state = State { out, began: Instant::now(), tracks: Vec::new(), open: HashMap::new() };
        Ok(Tracks(Arc::new(Mutex::new(state))))
    }

    /// Ends what is open, and writes all that waits.
    pub fn finish(&self) -> io::Result<()> {
        let mut state = self.lock();
        let mut open: Vec<u64> = state.open.keys().copied().collect();
        open.sort_unstable();
        for id in open {
            if let Some(span) = state.open.get_mut(&id) {
                span.fields.insert("agentkernel.unfinished".into(), true.into());
            }
            state.close(id);
        }
        state.out.flush();
        state.out.failed.take().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Tracks {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let parent = context.span(id).and_then(|span| Some(span.parent()?.id().into_u64()));
        let mut fields = Fields { name: attributes.metadata().name().to_owned(), fields: Map::new() };
        attributes.record(&mut fields);
        self.lock().open(id.into_u64(), parent, attributes.metadata().name(), fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut state = self.lock();
        let Some(span) = state.open.get_mut(&id.into_u64()) else { return };
        let (name, fields) = (std::mem::take(&mut span.name), std::mem::take(&mut span.fields));
        let mut fields = Fields { name, fields };
        values.record(&mut fields);
        (span.name, span.fields) = (fields.name, fields.fields);
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.lock().close(id.into_u64());
    }
}

impl State {
    fn open(&mut self, id: u64, parent: Option<u64>, kind: &str, fields: Fields) {
        let track = self.track(parent, kind);
        self.tracks[track].stack.push(id);
        let Fields { name, fields } = fields;
        self.open.insert(id, Open { name, since: self.began.elapsed(), track, fields });
    }

    /// Where a span that begins now stands.
    fn track(&mut self, parent: Option<u64>, kind: &str) -> usize {
        let above = parent.and_then(|parent| Some((parent, self.open.get(&parent)?.track)));
        let kind = match above {
            Some((parent, track)) if self.tracks[track].stack.last() == Some(&parent) => return track,
            Some((_, track)) => format!("{} +", self.tracks[track].kind.trim_end_matches(" +")),
            None => kind.to_owned(),
        };
        let free = self.tracks.iter().position(|track| track.kind == kind && track.stack.is_empty());
        free.unwrap_or_else(|| {
            let number = self.tracks.len() + 1;
            let same = self.tracks.iter().filter(|track| track.kind == kind).count() + 1;
            let named = |what: &str, value: Value| {
                json!({"ph": "M", "pid": 1, "tid": number, "name": what, "args": value})
            };
            self.out.event(&named("thread_name", json!({"name": format!("{kind} {same}")})));
            self.out.event(&named("thread_sort_index", json!({"sort_index": number})));
            self.tracks.push(Track { kind, stack: Vec::new() });
            number - 1
        })
    }

    fn close(&mut self, id: u64) {
        let Some(Open { name, since, track, fields }) = self.open.remove(&id) else { return };
        self.tracks[track].stack.retain(|open| *open != id);
        let microseconds = |time: Duration| time.as_nanos() as f64 / 1e3;
        let length = self.began.elapsed().saturating_sub(since);
        self.out.event(&json!({
            "ph": "X",
            "pid": 1,
            "tid": track + 1,
            "ts": microseconds(since),
            "dur": microseconds(length),
            "cat": "agentkernel",
            "name": name,
            "args": fields,
        }));
    }
}

/// What a span says; its name is another one where it says so.
struct Fields {
    name: String,
    fields: Map<String, Value>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("otel.name", Value::String(name)) => self.name = name,
            // It says what the span's name and error say.
            ("otel.kind" | "otel.status_code", _) => {}
            (name, value) => drop(self.fields.insert(name.to_owned(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, format!("{value:?}").into());
    }
}

/// The file.
struct Out {
    file: File,
    /// Where the tail begins.
    end: u64,
    waiting: Vec<u8>,
    flushed: Instant,
    has_events: bool,
    failed: Option<io::Error>,
}

impl Out {
    fn create(path: &Path) -> io::Result<Self> {
        match path.symlink_metadata() {
            Ok(there) if !there.is_file() => {
                return Err(io::Error::other("what is there is no regular file, and is not replaced"));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // A new file put in its place has our mode, and whoever holds the old one open cannot read it.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut file = NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
        file.write_all(&[HEAD, TAIL].concat())?;
        let file = file.persist(path).map_err(|error| error.error)?;
        let (end, waiting, flushed) = (HEAD.len() as u64, Vec::new(), Instant::now());
        Ok(Out { file, end, waiting, flushed, has_events: false, failed: None })
    }

    fn event(&mut self, event: &Value) {
        if self.failed.is_some() {
            return;
        }
        if std::mem::replace(&mut self.has_events, true) {
            self.waiting.extend_from_slice(b",\n");
        }
        // A value of ours has a JSON form.
        let _ = serde_json::to_writer(&mut self.waiting, event);
        if self.waiting.len() >= BYTES || self.flushed.elapsed() >= WAIT {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.flushed = Instant::now();
        if self.waiting.is_empty() || self.failed.is_some() {
            return;
        }
        let length = self.waiting.len() as u64;
        self.waiting.extend_from_slice(TAIL);
        let written =
            self.file.seek(SeekFrom::Start(self.end)).and_then(|_| self.file.write_all(&self.waiting));
        self.failed = written.err();
        self.waiting.clear();
        self.end += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Vec<Value> {
        let whole: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        whole["traceEvents"].as_array().unwrap().clone()
    }

    fn fields(name: &str) -> Fields {
        Fields { name: name.to_owned(), fields: Map::new() }
    }

    #[test]
    fn what_overlaps_stands_on_tracks_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace.json");
        let tracks = Tracks::create(&path).unwrap();
        assert!(read(&path).is_empty());
        {
            let mut state = tracks.lock();
            state.open(1, None, "session", fields("session"));
            state.open(2, Some(1), "turn", fields("turn"));
            // Two at the same time, and something within each.
            state.open(3, Some(2), "chat", fields("chat"));
            state.open(4, Some(2), "chat", fields("chat"));
            state.open(5, Some(4), "within", fields("within"));
            let places: Vec<usize> = (1..=5).map(|id| state.open[&id].track).collect();
            assert_eq!(places, [0, 0, 0, 1, 1]);
            (3..=5).for_each(|id| state.close(id));
            // The second track is free again; another session has one of its own.
            state.open(6, Some(2), "chat", fields("chat"));
            state.open(7, Some(2), "chat", fields("chat"));
            state.open(8, None, "session", fields("session"));
            assert_eq!([6, 7, 8].map(|id| state.open[&id].track), [0, 1, 2]);
            state.out.flush();
        }
        // Whole in the middle too.
        let names = |events: &[Value], what: &str| -> Vec<String> {
            let of = events.iter().filter(|event| event["name"] == "thread_name" && event["ph"] == "M");
            assert_eq!(what, "thread_name");
            of.map(|event| event["args"]["name"].as_str().unwrap().to_owned()).collect()
        };
        let events = read(&path);
        assert_eq!(names(&events, "thread_name"), ["session 1", "session + 1", "session 2"]);
        assert_eq!(events.iter().filter(|event| event["ph"] == "X").count(), 3);
        tracks.finish().unwrap();
        let events = read(&path);
        let spans: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
        assert_eq!(spans.len(), 8);
        assert_eq!(spans.iter().filter(|span| span["args"]["agentkernel.unfinished"] == true).count(), 5);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_there_is_replaced_and_not_written_to() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let directory = tempfile::tempdir().unwrap();
        let [old, other, link] = ["old", "other", "link"].map(|name| directory.path().join(name));
        std::fs::write(&old, "before").unwrap();
        std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o666)).unwrap();
        std::fs::hard_link(&old, &other).unwrap();
        Tracks::create(&old).unwrap().finish().unwrap();
        assert!(read(&old).is_empty());
        assert_eq!(std::fs::metadata(&old).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "before");
        symlink(&other, &link).unwrap();
        for refused in [&link, directory.path(), Path::new("/dev/null")] {
            assert!(Tracks::create(refused).is_err(), "{}", refused.display());
        }
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "before");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_that_is_full_is_told_at_the_end() {
        let tracks = Tracks(Arc::new(Mutex::new(State {
            out: Out {
                file: File::options().write(true).open("/dev/full").unwrap(),
                end: 0,
                waiting: Vec::new(),
                flushed: Instant::now(),
                has_events: false,
                failed: None,
            },
            began: Instant::now(),
            tracks: Vec::new(),
            open: HashMap::new(),
        })));
        tracks.lock().open(1, None, "session", fields("session"));
        assert!(tracks.finish().is_err());
    }
}
