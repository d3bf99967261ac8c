//! Running one turn for a request: it tells how far it is, and stops when the request is cancelled.

use std::pin::pin;
use std::time::{Duration, Instant};

use agentkernel::{Outcome, Session, Turn};
use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{Peer, RequestContext};
use tokio::task::JoinSet;

use crate::output::{Output, Written};

/// How often a client is told what was written.
const TICK: Duration = Duration::from_millis(100);

/// How often it is told that there is nothing new: some clients give up when they hear nothing.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long the last of it may take to be told. A result must not wait for a client that does not listen.
const LAST: Duration = Duration::from_secs(1);

/// Tells a client how far a request is, if it asked for that.
#[derive(Clone)]
pub(crate) struct Progress {
    to: Option<(Peer<RoleServer>, ProgressToken)>,
    begun: Instant,
    told: Instant,
}

impl Progress {
    pub fn of(context: &RequestContext<RoleServer>) -> Self {
        let to = context.meta.get_progress_token().map(|token| (context.peer.clone(), token));
        Progress { to, begun: Instant::now(), told: Instant::now() }
    }

    /// Sends a message, or without one a sign of life when it is time for that. The progress is the time in
    /// seconds, of which nobody knows how long it will be.
    pub async fn tell(&mut self, message: Option<String>) {
        let Some((peer, token)) = &self.to else { return };
        if message.is_none() && self.told.elapsed() < HEARTBEAT {
            return;
        }
        self.told = Instant::now();
        let mut told = ProgressNotificationParam::new(token.clone(), self.begun.elapsed().as_secs_f64());
        told.message = message;
        // Who does not listen any more need not hear it.
        let _ = peer.notify_progress(told).await;
    }
}

/// Runs a turn; of its output `limit` bytes are kept.
pub(crate) async fn run(
    session: &mut Session,
    output: &Output,
    limit: u64,
    code: String,
    context: &RequestContext<RoleServer>,
) -> agentkernel::Result<(Outcome, Written)> {
    let mut progress = Progress::of(context);
    let canceller = session.canceller();
    output.begin(limit, progress.to.is_some());
    // It tells by itself, so that a client that takes its time holds up neither the turn nor a cancellation.
    let mut teller = JoinSet::new();
    if progress.to.is_some() {
        let (mut progress, output) = (progress.clone(), output.clone());
        teller.spawn(async move {
            loop {
                tokio::time::sleep(TICK).await;
                progress.tell(output.news(false)).await;
            }
        });
    }
    let outcome = {
        let mut run = pin!(session.run(Turn::new(code)));
        tokio::select! {
            biased;
            outcome = &mut run => outcome,
            () = context.ct.cancelled() => {
                canceller.cancel();
                let outcome = run.await;
                // It may have come too late for this turn, and is not for the next one.
                canceller.withdraw();
                outcome
            }
        }
    };
    teller.shutdown().await;
    if let Some(last) = output.news(true) {
        let _ = tokio::time::timeout(LAST, progress.tell(Some(last))).await;
    }
    Ok((outcome?, output.end()))
}
