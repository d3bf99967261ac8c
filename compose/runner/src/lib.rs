//! What the world outside starts: runs the program's turns in the interpreter, and says how it ended.

use agentkernel::composed::program;
use agentkernel::kernel::console::{self, Output};
use agentkernel::kernel::guest::{self, Options, Outcome, Settings, Turn};

wit_bindgen::generate!({ world: "agentkernel:composed/runner", path: ["../../wit", "../wit"], generate_all });

struct Runner;

export!(Runner);

impl exports::wasi::cli::run::Guest for Runner {
    fn run() -> Result<(), ()> {
        let start = program::start();
        let last = start.sources.len() - 1;
        let mut settings = Some(Settings {
            environment: start.environment,
            import_paths: Vec::new(),
            modules: start.modules,
            line_buffered: start.line_buffered,
        });
        for (number, source) in start.sources.into_iter().enumerate() {
            let outcome = guest::run(&Turn {
                code: source.code,
                file: source.file,
                argv: start.argv.clone(),
                options: if number == last { Options::LAST } else { Options::empty() },
                settings: settings.take(),
            });
            match outcome {
                Outcome::Completed(_) => {}
                Outcome::Raised(exception) => {
                    console::write(Output::Stderr, exception.traceback.as_bytes());
                    return program::exit(1);
                }
                Outcome::Exited(code) => return program::exit(code),
            }
        }
        program::exit(0)
    }
}
