//! What the programs of one session see of the state: what is kept, and over it what their turn wrote.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::database::{ABSENT, NotKept, Totals, size};
use super::{State, value};
use crate::bindings::operations::Failure;
use crate::operations::Answer;
use crate::service::{Called, Kind, Service, Unkept, failure};

/// Numbers of the functions, as `state.py` has them.
mod function {
    pub const GET: u8 = 0;
    pub const PUT: u8 = 1;
    pub const DELETE: u8 = 2;
    pub const LIST: u8 = 3;
    pub const HAS: u8 = 4;
}

pub(crate) struct StateService {
    state: State,
    turn: Mutex<Turn>,
}

/// What a turn has done so far.
#[derive(Default)]
struct Turn {
    /// Versions of the keys that it read, when it read them first.
    seen: BTreeMap<String, i64>,
    /// Values, or nothing where it deleted one.
    written: BTreeMap<String, Option<String>>,
    /// What is held in all, before the turn and with what it wrote; known from the first write on.
    totals: Option<(Totals, Totals)>,
}

impl StateService {
    pub fn new(state: State) -> Self {
        StateService { state, turn: Mutex::default() }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, function: u8, head: &[u8], tail: &[u8]) -> Answer {
        let State { database, limits, .. } = &self.state;
        let wrong = |message| failure("value", message);
        let turn = &mut *self.turn();
        if function == function::LIST {
            let prefix = std::str::from_utf8(head).map_err(|_| wrong("a prefix must be UTF-8".into()))?;
            let mut keys = database.keys(prefix).map_err(unusable)?;
            keys.retain(|key| !turn.written.contains_key(key));
            let own = turn.written.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
            keys.extend(own.filter(|(_, value)| value.is_some()).map(|(key, _)| key.clone()));
            keys.sort_unstable();
            return serde_json::to_vec(&keys).map_err(|error| failure("trap", error.to_string()));
        }
        let key = value::key(head, limits).map_err(wrong)?;
        match function {
            function::GET => {
                let value = match turn.written.get(key) {
                    Some(written) => written.clone(),
                    None => {
                        let found = database.get(key).map_err(unusable)?;
                        let version = found.as_ref().map_or(ABSENT, |(_, version)| *version);
                        self.saw(turn, key, version)?;
                        found.map(|(value, _)| value)
                    }
                };
                Ok(value.map_or_else(Vec::new, String::into_bytes))
            }
            function::HAS => Ok(vec![u8::from(self.find(turn, key)?.is_some())]),
            function::PUT => {
                let json = value::json(tail, limits).map_err(wrong)?;
                let had = self.size(turn, key)?;
                self.write(turn, key, had, Some(json.to_owned()))?;
                Ok(Vec::new())
            }
            function::DELETE => {
                let had = self.find(turn, key)?;
                if had.is_some() {
                    self.write(turn, key, had, None)?;
                }
                Ok(vec![u8::from(had.is_some())])
            }
            _ => Err(failure("unknown", "there is no such function")),
        }
    }

    /// Notes that the turn depends on what it has seen of a key.
    fn saw(&self, turn: &mut Turn, key: &str, version: i64) -> Result<(), Failure> {
        if turn.seen.contains_key(key) {
            return Ok(());
        }
        let most = self.state.limits.keys.saturating_mul(2);
        if turn.seen.len() as u64 >= most {
            return Err(failure("limit", format!("a turn may look at {most} keys of the state")));
        }
        turn.seen.insert(key.to_owned(), version);
        Ok(())
    }

    /// What the entry takes, if there is one; the turn has seen whether there is.
    fn find(&self, turn: &mut Turn, key: &str) -> Result<Option<u64>, Failure> {
        if let Some(written) = turn.written.get(key) {
            return Ok(written.as_ref().map(|value| size(key, value)));
        }
        let about = self.state.database.about(key).map_err(unusable)?;
        self.saw(turn, key, about.map_or(ABSENT, |(version, _)| version))?;
        Ok(about.map(|(_, bytes)| bytes))
    }

    /// The same where the turn sees nothing of it.
    fn size(&self, turn: &Turn, key: &str) -> Result<Option<u64>, Failure> {
        match turn.written.get(key) {
            Some(written) => Ok(written.as_ref().map(|value| size(key, value))),
            None => Ok(self.state.database.about(key).map_err(unusable)?.map(|(_, bytes)| bytes)),
        }
    }

    fn write(
        &self,
        turn: &mut Turn,
        key: &str,
        had: Option<u64>,
        value: Option<String>,
    ) -> Result<(), Failure> {
        let State { database, limits, .. } = &self.state;
        let (before, now) = match turn.totals {
            Some(totals) => totals,
            None => {
                let totals = database.totals().map_err(unusable)?;
                (totals, totals)
            }
        };
        let mut after = now;
        after.keys = (after.keys + u64::from(value.is_some())).saturating_sub(u64::from(had.is_some()));
        let bytes = value.as_ref().map_or(0, |value| size(key, value));
        after.bytes = (after.bytes + bytes).saturating_sub(had.unwrap_or(0));
        limits.check(now, after).map_err(|message| failure("full", message))?;
        // What only this turn had is forgotten, so this is bounded by what may be held.
        match value.is_none() && database.about(key).map_err(unusable)?.is_none() {
            true => drop(turn.written.remove(key)),
            false => drop(turn.written.insert(key.to_owned(), value)),
        }
        turn.totals = Some((before, after));
        Ok(())
    }
}

impl Service for StateService {
    fn kind(&self) -> Kind {
        Kind::State
    }

    fn call(&self, function: u8, head: &[u8], tail: &[u8]) -> Called {
        Called::Ready(self.answer(function, head, tail))
    }

    fn begin_turn(&self) {
        // What was asked beside turns wrote, if anything, is not kept.
        *self.turn() = Turn::default();
    }

    fn end_turn(&self, lives: bool) -> Result<(), Unkept> {
        let Turn { seen, written, .. } = std::mem::take(&mut *self.turn());
        if !lives || written.is_empty() {
            return Ok(());
        }
        let unkept = |class, message| Err(Unkept { class, message });
        match self.state.database.keep(&seen, &written, &self.state.limits) {
            Ok(()) => Ok(()),
            Err(NotKept::Conflict(key)) => unkept(
                "agentkernel.StateConflict",
                format!(
                    "another session changed `{}` after this turn had read it, so nothing that the turn put is kept; run it again",
                    key.escape_debug()
                ),
            ),
            Err(NotKept::Full(message)) => {
                unkept("agentkernel.StateError", format!("nothing that the turn put is kept: {message}"))
            }
            Err(NotKept::Database(error)) => unkept(
                "agentkernel.StateError",
                format!("nothing that the turn put is kept: the state cannot be written: {error}"),
            ),
        }
    }
}

fn unusable(error: rusqlite::Error) -> Failure {
    failure("state", format!("the state cannot be read: {error}"))
}
