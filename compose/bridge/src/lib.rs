//! What a host gives the interpreter, in a component: its streams, its waiting, the Python modules of
//! the tools, and calls of them.
//!
//! This module is the same in every composed program. What differs is put in when one is made: the
//! functions of [`composed`], which are generated, and the data that they load.

mod composed;
mod console;
mod data;
mod lift;
mod lower;
mod operations;
mod tools;

wit_bindgen::generate!({ world: "agentkernel:composed/bridge", path: ["../../wit", "../wit"], generate_all });

struct Bridge;

export!(Bridge);

impl exports::agentkernel::composed::program::Guest for Bridge {
    fn start() -> exports::agentkernel::composed::program::Setup {
        use wasi::cli::{environment, terminal_stdout};
        let program = data::program();
        exports::agentkernel::composed::program::Setup {
            sources: program
                .sources
                .iter()
                .map(|(file, code)| exports::agentkernel::composed::program::Source {
                    code: (*code).to_owned(),
                    file: (*file).to_owned(),
                })
                .collect(),
            argv: environment::get_arguments(),
            environment: environment::get_environment(),
            modules: program.provided.iter().map(|name| (*name).to_owned()).collect(),
            // A person wants to see each line, a pipe wants many at once.
            line_buffered: terminal_stdout::get_terminal_stdout().is_some(),
        }
    }

    fn exit(code: i32) -> Result<(), ()> {
        // As a process has it: the lower eight bits.
        wasi::cli::exit::exit_with_code(code as u8);
        if code == 0 {
            Ok(())
        } else {
            Err(())
        }
    }
}
