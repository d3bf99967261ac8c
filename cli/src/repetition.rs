//! Making a run happen again: `--record`, `--replay`, `--deterministic`.

use agentkernel::rlm::RlmBuilder;
use agentkernel::{Recording, Replaying, SessionBuilder};

use crate::arguments::Repetition;
use crate::failure::Result;

/// What a run is recorded in, or replayed from.
#[derive(Default)]
pub struct Again {
    recording: Option<Recording>,
    replaying: Option<Replaying>,
    seed: Option<u64>,
}

impl Again {
    pub fn open(flags: &Repetition) -> Result<Self> {
        Ok(Again {
            recording: flags.record.as_deref().map(Recording::create).transpose()?,
            replaying: flags.replay.as_deref().map(Replaying::open).transpose()?,
            seed: flags.deterministic,
        })
    }

    /// What is replayed: it says which models there are.
    pub fn replaying(&self) -> Option<&Replaying> {
        self.replaying.as_ref()
    }

    pub fn session(&self, mut builder: SessionBuilder) -> SessionBuilder {
        if let Some(seed) = self.seed {
            builder = builder.deterministic(seed);
        }
        if let Some(recording) = &self.recording {
            builder = builder.record(recording);
        }
        match &self.replaying {
            Some(replaying) => builder.replay(replaying),
            None => builder,
        }
    }

    pub fn run(&self, mut builder: RlmBuilder) -> RlmBuilder {
        if let Some(seed) = self.seed {
            builder = builder.deterministic(seed);
        }
        if let Some(recording) = &self.recording {
            builder = builder.record(recording);
        }
        match &self.replaying {
            Some(replaying) => builder.replay(replaying),
            None => builder,
        }
    }

    /// Ends the recording, or checks that the replay was one.
    pub fn finish(&self) -> Result<()> {
        self.end_recording()?;
        Ok(self.replaying.as_ref().map_or(Ok(()), Replaying::finish)?)
    }

    /// Ends the recording, if there is one.
    pub fn end_recording(&self) -> Result<()> {
        Ok(self.recording.as_ref().map_or(Ok(()), Recording::finish)?)
    }
}
