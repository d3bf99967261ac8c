//! `agentkernel config`: the configuration shown, checked and begun. All of it is made of the schema of the types that the
//! file is read into, so a key is described in one place.

mod check;
mod init;
mod keys;
#[cfg(test)]
mod page;
mod show;

use crate::arguments::ConfigAction;
use crate::failure::Result;

pub fn run(action: ConfigAction) -> Result<i32> {
    match action {
        ConfigAction::Show(show) => show::run(*show),
        ConfigAction::Check { file, engine } => check::run(file, engine),
        ConfigAction::Init { file, force } => init::run(&file, force),
    }
}
