//! Python modules that the host provides, and the functions behind them: those of the session's tools.

use wasmtime::component::Resource;

use crate::bindings::modules::{Host, Module};
use crate::bindings::operations::Failure;
use crate::operations::{Answer, Operation};
use crate::state::State;
use crate::tool::Caller;

impl Host for State {
    fn find(&mut self, name: String) -> wasmtime::Result<Option<Module>> {
        self.host_calls += 1;
        let found = self.tools.toolbox().and_then(|toolbox| toolbox.module(&name));
        Ok(found.map(|(source, is_package)| Module { source, is_package }))
    }

    fn call(&mut self, function: u32, head: Vec<u8>, tail: Vec<u8>) -> wasmtime::Result<Answer> {
        self.host_calls += 1;
        let mut caller = Caller {
            runtime: &self.runtime,
            watchdog: &self.watchdog,
            interrupt: &self.interrupt,
            console: &self.console,
            filesystem: &mut self.filesystem,
        };
        Ok(self.tools.call(function, &head, &tail, &mut caller)?)
    }

    fn start(
        &mut self,
        function: u32,
        head: Vec<u8>,
        tail: Vec<u8>,
    ) -> wasmtime::Result<Result<Resource<Operation>, Failure>> {
        if let Some(running) = self.tools.start(function, &head, &tail) {
            self.host_calls += 1;
            return self.start(running);
        }
        // This one is over when it has started.
        match self.call(function, head, tail)? {
            Ok(bytes) => self.start(async { Ok(bytes) }),
            Err(failure) => Ok(Err(failure)),
        }
    }
}
