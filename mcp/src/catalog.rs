//! The tools that a server has, as clients list them.

use agentkernel::Kernel;
use rmcp::model::{Tool, ToolAnnotations};
use schemars::JsonSchema;

use crate::arguments::*;
use crate::report::Executed;
use crate::search::Found;
use crate::sessions::SessionInfo;
use crate::{client, schema, tasks};

const EXECUTE: &str = "Runs Python (CPython 3.14 in a sandbox) and returns what it printed and the value of its last expression. \
Variables, functions and imports stay in the session for the next call. The working directory is /workspace. \
There is no network and there are no subprocesses, except through the modules below `tools`. \
A turn that is stopped at a limit leaves the session as it was before it.";

/// The tools: those of tasks where tasks are granted, the search where there is something to be found.
pub(crate) fn tools(kernel: &Kernel, has_tasks: bool) -> Vec<Tool> {
    let execute = Tool::new("execute", EXECUTE, schema::taken::<Execute>())
        .with_title("Run Python")
        .with_raw_output_schema(Executed::schema())
        .with_annotations(ToolAnnotations::new().read_only(false).destructive(true).open_world(true));
    let mut tools = vec![execute];
    let own = || ToolAnnotations::new().read_only(false).destructive(false).open_world(false);
    let look = || ToolAnnotations::new().read_only(true).open_world(false);
    let end = || ToolAnnotations::new().read_only(false).destructive(true).idempotent(true).open_world(false);
    if !kernel.tools().is_empty() {
        tools.push(tool::<SearchTools, Found>(
            "search_tools",
            "Find functions",
            "Finds functions that programs can import from `tools`, by what they do: their names, signatures and documentation.",
            look(),
        ));
    }
    tools.extend([
        tool::<CreateSession, SessionInfo>(
            "session_create",
            "Make a session",
            "Makes another session: an interpreter with variables of its own.",
            own(),
        ),
        tool::<Nothing, client::Sessions>(
            "session_list",
            "List sessions",
            "Lists the sessions there are.",
            look(),
        ),
        tool::<ForkSession, SessionInfo>(
            "session_fork",
            "Copy a session",
            "Copies a session with all it has in memory; both go on from here by themselves. Try something out in the copy.",
            own(),
        ),
        tool::<ResetSession, SessionInfo>(
            "session_reset",
            "Reset a session",
            "Puts a session back to its beginning: nothing is defined. A turn that runs in it is stopped.",
            end(),
        ),
        tool::<CloseSession, client::Closed>(
            "session_close",
            "Close a session",
            "Ends a session and forgets all it has. A turn that runs in it is stopped.",
            end(),
        ),
    ]);
    if has_tasks {
        let task = tasks::schema;
        tools.extend([
            tool::<Dispatch, ()>(
                "task_dispatch",
                "Start a task",
                "Runs Python in the background, in a session of its own without the variables of others, and returns its id at once. The task is kept until it has run, also when the server ends.",
                ToolAnnotations::new().read_only(false).destructive(true).open_world(true),
            )
            .with_raw_output_schema(task()),
            tool::<OneTask, ()>(
                "task_status",
                "Ask for a task",
                "Says how a task is: its state, progress, result or failure, and the end of what it printed.",
                look(),
            )
            .with_raw_output_schema(task()),
            tool::<WaitForTask, ()>(
                "task_wait",
                "Wait for a task",
                "Waits until a task has ended, or for as long as it should, and says how it is then.",
                look(),
            )
            .with_raw_output_schema(task()),
            tool::<ListTasks, ()>(
                "task_list",
                "List tasks",
                "Lists tasks, the newest first, without their results.",
                look(),
            )
            .with_raw_output_schema(tasks::list_schema()),
            tool::<OneTask, ()>(
                "task_cancel",
                "Cancel a task",
                "Cancels a task; one that runs is stopped soon after.",
                end(),
            )
            .with_raw_output_schema(task()),
        ]);
    }
    tools
}

fn tool<A: JsonSchema, R: JsonSchema>(
    name: &'static str,
    title: &str,
    description: &'static str,
    annotations: ToolAnnotations,
) -> Tool {
    Tool::new(name, description, schema::taken::<A>())
        .with_title(title)
        .with_raw_output_schema(schema::given::<R>())
        .with_annotations(annotations)
}
