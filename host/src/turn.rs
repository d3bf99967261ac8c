//! A piece of code to run.

use crate::llm::LlmLimits;

/// One piece of code to run in a session.
///
/// ```
/// use agentkernel::Turn;
///
/// let turn = Turn::new("import sys; print(sys.argv)").file("hello.py").arguments(["hello.py", "x"]);
/// # let _ = turn;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub(crate) code: String,
    pub(crate) file: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) mode: Mode,
    pub(crate) wants_value: bool,
    pub(crate) is_last: bool,
    pub(crate) llm_limits: LlmLimits,
}

/// How a turn's code is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// A script: statements, of which a last expression gives the turn's value.
    #[default]
    Script,
    /// Interactive input: as a script, and the value is kept as `_`.
    Repl,
}

impl Turn {
    /// A turn that runs `code`, named `<turn>` in tracebacks.
    pub fn new(code: impl Into<String>) -> Self {
        Turn {
            code: code.into(),
            file: "<turn>".to_owned(),
            arguments: Vec::new(),
            mode: Mode::Script,
            wants_value: true,
            is_last: false,
            llm_limits: LlmLimits::none(),
        }
    }

    /// The name of the source in tracebacks, and `__file__` when it is not in angle brackets. One in
    /// angle brackets gets the turn's number from the second turn on: `<turn-2>`.
    pub fn file(mut self, name: impl Into<String>) -> Self {
        self.file = name.into();
        self
    }

    /// `sys.argv`, the program's name first. Without it the session's last one stays.
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.arguments = arguments.into_iter().map(Into::into).collect();
        self
    }

    /// How the code is read. Default: [`Mode::Script`].
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Asks for no value: the last expression is evaluated as any other. Default: its value is given.
    pub fn without_value(mut self) -> Self {
        self.wants_value = false;
        self
    }

    /// What this turn may ask of models, within the session's budget. Default: as much as the session.
    pub fn llm_limits(mut self, limits: LlmLimits) -> Self {
        self.llm_limits = limits;
        self
    }

    /// The program ends with this turn, as a process does: `atexit` handlers run, what the program holds
    /// is let go, and open files are flushed. (Files are flushed at the end of every turn.) Default: no.
    pub fn last(mut self) -> Self {
        self.is_last = true;
        self
    }
}

impl From<&str> for Turn {
    fn from(code: &str) -> Self {
        Turn::new(code)
    }
}

impl From<String> for Turn {
    fn from(code: String) -> Self {
        Turn::new(code)
    }
}
