//! One session of a server: started when it is first needed, used by one request at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agentkernel::{Canceller, Files, Limits, Session};
use rmcp::RoleServer;
use rmcp::service::RequestContext;
use tokio::sync::MutexGuard as AsyncGuard;

use super::kept::{Head, Owner};
use super::{Narrowed, SessionInfo};
use crate::output::Output;
use crate::refusal::{Refusal, blocking};
use crate::report::Executed;
use crate::server::Shared;
use crate::turn;

/// A session, or what it is started from.
pub(crate) struct Slot {
    name: String,
    limits: Limits,
    narrowed: Narrowed,
    owner: Owner,
    inner: tokio::sync::Mutex<Inner>,
    face: Mutex<Face>,
    _place: Place,
}

/// What a request needs for itself.
#[derive(Default)]
struct Inner {
    session: Option<Session>,
    output: Output,
    head: Head,
    /// Whether it has gone on from what is on disk, where sessions are kept.
    is_ahead: bool,
    is_closed: bool,
}

/// What is known without waiting for a turn.
struct Face {
    canceller: Option<Canceller>,
    files: Option<Files>,
    is_busy: bool,
    turns: u64,
    used: Instant,
    /// How often what ran and what waited was to end.
    stops: u64,
}

/// One of a number of places.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    /// Takes one, if fewer than `most` are taken.
    pub fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let one_more = |count: usize| (count < most).then_some(count + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Place(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A session that a request has for itself.
struct Taken<'a> {
    slot: &'a Slot,
    inner: AsyncGuard<'a, Inner>,
    stops: u64,
}

impl Taken<'_> {
    /// Refuses what was to end before there was a turn that could be stopped.
    fn check(&self) -> Result<(), Refusal> {
        match self.slot.face().stops == self.stops {
            true => Ok(()),
            false => Err(self.slot.stopped()),
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut face = self.slot.face();
        face.is_busy = false;
        face.used = Instant::now();
    }
}

impl Slot {
    pub fn new(name: &str, limits: Limits, head: Head, place: Place) -> Self {
        let face = Face {
            canceller: None,
            files: None,
            is_busy: false,
            turns: head.turn,
            used: Instant::now(),
            stops: 0,
        };
        Slot {
            name: name.to_owned(),
            limits,
            narrowed: head.narrowed.clone(),
            owner: head.owner.clone(),
            inner: tokio::sync::Mutex::new(Inner { head, ..Inner::default() }),
            face: Mutex::new(face),
            _place: place,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// What is known of a session with its limits that has run nothing.
    pub fn beginning(&self) -> Head {
        Head::beginning(self.narrowed.clone(), self.owner.clone())
    }

    /// Runs a turn.
    pub async fn execute(
        &self,
        shared: &Arc<Shared>,
        code: String,
        context: &RequestContext<RoleServer>,
    ) -> Result<Executed, Refusal> {
        let mut taken = self.take(context).await?;
        self.start(shared, &mut taken.inner).await?;
        taken.check()?;
        let Inner { session, output, head, .. } = &mut *taken.inner;
        let Some(running) = session else { return Err(self.closed()) };
        let limit = shared.grants.limits.output_bytes;
        let ran = turn::run(running, output, limit, code, context).await;
        let is_alive = running.is_alive();
        if !is_alive {
            self.put_away(session.take()).await;
        }
        let (outcome, written) = ran?;
        head.turn += 1;
        self.face().turns = head.turn;
        let mut executed = Executed::new(&self.name, head.turn, outcome, written, &self.limits);
        if !is_alive {
            executed.turn.note = Some(ended(shared.store.is_some()));
            taken.inner.is_ahead = false;
        }
        if shared.store.is_some() {
            if executed.turn.kept {
                executed.turn.note = self.save(shared, &mut taken.inner).await.err().map(|refusal| {
                    format!("the session goes on, and is not on disk as it is now. {}", refusal.text())
                });
            }
            executed.turn.saved = Some(!taken.inner.is_ahead);
        }
        Ok(executed)
    }

    /// Starts the session if it has not been, so that what is wrong is told now.
    pub async fn begin(
        &self,
        shared: &Arc<Shared>,
        context: &RequestContext<RoleServer>,
    ) -> Result<(), Refusal> {
        let mut taken = self.take(context).await?;
        self.start(shared, &mut taken.inner).await
    }

    /// Makes `to` a copy of this session.
    pub async fn fork(
        &self,
        shared: &Arc<Shared>,
        to: &Slot,
        context: &RequestContext<RoleServer>,
    ) -> Result<(), Refusal> {
        let mut taken = self.take(context).await?;
        self.start(shared, &mut taken.inner).await?;
        taken.check()?;
        let Some(mut session) = taken.inner.session.take() else { return Err(self.closed()) };
        let output = Output::default();
        let handler = output.handler();
        let own_files = shared.store_of_files();
        let (from, name) = (self.name.clone(), to.name.clone());
        let (session, fork) = blocking(move || {
            let fork = match own_files {
                None => {
                    let forked = session.fork_with_output(handler);
                    forked.map_err(Refusal::from).map(|fork| Forked::Started(Box::new(fork)))
                }
                Some(store) => session.snapshot().map_err(Refusal::from).and_then(|image| {
                    let copied = store.copy_files(&from, &name);
                    copied
                        .map_err(|error| Refusal::new(format!("cannot copy the session's files: {error}")))?;
                    Ok(Forked::Image(image))
                }),
            };
            (session, fork)
        })
        .await?;
        taken.inner.session = session.is_alive().then_some(session);
        let mut other = to.inner.lock().await;
        other.head.turn = taken.inner.head.turn;
        match fork? {
            Forked::Started(session) => to.show(&mut other, *session, output),
            Forked::Image(image) => {
                let session = shared.start_session(to, Some(image), &output).await?;
                to.show(&mut other, session, output);
            }
        }
        to.face().turns = other.head.turn;
        to.save(shared, &mut other).await
    }

    /// Begins anew; a turn that runs is stopped, and what waits for it is refused.
    pub async fn reset(
        &self,
        shared: &Arc<Shared>,
        context: &RequestContext<RoleServer>,
    ) -> Result<(), Refusal> {
        self.stop();
        let mut taken = self.take(context).await?;
        let session = taken.inner.session.take();
        self.put_away(session).await;
        taken.inner.head = self.beginning();
        self.face().turns = 0;
        if let Some(store) = shared.store.clone() {
            let (name, mut head) = (self.name.clone(), taken.inner.head.clone());
            // A session that cannot be read must be able to begin anew as well.
            let written = blocking(move || {
                let written = store.save(&name, &mut head, None);
                store.tidy(&name, &head);
                written.map(|()| head)
            });
            taken.inner.head = written.await??;
        }
        self.start(shared, &mut taken.inner).await
    }

    /// Ends the session; a turn that runs is stopped, and what waits for it is refused. Its memory is let go in the background.
    pub async fn close(&self) {
        self.stop();
        let mut inner = self.inner.lock().await;
        inner.is_closed = true;
        let session = inner.session.take();
        drop(inner);
        self.put_away(session).await;
    }

    /// Ends the session if nobody has used it for as long, and what it would go on from is what it is now; whether it
    /// did.
    pub fn close_idle(&self, idle: Duration) -> bool {
        let Ok(mut inner) = self.inner.try_lock() else { return false };
        if inner.is_ahead || self.face().used.elapsed() < idle {
            return false;
        }
        inner.is_closed = true;
        let session = inner.session.take();
        self.face().files = None;
        tokio::task::spawn_blocking(move || drop(session));
        true
    }

    pub fn info(&self) -> SessionInfo {
        let face = self.face();
        SessionInfo {
            name: self.name.clone(),
            turns: face.turns,
            running: face.is_busy,
            idle_seconds: match face.is_busy {
                true => 0.0,
                false => face.used.elapsed().as_secs_f64(),
            },
            timeout_seconds: self.limits.timeout.map(|timeout| timeout.as_secs_f64()),
            memory_bytes: self.limits.memory_bytes,
        }
    }

    /// Its files, if it has been started.
    pub fn files(&self) -> Option<Files> {
        let mut face = self.face();
        face.used = Instant::now();
        face.files.clone()
    }

    /// Somebody is about to use it.
    pub fn touch(&self) {
        self.face().used = Instant::now();
    }

    fn face(&self) -> MutexGuard<'_, Face> {
        self.face.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self) -> Refusal {
        Refusal::new(format!("the session `{}` was closed", self.name))
            .hint("make another with `session_create`")
    }

    fn stopped(&self) -> Refusal {
        Refusal::new(format!("the session `{}` was reset or closed while this call waited", self.name))
            .hint("see with `session_list` what there is, and ask again")
    }

    /// Stops the turn that runs, if one does, and all that wait.
    fn stop(&self) {
        let mut face = self.face();
        face.stops += 1;
        if let (true, Some(canceller)) = (face.is_busy, &face.canceller) {
            canceller.cancel();
        }
    }

    async fn take(&self, context: &RequestContext<RoleServer>) -> Result<Taken<'_>, Refusal> {
        let stops = self.face().stops;
        let inner = tokio::select! {
            biased;
            () = context.ct.cancelled() => return Err(Refusal::cancelled()),
            inner = self.inner.lock() => inner,
        };
        if inner.is_closed {
            return Err(self.closed());
        }
        if let Some(session) = &inner.session {
            // For the turn that was stopped, not for this one.
            session.canceller().withdraw();
        }
        let mut face = self.face();
        if face.stops != stops {
            return Err(self.stopped());
        }
        face.is_busy = true;
        drop(face);
        Ok(Taken { slot: self, inner, stops })
    }

    /// Starts the session, from what is on disk if it is.
    async fn start(&self, shared: &Arc<Shared>, inner: &mut Inner) -> Result<(), Refusal> {
        if inner.session.is_some() {
            return Ok(());
        }
        let image = match &shared.store {
            None => None,
            Some(store) => {
                let (store, shared, name) = (Arc::clone(store), Arc::clone(shared), self.name.clone());
                let head = inner.head.clone();
                blocking(move || {
                    if !store.has(&name) {
                        // What is left of one that was being removed is not this one's.
                        store.remove(&name).map_err(|error| {
                            Refusal::new(format!("the session `{name}` cannot be made: {error}"))
                        })?;
                    }
                    store.image(&name, &head, &shared.kernel)
                })
                .await??
            }
        };
        let output = Output::default();
        let session = shared.start_session(self, image, &output).await?;
        self.show(inner, session, output);
        match &shared.store {
            // One that is made is one of those on disk from its beginning.
            Some(store) if !store.has(&self.name) => self.save(shared, inner).await,
            _ => {
                inner.is_ahead = false;
                Ok(())
            }
        }
    }

    fn show(&self, inner: &mut Inner, session: Session, output: Output) {
        let mut face = self.face();
        (face.canceller, face.files) = (Some(session.canceller()), session.files());
        (inner.session, inner.output) = (Some(session), output);
    }

    /// Writes the session to disk as it is now.
    async fn save(&self, shared: &Arc<Shared>, inner: &mut Inner) -> Result<(), Refusal> {
        let Some(store) = shared.store.clone() else { return Ok(()) };
        inner.is_ahead = true;
        let (name, mut head) = (self.name.clone(), inner.head.clone());
        let session = inner.session.take();
        let (session, saved) = blocking(move || {
            let mut session = session;
            let image = session.as_mut().filter(|_| head.turn > 0).map(Session::snapshot).transpose();
            let saved = image.map_err(Refusal::from).and_then(|image| {
                store.save(&name, &mut head, image.as_ref())?;
                Ok(head)
            });
            (session, saved)
        })
        .await?;
        inner.session = session;
        inner.head = saved?;
        inner.is_ahead = false;
        Ok(())
    }

    async fn put_away(&self, session: Option<Session>) {
        self.face().canceller = None;
        let _ = blocking(move || drop(session)).await;
    }
}

/// What is said of a session that a turn has ended.
fn ended(is_on_disk: bool) -> String {
    let next = match is_on_disk {
        true => "the next turn goes on from what is on disk",
        false => "what it had in memory is lost, and the next turn begins anew",
    };
    format!(
        "the session could not be put back and has ended: {next}. Close files and await tasks before a turn ends"
    )
}

/// What a fork begins with.
enum Forked {
    Started(Box<Session>),
    Image(agentkernel::Image),
}
