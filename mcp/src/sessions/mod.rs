//! The sessions that a connection has, or that all connections of a server have.

mod kept;
mod slot;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agentkernel::Limits;
use rmcp::RoleServer;
use rmcp::service::RequestContext;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::kept::{Head, Owner, Store};
pub(crate) use self::slot::{Place, Slot};
use crate::refusal::{Refusal, blocking};
use crate::server::Shared;

/// The session of calls that name none.
pub(crate) const DEFAULT: &str = "default";

/// Characters of a name.
const LONGEST: usize = 64;

/// Sessions by their names.
#[derive(Default)]
pub(crate) struct Table(Mutex<State>);

#[derive(Default)]
struct State {
    slots: BTreeMap<String, Arc<Slot>>,
    /// Names of sessions that are being made or removed.
    reserved: BTreeSet<String>,
}

/// What is known of a session.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SessionInfo {
    pub name: String,
    /// Turns that it has run.
    pub turns: u64,
    /// Whether a turn runs at the moment.
    pub running: bool,
    /// The time since it was used last.
    pub idle_seconds: f64,
    /// What a turn of it may take, null if there is no limit.
    pub timeout_seconds: Option<f64>,
    /// What its interpreter may take.
    pub memory_bytes: u64,
}

/// Limits of a session that are narrower than the server's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Narrowed {
    pub timeout_seconds: Option<f64>,
    pub memory_bytes: Option<u64>,
}

impl Narrowed {
    /// The limits, with these in place of the wider ones.
    pub fn apply(&self, limits: &Limits) -> Result<Limits, Refusal> {
        let mut limits = limits.clone();
        if let Some(seconds) = self.timeout_seconds {
            limits.timeout = Some(narrower_timeout(seconds, limits.timeout)?);
        }
        if let Some(bytes) = self.memory_bytes {
            if bytes > limits.memory_bytes {
                return Err(wider(
                    format!("{bytes} bytes of memory"),
                    format!("{} bytes", limits.memory_bytes),
                ));
            }
            limits.memory_bytes = bytes;
        }
        Ok(limits)
    }
}

impl Narrowed {
    /// The limits of a session that was made when the server's were others.
    fn within(&self, limits: &Limits) -> Limits {
        let mut within = limits.clone();
        if let Some(timeout) =
            self.timeout_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        {
            within.timeout = Some(limits.timeout.map_or(timeout, |limit| limit.min(timeout)));
        }
        within.memory_bytes =
            self.memory_bytes.map_or(limits.memory_bytes, |bytes| limits.memory_bytes.min(bytes));
        within
    }
}

/// A time limit within the server's.
pub(crate) fn narrower_timeout(seconds: f64, limit: Option<Duration>) -> Result<Duration, Refusal> {
    let timeout = Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero());
    let timeout = timeout.ok_or_else(|| {
        Refusal::new(format!("`{seconds}` is no time limit")).hint("give seconds, more than 0: 30, 0.5")
    })?;
    match limit {
        Some(limit) if timeout > limit => Err(wider(format!("{timeout:?}"), format!("{limit:?}"))),
        _ => Ok(timeout),
    }
}

fn wider(asked: String, granted: String) -> Refusal {
    Refusal::new(format!("{asked} is more than the server grants")).hint(format!("give at most {granted}"))
}

fn busy(name: &str) -> Refusal {
    Refusal::new(format!("the session `{name}` is being made or removed at the moment"))
        .hint("ask again when that is done, or use another name")
}

/// Refuses what cannot be the name of a session, and of a directory.
pub(crate) fn check(name: &str) -> Result<(), Refusal> {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_fit = name.len() <= LONGEST
        && name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || b"._-".contains(&byte));
    match is_fit {
        true => Ok(()),
        false => Err(Refusal::new("a session cannot be called so").hint(format!(
            "use small letters, digits, `.`, `_` and `-`, a letter or digit first, at most {LONGEST} of them"
        ))),
    }
}

/// A name that is taken for a session which is being made or removed.
struct Reserved<'a> {
    table: &'a Table,
    name: &'a str,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.table.lock().reserved.remove(self.name);
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session that is there; the default one is made when it is first asked for.
    pub fn get(&self, shared: &Arc<Shared>, name: Option<&str>) -> Result<Arc<Slot>, Refusal> {
        self.find(shared, name, false)
    }

    /// The same, also where what is on disk of it cannot be read.
    fn get_damaged(&self, shared: &Arc<Shared>, name: &str) -> Result<Arc<Slot>, Refusal> {
        self.find(shared, Some(name), true)
    }

    fn find(&self, shared: &Arc<Shared>, name: Option<&str>, is_damaged: bool) -> Result<Arc<Slot>, Refusal> {
        let name = name.unwrap_or(DEFAULT);
        check(name)?;
        let mut state = self.lock();
        if let Some(slot) = state.slots.get(name) {
            // With the table locked, so that it does not end as idle now.
            slot.touch();
            return Ok(Arc::clone(slot));
        }
        if state.reserved.contains(name) {
            // What is on disk of it is not whole.
            return Err(busy(name));
        }
        let head = match &shared.store {
            Some(store) if store.has(name) => match store.head(name) {
                Ok(head) => {
                    store.tidy(name, &head);
                    head
                }
                Err(_) if is_damaged => Head::default(),
                Err(refusal) => return Err(refusal),
            },
            _ if name == DEFAULT => {
                shared.check_room()?;
                Head::default()
            }
            _ => return Err(self.absent(name, &state)),
        };
        let place = shared.place()?;
        let limits = head.narrowed.within(&shared.grants.limits);
        let slot = Arc::new(Slot::new(name, limits, head, place));
        state.slots.insert(name.to_owned(), Arc::clone(&slot));
        Ok(slot)
    }

    fn absent(&self, name: &str, state: &State) -> Refusal {
        let known: Vec<_> = state.slots.keys().map(|name| format!("`{name}`")).collect();
        Refusal::new(format!("there is no session `{name}`")).hint(match known.is_empty() {
            true => "make it with `session_create`, or leave `session` out for the default one".to_owned(),
            false => format!("there are {}; `session_create` makes another", known.join(", ")),
        })
    }

    /// Makes a session, under a new name if none is given.
    pub async fn create(
        &self,
        shared: &Arc<Shared>,
        name: Option<String>,
        narrowed: Narrowed,
        context: &RequestContext<RoleServer>,
    ) -> Result<SessionInfo, Refusal> {
        let name = name.unwrap_or_else(|| self.unused(shared));
        let reserved = self.reserve(shared, &name)?;
        let limits = narrowed.apply(&shared.grants.limits)?;
        let slot =
            Arc::new(Slot::new(&name, limits, Head::beginning(narrowed, Owner::default()), shared.place()?));
        slot.begin(shared, context).await?;
        self.add(reserved, &slot);
        Ok(slot.info())
    }

    /// Makes a copy of a session.
    pub async fn fork(
        &self,
        shared: &Arc<Shared>,
        from: Option<&str>,
        name: Option<String>,
        context: &RequestContext<RoleServer>,
    ) -> Result<SessionInfo, Refusal> {
        let from = self.get(shared, from)?;
        let name = name.unwrap_or_else(|| self.unused(shared));
        let reserved = self.reserve(shared, &name)?;
        let slot = Arc::new(Slot::new(&name, from.limits().clone(), from.beginning(), shared.place()?));
        let forked = from.fork(shared, &slot, context).await;
        if forked.is_err()
            && let Some(store) = shared.store.clone()
        {
            // Of its files some may have been copied.
            let name = name.clone();
            let _ = blocking(move || store.remove(&name)).await;
        }
        forked?;
        self.add(reserved, &slot);
        Ok(slot.info())
    }

    /// Puts a session back to its beginning.
    pub async fn reset(
        &self,
        shared: &Arc<Shared>,
        name: Option<&str>,
        context: &RequestContext<RoleServer>,
    ) -> Result<SessionInfo, Refusal> {
        let slot = self.get_damaged(shared, name.unwrap_or(DEFAULT))?;
        slot.reset(shared, context).await?;
        Ok(slot.info())
    }

    /// Ends a session and forgets it.
    pub async fn close(&self, shared: &Arc<Shared>, name: &str) -> Result<(), Refusal> {
        let (slot, _reserved) = self.take(shared, name)?;
        if let Some(slot) = slot {
            slot.close().await;
        }
        if let Some(store) = shared.store.clone() {
            let owned = name.to_owned();
            blocking(move || store.remove(&owned))
                .await?
                .map_err(|error| Refusal::new(format!("the session `{name}` cannot be removed: {error}")))?;
        }
        Ok(())
    }

    /// Takes a session out; nobody makes or finds one of its name before that is given back.
    fn take<'a>(
        &'a self,
        shared: &Shared,
        name: &'a str,
    ) -> Result<(Option<Arc<Slot>>, Reserved<'a>), Refusal> {
        let mut state = self.lock();
        if state.reserved.contains(name) {
            return Err(busy(name));
        }
        let is_kept = check(name).is_ok() && shared.store.as_ref().is_some_and(|store| store.has(name));
        if !is_kept && !state.slots.contains_key(name) {
            return Err(self.absent(name, &state));
        }
        state.reserved.insert(name.to_owned());
        Ok((state.slots.remove(name), Reserved { table: self, name }))
    }

    /// The sessions there are, those that are on disk alone as well.
    pub fn list(&self, shared: &Shared) -> Vec<SessionInfo> {
        let mut listed: BTreeMap<_, _> =
            self.lock().slots.iter().map(|(name, slot)| (name.clone(), slot.info())).collect();
        let Some(store) = &shared.store else { return listed.into_values().collect() };
        for name in store.names() {
            if listed.contains_key(&name) {
                continue;
            }
            let head = store.head(&name).unwrap_or_default();
            let limits = head.narrowed.within(&shared.grants.limits);
            listed.insert(
                name.clone(),
                SessionInfo {
                    name,
                    turns: head.turn,
                    running: false,
                    idle_seconds: 0.0,
                    timeout_seconds: limits.timeout.map(|timeout| timeout.as_secs_f64()),
                    memory_bytes: limits.memory_bytes,
                },
            );
        }
        listed.into_values().collect()
    }

    /// The sessions that are in memory.
    pub fn slots(&self) -> Vec<Arc<Slot>> {
        self.lock().slots.values().cloned().collect()
    }

    /// Ends all sessions; turns that run are stopped.
    pub async fn close_all(&self) {
        let slots = std::mem::take(&mut self.lock().slots);
        for slot in slots.into_values() {
            slot.close().await;
        }
    }

    /// Ends the sessions that nobody has used for as long.
    pub fn close_idle(&self, idle: Duration) {
        self.lock().slots.retain(|_, slot| !slot.close_idle(idle));
    }

    fn reserve<'a>(&'a self, shared: &Shared, name: &'a str) -> Result<Reserved<'a>, Refusal> {
        check(name)?;
        let mut state = self.lock();
        let is_there = state.slots.contains_key(name)
            || state.reserved.contains(name)
            || shared.store.as_ref().is_some_and(|store| store.has(name));
        if is_there {
            return Err(Refusal::new(format!("there is a session `{name}` already"))
                .hint("use it, choose another name, or close it first with `session_close`"));
        }
        shared.check_room()?;
        state.reserved.insert(name.to_owned());
        Ok(Reserved { table: self, name })
    }

    fn add(&self, reserved: Reserved<'_>, slot: &Arc<Slot>) {
        self.lock().slots.insert(reserved.name.to_owned(), Arc::clone(slot));
    }

    fn unused(&self, shared: &Shared) -> String {
        let state = self.lock();
        let is_free = |name: &String| {
            !state.slots.contains_key(name)
                && !state.reserved.contains(name)
                && !shared.store.as_ref().is_some_and(|store| store.has(name))
        };
        let mut names = (1u64..).map(|number| format!("s{number}"));
        names.find(is_free).unwrap_or_default()
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let state = std::mem::take(&mut *self.lock());
        if state.slots.is_empty() {
            return;
        }
        // Workspaces are removed with their sessions, which takes time.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(state))),
            Err(_) => drop(state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_directories() {
        for name in ["default", "a", "0", "a.b_c-d", &"a".repeat(64)] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", ".a", "-a", "A", "a/b", "a\\b", "ä", "a b", "a\0", &"a".repeat(65)] {
            assert!(check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn limits_are_only_narrowed() {
        let limits = Limits::default();
        let narrowed = |timeout_seconds, memory_bytes| {
            Narrowed { timeout_seconds, memory_bytes }.apply(&limits).map_err(|refusal| refusal.text())
        };
        let fit = narrowed(Some(0.5), Some(64 << 20)).unwrap();
        assert_eq!((fit.timeout, fit.memory_bytes), (Some(Duration::from_millis(500)), 64 << 20));
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 61.0, 1e300] {
            assert!(narrowed(Some(seconds), None).is_err(), "{seconds}");
        }
        assert!(narrowed(None, Some(u64::MAX)).unwrap_err().contains("more than the server grants"));
        // Those of a session on disk hold as far as they are narrower now.
        let kept = Narrowed { timeout_seconds: Some(100.0), memory_bytes: Some(64 << 20) }.within(&limits);
        assert_eq!((kept.timeout, kept.memory_bytes), (limits.timeout, 64 << 20));
    }
}
