//! Takes the memory that every session starts from.
//!
//! The component was pre-initialised, so its memory holds Python with its modules imported. But a
//! first turn would still write all over it: into caches that are filled on first use, and into the
//! holes that importing left in the heap, and each page written for the first time costs a fault and
//! a copy. So representative programs are run, what they left is forgotten, the holes are filled, and
//! only then the memory is taken.

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use wasmtime::{Caller, Engine, Instance, Linker, Memory, Module, Store, TypedFunc, Val};

use super::fuse::{FORGET_DIRECTORIES, SET_INTERRUPT};

/// The memory, and what is known about it.
pub struct Warm {
    pub memory: Vec<u8>,
    pub notes: Notes,
    pub cpython: String,
}

/// What the host has to know about the interpreter's memory; a custom section of the component.
#[derive(Debug, Serialize)]
pub struct Notes {
    /// Writes that raise SIGINT: address, and bits to be set in the 32-bit word there.
    interrupt: Vec<(u32, u32)>,
    /// Writes that raise SIGSYS, on which the interpreter passes pending output on.
    flush: Vec<(u32, u32)>,
    /// Standard output: the addresses of the text stream and of its buffered writer.
    stdout: (u32, u32),
    /// The addresses of the types `list`, `str` and `bytes`.
    types: (u32, u32, u32),
}

impl Notes {
    /// The name of the custom section; the host knows it too.
    const SECTION: &str = "agentkernel";

    pub fn append_to(&self, mut component: Vec<u8>) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let section = wasm_encoder::CustomSection { name: Self::SECTION.into(), data: json.into() };
        wasm_encoder::ComponentSection::append_to_component(&section, &mut component);
        Ok(component)
    }
}

const RUN: &str = "agentkernel:kernel/guest@0.1.0#run";

/// Rounds of programs before the memory is taken.
const ROUNDS: usize = 4;

const SIGINT: i32 = 2;
const SIGSYS: i32 = 31;

pub fn warm(module: &[u8], stack_top: u32, programs: &str) -> Result<Warm> {
    let mut guest = Guest::new(module)?;
    let cpython = guest.evaluate("__import__('platform').python_version()")?;
    guest.run("import os\nos.chdir('/workspace')")?;
    ensure!(guest.evaluate("os.getcwd()")? == "'/workspace'", "the working directory could not be changed");
    for round in 0..ROUNDS {
        for program in programs.split("\n----\n") {
            guest.run(program).with_context(|| format!("in the program `{program}`"))?;
        }
        guest.run("import _agentkernel.warm\n_agentkernel.warm.settle()")?;
        let (holes, bytes) = guest.fill_holes(if round == 0 { 1 << 20 } else { 1 << 16 })?;
        println!("  round {round}: {holes} holes filled, {bytes} bytes");
    }
    let mut id = |object: &str| -> Result<u32> { Ok(guest.evaluate(&format!("id({object})"))?.parse()?) };
    let stdout = (id("__import__('sys').stdout")?, id("__import__('sys').stdout.buffer")?);
    let types = (id("list")?, id("str")?, id("bytes")?);
    for _ in 0..3 {
        guest.run("1+1")?;
    }
    let interrupt = guest.trip(SIGINT, stack_top)?;
    let flush = guest.trip(SIGSYS, stack_top)?;
    let objects = guest.objects()?;
    println!("  {} objects made immortal", objects.len());
    guest.forget_directories()?;
    let mut memory = guest.memory.data(&guest.store).to_vec();
    for object in objects {
        let count =
            memory.get_mut(object as usize..object as usize + 4).context("an object outside of memory")?;
        count.copy_from_slice(&IMMORTAL.to_le_bytes());
    }
    // What functions that returned left there.
    memory[PAGE..stack_top as usize].fill(0);
    let cpython = cpython.trim_matches('\'').to_owned();
    Ok(Warm { memory, notes: Notes { interrupt, flush, stdout, types }, cpython })
}

/// The reference count of an object that is never freed; nothing counts it up or down.
const IMMORTAL: u32 = 5 << 28;

/// The first page is left alone: C code takes address 0 for nothing.
const PAGE: usize = 4096;

struct Guest {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
    realloc: TypedFunc<(i32, i32, i32, i32), i32>,
    run: wasmtime::Func,
    post_run: TypedFunc<i32, ()>,
}

impl Guest {
    fn new(module: &[u8]) -> Result<Self> {
        let engine = Engine::default();
        let module = Module::new(&engine, module)?;
        let mut linker = Linker::new(&engine);
        for import in module.imports() {
            let (interface, name) = (import.module().to_owned(), import.name().to_owned());
            let ty = import.ty().func().cloned().context("the module imports more than functions")?;
            linker.func_new(
                &interface.clone(),
                &name.clone(),
                ty,
                move |mut caller, parameters, results| {
                    stand_in(&mut caller, &name, parameters, results)
                        .map_err(|error| wasmtime::Error::msg(format!("`{name}` of `{interface}`: {error}")))
                },
            )?;
        }
        let mut store = Store::new(&engine, ());
        let instance = linker.instantiate(&mut store, &module)?;
        let run = instance.get_func(&mut store, RUN).with_context(|| format!("there is no `{RUN}`"))?;
        let post_run = instance.get_typed_func(&mut store, &format!("cabi_post_{RUN}"))?;
        let memory = instance.get_memory(&mut store, "memory").context("the module has no memory")?;
        let realloc = instance.get_typed_func(&mut store, "cabi_realloc")?;
        Ok(Guest { store, instance, memory, realloc, run, post_run })
    }

    fn allocate(&mut self, bytes: i32) -> Result<u32> {
        let address = self.realloc.call(&mut self.store, (0, 0, 4, bytes))? as u32;
        ensure!(address != 0, "the interpreter has no memory left");
        Ok(address)
    }

    fn text(&mut self, text: &str) -> Result<[Val; 2]> {
        let length = i32::try_from(text.len())?;
        let address = self.realloc.call(&mut self.store, (0, 0, 1, length))?;
        self.memory.write(&mut self.store, address as u32 as usize, text.as_bytes())?;
        Ok([Val::I32(address), Val::I32(length)])
    }

    fn word(&self, address: u32) -> Result<u32> {
        let mut bytes = [0; 4];
        self.memory.read(&self.store, address as usize, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn string(&self, address: u32) -> Result<String> {
        let (start, length) = (self.word(address)?, self.word(address + 4)?);
        let mut bytes = vec![0; length as usize];
        self.memory.read(&self.store, start as usize, &mut bytes)?;
        Ok(String::from_utf8(bytes)?)
    }

    /// Runs a turn and gives the `repr` of its value, if it has one.
    fn run(&mut self, code: &str) -> Result<Option<String>> {
        let mut parameters = Vec::new();
        parameters.extend(self.text(code)?);
        parameters.extend(self.text("<turn>")?);
        // No arguments; the value is asked for; no settings.
        let expected = self.run.ty(&self.store).params().len();
        parameters.extend([Val::I32(0), Val::I32(0), Val::I32(OPTION_VALUE)]);
        parameters.resize(expected, Val::I32(0));
        let mut result = [Val::I32(0)];
        self.run.call(&mut self.store, &parameters, &mut result)?;
        let outcome = result[0].unwrap_i32();
        let at = outcome as u32;
        // The variant's case, then the option's, then the two strings of the value.
        let case = self.word(at)? & 0xff;
        let value = match (case, self.word(at + 4)? & 0xff) {
            (COMPLETED, 1) => Some(self.string(at + 8)?),
            _ => None,
        };
        self.post_run.call(&mut self.store, outcome)?;
        Ok(value)
    }

    fn evaluate(&mut self, code: &str) -> Result<String> {
        self.run(code)?.with_context(|| format!("`{code}` has no value"))
    }

    /// The addresses of all objects that outlive every turn.
    fn objects(&mut self) -> Result<Vec<u32>> {
        let list = self.evaluate("__import__('_agentkernel.warm').warm.objects()")?;
        let (address, count) = list
            .trim_matches(['(', ')'])
            .split_once(", ")
            .with_context(|| format!("`{list}` is not an address and a count"))?;
        let (address, count): (u32, u32) = (address.parse()?, count.parse()?);
        (0..count).map(|index| self.word(address + index * 4)).collect()
    }

    /// Makes libc ask for the granted directories anew, at the session's first use of one.
    fn forget_directories(&mut self) -> Result<()> {
        let forget: TypedFunc<(), ()> = self.instance.get_typed_func(&mut self.store, FORGET_DIRECTORIES)?;
        Ok(forget.call(&mut self.store, ())?)
    }

    /// Takes up every hole of the heap below the next fresh allocation, the largest first.
    fn fill_holes(&mut self, largest: i32) -> Result<(usize, usize)> {
        let top = self.allocate(largest)?;
        let (mut holes, mut bytes) = (0, 0);
        let mut size = largest;
        while size >= 4 {
            while self.allocate(size)? < top {
                holes += 1;
                bytes += size as usize;
            }
            size = if size > 1024 { size / 8 * 7 } else { size - 4 };
        }
        Ok((holes, bytes))
    }

    /// The words that a pending signal changes, and how. The memory is left as it was.
    fn trip(&mut self, signal: i32, stack_top: u32) -> Result<Vec<(u32, u32)>> {
        let set: TypedFunc<i32, i32> = self.instance.get_typed_func(&mut self.store, SET_INTERRUPT)?;
        let before = self.memory.data(&self.store).to_vec();
        ensure!(set.call(&mut self.store, signal)? == 0, "signal {signal} is not known to Python");
        let after = self.memory.data_mut(&mut self.store);
        let mut changes = Vec::new();
        for (index, (old, new)) in before.chunks_exact(4).zip(after.chunks_exact(4)).enumerate() {
            let address = u32::try_from(index * 4)?;
            if old != new && address >= stack_top {
                let (old, new) = (word(old), word(new));
                ensure!(old & new == old, "a pending signal clears bits at {address}");
                changes.push((address, old ^ new));
            }
        }
        after.copy_from_slice(&before);
        ensure!((2..=4).contains(&changes.len()), "a pending signal changes {} words", changes.len());
        Ok(changes)
    }
}

/// The flag `value` of `options`.
const OPTION_VALUE: i32 = 1 << 1;

/// The case of `outcome` that has a value.
const COMPLETED: u32 = 0;

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("a chunk of four"))
}

/// Stands in for the host: output goes nowhere, time does not pass, and of files there is only the
/// directory `/workspace`, empty.
fn stand_in(
    caller: &mut Caller<'_, ()>,
    name: &str,
    parameters: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let last = parameters.last().map_or(0, |value| value.i32().unwrap_or_default());
    match name {
        "write" | "[resource-drop]descriptor" => Ok(()),
        "now" | "resolution" => {
            results[0] = Val::I64(1_000_000_000);
            Ok(())
        }
        // Asked once for ever; a session's come with its first turn.
        "get-environment" | "get-arguments" => put(caller, last, &[4, 0]),
        "get-random-bytes" => {
            let length = parameters[0].unwrap_i64() as i32;
            let bytes = allocate(caller, length)?;
            put(caller, last, &[bytes, length])
        }
        "get-directories" => {
            let path = "/workspace";
            let (text, entry) = (allocate(caller, path.len() as i32)?, allocate(caller, 12)?);
            memory(caller)?.write(&mut *caller, text as usize, path.as_bytes())?;
            put(caller, entry, &[1, text, path.len() as i32])?;
            put(caller, last, &[entry, 1])
        }
        // A result: ok, and a descriptor-stat whose type is directory.
        "[method]descriptor.stat-at" => put(caller, last, &{
            let mut stat = [0; 26];
            stat[2] = 3;
            stat
        }),
        "[method]descriptor.metadata-hash-at" => put(caller, last, &[0; 6]),
        // An error: no-entry.
        "[method]descriptor.open-at" => put(caller, last, &[1, 20]),
        _ => Err(wasmtime::Error::msg("called, and the build has no stand-in for it")),
    }
}

fn memory(caller: &mut Caller<'_, ()>) -> wasmtime::Result<Memory> {
    let memory = caller.get_export("memory").and_then(|export| export.into_memory());
    memory.ok_or_else(|| wasmtime::Error::msg("the module has no memory"))
}

fn put(caller: &mut Caller<'_, ()>, address: i32, words: &[i32]) -> wasmtime::Result<()> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Ok(memory(caller)?.write(caller, address as u32 as usize, &bytes)?)
}

fn allocate(caller: &mut Caller<'_, ()>, bytes: i32) -> wasmtime::Result<i32> {
    let realloc = caller.get_export("cabi_realloc").and_then(|export| export.into_func());
    let realloc = realloc.ok_or_else(|| wasmtime::Error::msg("the module has no `cabi_realloc`"))?;
    realloc.typed::<(i32, i32, i32, i32), i32>(&caller)?.call(caller, (0, 0, 4, bytes))
}
