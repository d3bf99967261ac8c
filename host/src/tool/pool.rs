//! Calls of a tool that overlap: each in an instance that no other call uses meanwhile.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tracing::Span;

use super::component::Component;
use super::live::{Callee, Fault, Host, Live, Used, failure};
use super::loaded::Body;
use super::toolbox::Toolbox;
use crate::console::Console;
use crate::engine::{Interrupt, Reason, Watchdog};
use crate::modules::TOO_MUCH_HELD;
use crate::operations::{Answer, Held};

/// The instances of one tool in one session that overlapping calls share.
pub(super) struct Pool {
    toolbox: Arc<Toolbox>,
    position: usize,
    used: Arc<Used>,
    idle: Mutex<Vec<Live>>,
    permits: Arc<Semaphore>,
}

impl Pool {
    pub fn new(toolbox: &Arc<Toolbox>, position: usize, component: &Component, used: Arc<Used>) -> Arc<Self> {
        let instances = component.grants.limits.instances.max(1) as usize;
        Arc::new(Pool {
            toolbox: Arc::clone(toolbox),
            position,
            used,
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(instances)),
        })
    }

    /// A call on a thread of its own; dropping it stops the tool.
    pub fn start(
        self: &Arc<Self>,
        function: usize,
        arguments: Vec<u8>,
        host: &Host<'_>,
        held: Held,
    ) -> impl Future<Output = Answer> + Send + 'static {
        let pool = Arc::clone(self);
        let runtime = host.runtime.clone();
        let (watchdog, console) = (host.watchdog.clone(), host.console.clone());
        async move {
            let permit = Arc::clone(&pool.permits).acquire_owned().await;
            let stop = StopOnDrop(Interrupt::new());
            let interrupt = Arc::clone(&stop.0);
            let span = Span::current();
            let thread = runtime.clone().spawn_blocking(move || {
                let run = || pool.run(function, &arguments, &runtime, &watchdog, &interrupt, &console);
                let answer = span.in_scope(run);
                drop((permit, arguments));
                let answer = answer?;
                match held.add(answer.len()) {
                    true => Ok(answer),
                    false => Err(failure("memory", TOO_MUCH_HELD.into())),
                }
            });
            let answer = thread.await;
            drop(stop);
            answer.unwrap_or_else(|_| Err(failure("trap", "the tool's thread failed".into())))
        }
    }

    fn run(
        &self,
        function: usize,
        arguments: &[u8],
        runtime: &Handle,
        watchdog: &Watchdog,
        interrupt: &Arc<Interrupt>,
        console: &Console,
    ) -> Answer {
        let tool = &self.toolbox.tools[self.position];
        let Body::Component(component) = &tool.body else {
            return Err(failure("unknown", "this is no component".into()));
        };
        let host = Host { runtime, watchdog, interrupt, console };
        let callee = Callee { toolbox: &self.toolbox, tool, component, used: &self.used };
        interrupt.begin();
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let result = idle.map_or_else(|| Live::new(&callee, &host), Ok).and_then(|mut live| {
            let bytes = live.call(&callee, function, [arguments, &[]], Vec::new(), &host)?;
            if !component.grants.per_call {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(live);
            }
            Ok(bytes)
        });
        interrupt.end();
        result.map_err(|fault| match fault {
            Fault::Failed(failure) | Fault::Refused(failure) => failure,
            Fault::Stopped => failure("cancelled", "the call was cancelled".into()),
        })
    }
}

/// Stops what runs when nobody waits for it any more.
struct StopOnDrop(Arc<Interrupt>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.fire(Reason::Cancelled);
    }
}
