//! `agentkernel session new`.

use std::fs;

use agentkernel::Overlay;

use super::config::Config;
use super::head::Head;
use super::state::{Files, kernel, settings};
use super::{BASE, WORKSPACE};
use crate::arguments::NewSession;
use crate::failure::{Failure, Result};
use crate::run::CONTEXT;
use crate::store::Store;
use crate::{files, run, task, trust, warm};

pub fn run(store: &Store, new: NewSession) -> Result<i32> {
    store.check(&new.name)?;
    let mut config = Config::of_process()?;
    // All that can be wrong is told now, and not at the first turn.
    let (settings, place) = settings(&new, true)?;
    if let (true, Files::Directory(directory)) = (new.overlay, &place) {
        Overlay::over(directory)?;
    }
    let context = run::context(&new.data.contexts, &settings)?;
    let writes = match new.overlay {
        true => trust::Writes::Apart,
        false => trust::Writes::Overlayable,
    };
    trust::apart(&settings, &new.data.contexts, writes)?;
    config.context = context.map(|context| context.mark().clone());
    let kernel = kernel(&settings, new.talk)?;
    if let Some(image) = &new.start.image {
        let image = warm::image(&kernel, &settings, image)?;
        config.image_context = image.context_mark(CONTEXT).cloned();
        config.check_beginning(config.context.as_ref())?;
    }
    // A directory that is not there is an error too, and so is a limit that is too small.
    let mut session = kernel.session().grants(settings.grants.clone());
    if let Some(tasks) = task::granted(&new.tasks, &settings)? {
        session = session.tasks(&tasks);
    }
    session.start()?;
    store.make(&new.name, |directory| {
        let cannot =
            |error: std::io::Error| Failure::new(format!("cannot make the session `{}`: {error}", new.name));
        if let Some(image) = new.start.image.as_ref().filter(|image| warm::is_file(image)) {
            fs::copy(image, directory.join(BASE)).map_err(cannot)?;
        }
        if place == Files::Own && !new.overlay {
            files::private(&directory.join(WORKSPACE)).map_err(cannot)?;
        }
        config.write(directory)?;
        Head::default().write(directory)
    })?;
    Ok(0)
}
