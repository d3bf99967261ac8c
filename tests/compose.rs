//! Programs composed with their tools, run by wasmtime and its own WASI, without AgentKernel.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Instant;

use agentkernel::{Composition, Tool};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::p2::bindings::sync::Command;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::default);

/// A program that runs what it is given as its first argument, so that one compilation serves all
/// tests.
const PROGRAM: &str = "import sys\nexec(compile(sys.argv[1], 'given.py', 'exec'))\n";

fn echo() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/echo.wasm")
}

static COMPOSED: LazyLock<Component> = LazyLock::new(|| {
    let start = Instant::now();
    let bytes = Composition::new(PROGRAM)
        .file("program.py")
        .tool(Tool::new("echo", echo()))
        .tool(Tool::new("again", echo()))
        .module("helpers", "from helpers.parts import double\n", true)
        .module(
            "helpers.parts",
            "def double(x):\n    return x + x\n\ndef fail():\n    raise LookupError('no')\n",
            false,
        )
        .build()
        .unwrap();
    eprintln!("composed {} bytes in {:?}", bytes.len(), start.elapsed());
    if let Ok(file) = std::env::var("KEEP") {
        std::fs::write(file, &bytes).unwrap();
    }
    let start = Instant::now();
    let component = Component::new(&ENGINE, bytes).unwrap();
    eprintln!("compiled in {:?}", start.elapsed());
    component
});

#[derive(Debug, Default, PartialEq)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs a component as `wasmtime run` does.
fn run(component: &Component, arguments: &[&str], stdin: &str, directory: Option<&Path>) -> Ended {
    let (stdout, stderr) = (MemoryOutputPipe::new(1 << 20), MemoryOutputPipe::new(1 << 20));
    let mut wasi = WasiCtxBuilder::new();
    wasi.arg("program.wasm")
        .args(arguments)
        .env("GREETING", "hello")
        .stdin(MemoryInputPipe::new(stdin.to_owned()))
        .stdout(stdout.clone())
        .stderr(stderr.clone());
    if let Some(directory) = directory {
        wasi.preopened_dir(directory, "/workspace", FsPerms::ReadWrite).unwrap();
    }
    let mut linker = Linker::<State>::new(&ENGINE);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker).unwrap();
    let mut store = Store::new(&ENGINE, State { wasi: wasi.build(), table: ResourceTable::new() });
    let start = Instant::now();
    let command = Command::instantiate(&mut store, component, &linker).unwrap();
    let result = command.wasi_cli_run().call_run(&mut store);
    eprintln!("ran in {:?}", start.elapsed());
    let code = match result {
        Ok(Ok(())) => 0,
        Ok(Err(())) => 1,
        Err(error) => error.downcast::<I32Exit>().unwrap_or_else(|error| panic!("{error:?}")).0,
    };
    drop(store);
    let text = |pipe: MemoryOutputPipe| String::from_utf8(pipe.contents().to_vec()).unwrap();
    Ended { code, stdout: text(stdout), stderr: text(stderr) }
}

fn given(code: &str) -> Ended {
    run(&COMPOSED, &[code], "", None)
}

#[test]
fn a_program_prints() {
    assert_eq!(given("print('hi')"), Ended { stdout: "hi\n".into(), ..Ended::default() });
    let ended = given("from tools.echo.values import *\nprint(add(1, 2))");
    assert_eq!(ended, Ended { stdout: "3\n".into(), ..Ended::default() });
}
