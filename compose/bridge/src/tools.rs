//! The Python modules that are put in, and the functions that they call by number.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::composed;
use crate::data::{self, Function, Program, Target};
use crate::exports::agentkernel::kernel::modules::{Guest, Module};
use crate::exports::agentkernel::kernel::operations::{Failure, Operation};
use crate::lower::{Lower, Registers};
use crate::operations::{failure, Pending};
use crate::{lift, Bridge};

/// Why a call was not made.
pub enum Failed {
    Malformed(&'static str),
    Closed,
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Malformed(what) => failure("malformed", format!("a tool was called with {what}")),
            Failed::Closed => failure("closed", "the resource is closed already"),
        }
    }
}

/// The open handles that Python has, with their resource types. Any other would make a call trap.
#[derive(Default)]
pub struct Handles(BTreeMap<u32, u32>);

impl Handles {
    pub fn add(&mut self, resource: u32, handle: u32) {
        self.0.insert(handle, resource);
    }

    pub fn check(&self, resource: u32, handle: u32) -> Result<(), Failed> {
        if self.0.get(&handle) == Some(&resource) {
            Ok(())
        } else {
            Err(Failed::Closed)
        }
    }

    /// The tool owns it from the call on.
    pub fn give(&mut self, resource: u32, handle: u32) -> Result<(), Failed> {
        self.check(resource, handle)?;
        self.0.remove(&handle);
        Ok(())
    }
}

thread_local! {
    static HANDLES: RefCell<Handles> = RefCell::default();
}

fn call(
    program: &'static Program,
    function: &Function,
    head: &[u8],
    tail: &[u8],
    handles: &mut Handles,
) -> Result<Vec<u8>, Failed> {
    let mut registers = Registers::default();
    let mut lower = Lower::new(program, head, tail, handles);
    let parameters = lower.parameters(function.parameters)?;
    if function.indirect {
        registers.push(parameters as u64);
    } else {
        // SAFETY: they were just laid in there.
        unsafe { registers.value(program, function.parameters, parameters) };
    }
    let result = match function.result {
        Some(ty) => lower.room(program.types[ty].size, program.types[ty].align)?,
        None => std::ptr::null_mut(),
    };
    if function.returns_in_memory {
        registers.push(result as u64);
    }
    let mut slots = registers.slots;
    // SAFETY: the slots are what the function takes.
    unsafe { composed::call(function.number, &mut slots) };
    let mut bytes = Vec::new();
    if let Some(ty) = function.result {
        // The arguments are no longer needed, the room for the result is.
        let mut made = Handles::default();
        // SAFETY: there is room for the result, and then it lies there.
        unsafe {
            if !function.returns_in_memory {
                lift::from_register(program, ty, slots[0], result);
            }
            lift::value(program, ty, result, &mut made, &mut bytes);
        }
        drop(lower);
        handles.0.append(&mut made.0);
    }
    Ok(bytes)
}

impl Guest for Bridge {
    fn find(name: String) -> Option<Module> {
        let found = data::program().modules.iter().find(|module| module.name == name)?;
        Some(Module { source: found.source.to_owned(), is_package: found.is_package })
    }

    fn call(function: u32, head: Vec<u8>, tail: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let program = data::program();
        HANDLES.with_borrow_mut(|handles| match program.targets.get(function as usize) {
            Some(Target::Function(function)) => Ok(call(program, function, &head, &tail, handles)?),
            Some(Target::Close(resource)) => {
                let handle = head.try_into().map_err(|_| Failed::Malformed("no handle"))?;
                let handle = u32::from_le_bytes(handle);
                handles.give(*resource, handle)?;
                composed::drop(*resource, handle);
                Ok(Vec::new())
            }
            Some(Target::Refused(why)) => Err(failure("denied", *why)),
            None => Err(failure("unknown", format!("the program has no function {function}"))),
        })
    }

    fn start(function: u32, head: Vec<u8>, tail: Vec<u8>) -> Result<Operation, Failure> {
        Self::call(function, head, tail).map(Pending::done)
    }
}
