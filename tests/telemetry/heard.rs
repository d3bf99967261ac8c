//! A subscriber that remembers spans. There is one a process, so each test looks at what lies below a span of its own.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Span, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, registry};

/// A span as it was told.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    id: u64,
    parent: Option<u64>,
    pub name: String,
    pub fields: BTreeMap<String, String>,
    pub closed: bool,
    pub follows: Vec<u64>,
}

impl Heard {
    pub fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }
}

type All = Arc<Mutex<Vec<Heard>>>;

#[derive(Clone, Default)]
struct Remember(All);

impl Remember {
    fn with(&self, id: &Id, change: impl FnOnce(&mut Heard)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Numbers are used again.
        if let Some(span) = all.iter_mut().rev().find(|span| span.id == id.into_u64() && !span.closed) {
            change(span);
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Remember {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let parent = context.span(id).and_then(|span| Some(span.parent()?.id()));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // An index is never used again, and says the same.
        let parent = parent.and_then(|parent| {
            all.iter().rposition(|span| span.id == parent.into_u64()).map(|index| index as u64)
        });
        let name = attributes.metadata().name().to_owned();
        let mut span = Heard { id: id.into_u64(), parent, name, ..Heard::default() };
        attributes.record(&mut Fields(&mut span.fields));
        all.push(span);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.with(id, |span| values.record(&mut Fields(&mut span.fields)));
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, _: Context<'_, S>) {
        self.with(id, |span| span.follows.push(follows.into_u64()));
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.with(&id, |span| span.closed = true);
    }
}

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

fn all() -> All {
    static ALL: Once = Once::new();
    static REMEMBER: Mutex<Option<All>> = Mutex::new(None);
    ALL.call_once(|| {
        let remember = Remember::default();
        *REMEMBER.lock().unwrap() = Some(Arc::clone(&remember.0));
        tracing::subscriber::set_global_default(registry().with(remember)).unwrap();
    });
    REMEMBER.lock().unwrap().clone().unwrap()
}

/// What lies below the span in which `work` is done, each with the names of the spans above it.
pub fn below(work: impl FnOnce(&Span)) -> Vec<(String, Heard)> {
    let all = all();
    let span = tracing::info_span!("test");
    let id = span.id().unwrap().into_u64();
    let root = all.lock().unwrap().iter().rposition(|span| span.id == id).unwrap() as u64;
    span.in_scope(|| work(&span));
    let all = all.lock().unwrap();
    let path = |span: &Heard| -> Option<String> {
        let mut names = vec![span.name.clone()];
        let mut at = span.parent?;
        while at != root {
            let above = &all[at as usize];
            names.push(above.name.clone());
            at = above.parent?;
        }
        names.reverse();
        Some(names.join("/"))
    };
    all.iter().filter_map(|span| Some((path(span)?, span.clone()))).collect()
}

/// The spans at a path.
pub fn at<'a>(heard: &'a [(String, Heard)], path: &str) -> Vec<&'a Heard> {
    heard.iter().filter(|(known, _)| known == path).map(|(_, span)| span).collect()
}

/// The one span at a path.
#[track_caller]
pub fn one<'a>(heard: &'a [(String, Heard)], path: &str) -> &'a Heard {
    match at(heard, path)[..] {
        [span] => span,
        _ => panic!("not one `{path}` in {:?}", heard.iter().map(|(path, _)| path).collect::<Vec<_>>()),
    }
}
