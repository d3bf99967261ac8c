//! One session of a run's tree: what its programs are given, and the steps that are made in it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::watch;

use super::prompt;
use super::run::Run;
use super::service::{NodeWatch, RlmService};
use crate::console::OutputHandler;
use crate::context::{Context, Contexts};
use crate::llm::{Budget, Llm};
use crate::replay::Track;
use crate::service::{Room, Taken};
use crate::session::SessionBuilder;
use crate::steps::{self, At, Done, OnOutput, OnText, Setup, Steps, without_reserve};
use crate::trajectory::{ContextPart, Event};
use crate::{Grants, Result, Session};

/// Files of a context that a trajectory names.
const MOST_FILES: usize = 1000;

/// Where a node is in the tree.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub name: String,
    pub depth: u32,
    pub parent: Option<String>,
    /// The call that started it.
    pub call: Option<String>,
}

impl Place {
    /// The top of the tree.
    pub fn root() -> Self {
        Place { name: "0".into(), depth: 0, parent: None, call: None }
    }
}

/// What a node is to do.
pub(crate) struct Task {
    pub place: Place,
    pub question: String,
    pub model: String,
    pub grants: Grants,
    pub budget: Budget,
    pub context: Option<Context>,
    /// What its context takes of its parent's memory for texts.
    pub _room: Option<Taken>,
    /// What enters the loop, if the run can be run again.
    pub track: Option<Track>,
}

/// What the session of a root is given beside what all are.
pub(crate) type Extend = Box<dyn Fn(SessionBuilder) -> SessionBuilder + Send + Sync>;

/// A session of the tree.
pub(crate) struct Node {
    pub run: Arc<Run>,
    pub task: Task,
    /// The run's models, with tokens of its own for what they are not shown.
    llm: Llm,
    /// What its steps and programs may use: the last answer is paid for by what is held back.
    pub work: Budget,
    pub at: Arc<At>,
    pub children: AtomicU64,
    pub contexts: Contexts,
    /// For texts of children.
    pub room: Room,
    extend: Option<Extend>,
}

/// Who sees a conversation that goes on after an answer, and ends what goes on in it.
pub(crate) struct Audience {
    pub interrupted: watch::Receiver<bool>,
    pub on_text: OnText,
    pub on_output: OnOutput,
}

impl Node {
    pub fn new(run: Arc<Run>, task: Task) -> Arc<Self> {
        Self::extended(run, task, None)
    }

    pub fn extended(run: Arc<Run>, task: Task, extend: Option<Extend>) -> Arc<Self> {
        let work = task.budget.child(without_reserve(&task.budget));
        let contexts = task.context.iter().map(|context| ("context".to_owned(), context.clone()));
        let contexts = Contexts::new(contexts.collect());
        Arc::new(Node {
            llm: run.llm.clone().scoped(),
            at: At::new(&task.place.name),
            run,
            task,
            work,
            children: AtomicU64::new(0),
            contexts,
            room: Room::default(),
            extend,
        })
    }

    /// Goes on until there is an answer or a limit is reached.
    pub fn answer(self: Arc<Self>) -> Pin<Box<dyn Future<Output = Result<Done>> + Send>> {
        // A child's future is part of its parent's.
        Box::pin(async move {
            let mut steps = self.question();
            let question = &self.task.question;
            steps.answer(question, &prompt::first(question)).await
        })
    }

    /// The steps that answer its question, of which none is made yet.
    pub fn question(self: &Arc<Self>) -> Steps {
        self.tell(&self.task.question);
        let lasting = match self.task.place.depth {
            0 => steps::prompt::lasting(self.run.kernel.inner()),
            // Nothing of the parent's.
            _ => String::new(),
        };
        let context = self.task.context.as_ref();
        let system = prompt::system(context, self.can_recurse(), &self.run.tools(), &lasting);
        self.steps(system, None)
    }

    /// Records that it begins.
    pub fn tell(&self, question: &str) {
        let Place { name, depth, parent, call } = self.task.place.clone();
        self.run.record(|| Event::Node {
            node: name,
            parent,
            call,
            depth,
            question: question.to_owned(),
            model: self.task.model.clone(),
            context: self.context_parts(),
        });
    }

    /// Whether its programs may start sessions.
    pub fn can_recurse(&self) -> bool {
        self.task.budget.left().depth != Some(0)
    }

    fn context_parts(&self) -> Vec<ContextPart> {
        let files = self.task.context.iter().flat_map(Context::files).take(MOST_FILES);
        let part = |(name, bytes): (&str, std::ops::Range<u64>)| ContextPart {
            name: name.to_owned(),
            bytes: bytes.end - bytes.start,
            chars: None,
        };
        files.map(part).collect()
    }

    /// Steps in its session, for a model that is told `system`.
    pub fn steps(self: &Arc<Self>, system: String, audience: Option<Audience>) -> Steps {
        let node = Arc::clone(self);
        let (mut on_text, mut on_output, mut interrupted) = (None, None, None);
        if let Some(audience) = audience {
            (on_text, on_output) = (Some(audience.on_text), Some(audience.on_output));
            interrupted = Some(audience.interrupted);
        }
        Steps::new(Setup {
            kind: if interrupted.is_some() { "agent" } else { "rlm" },
            depth: self.task.place.depth,
            at: Arc::clone(&self.at),
            teller: self.run.teller.clone(),
            limits: self.run.settings.steps,
            llm: self.llm.clone(),
            model: self.task.model.clone(),
            budget: self.task.budget.clone(),
            work: self.work.clone(),
            track: self.task.track.clone(),
            start: Box::new(move |number, output| node.start(number, output)),
            has_context: self.task.context.is_some(),
            system,
            on_text,
            on_output,
            interrupted,
        })
    }

    /// A fresh session, the `number`-th of the node.
    fn start(self: &Arc<Self>, number: u64, output: OutputHandler) -> Result<Session> {
        let mut session = self.run.kernel.session();
        if let Some(context) = &self.task.context {
            session = session.context(context.clone());
        }
        // Nothing of the parent's.
        if self.task.place.depth > 0 {
            session = session.without_lasting();
        }
        if let Some(extend) = &self.extend {
            session = extend(session);
        }
        session
            .grants(self.task.grants.clone())
            .llm(self.llm.clone())
            .budget(self.work.clone())
            .plan(&self.run.plan, format!("{}/{number}", self.task.place.name))
            .watch(Arc::new(NodeWatch::new(Arc::clone(self))))
            .service(Arc::new(RlmService::new(Arc::clone(self))))
            .on_output(output)
            .start()
    }
}
