//! Tools in great numbers: the model is told how they are found, and nothing of those that it does not need.

use super::*;

/// Subjects and what is done with them: a hundred tools with as many functions as services of this kind have.
const SUBJECTS: [&str; 20] = [
    "invoice",
    "customer",
    "shipment",
    "ticket",
    "repository",
    "calendar",
    "message",
    "contract",
    "employee",
    "product",
    "warehouse",
    "campaign",
    "payment",
    "document",
    "meeting",
    "sensor",
    "vehicle",
    "recipe",
    "patient",
    "course",
];
const SYSTEMS: [&str; 5] = ["north", "south", "east", "west", "central"];

/// A tool as a service of a business is: records with documented fields, functions to list, find, make, change.
fn tool(system: &str, subject: &str) -> Tool {
    let wit = format!(
        "
        /// One {subject} as the {system} system keeps it, with all that other systems may know of it.
        record {subject} {{
            /// The number by which the {subject} is known in the {system} system, unique and never used again.
            id: u64,
            /// What people call the {subject}, in their own language, of at most two hundred characters.
            name: string,
            /// The state of the {subject}: `open`, `waiting`, `closed` or `archived`.
            state: string,
            /// When the {subject} was made, as RFC 3339 writes it, in UTC.
            created: string,
            /// When somebody last changed the {subject}, as RFC 3339 writes it, in UTC.
            changed: string,
            /// Who answers for the {subject}; nobody where it is absent.
            owner: option<string>,
            /// Words by which the {subject} is found, in any order.
            labels: list<string>,
        }}
        /// Lists each {subject} of the {system} system, the newest first. With `state` only those in that state, with
        /// `owner` only those of that person. At most `limit`, 50 by default; `after` is the id with which the
        /// page before ended.
        list-{subject}: func(state: option<string>, owner: option<string>, limit: option<u32>, after: option<u64>) -> result<list<{subject}>, string>;
        /// Finds each {subject} of the {system} system that has the words in its name or labels, the best match first.
        find-{subject}: func(words: string, limit: option<u32>) -> result<list<{subject}>, string>;
        /// Gives one {subject} of the {system} system by its id. It is an error if there is none.
        get-{subject}: func(id: u64) -> result<{subject}, string>;
        /// Makes a {subject} in the {system} system and gives its id. The name may not be empty; labels are made where
        /// they are new.
        create-{subject}: func(name: string, owner: option<string>, labels: list<string>) -> result<u64, string>;
        /// Changes what is given of a {subject} in the {system} system, and leaves the rest as it is.
        update-{subject}: func(id: u64, name: option<string>, state: option<string>, owner: option<string>) -> result<{subject}, string>;
        /// Says how many of each state there are in the {system} system, and how many were made in the last days.
        count-{subject}: func(days: option<u32>) -> result<list<tuple<string, u64>>, string>;
        "
    );
    let name = format!("{system}_{subject}");
    let mut tool = Tool::functions(&name, wit).summary(format!("Each {subject} of the {system} system."));
    let of = name.clone();
    tool = tool.function(format!("count-{subject}"), move |(_,): (Option<u32>,)| {
        Ok::<_, String>(vec![("open".to_owned(), of.len() as u64), ("closed".to_owned(), 7)])
    });
    for function in ["list", "find", "get", "create", "update"] {
        let refuse = |_: serde_json::Value| Err::<(), _>("not now".to_owned());
        tool = tool.function(format!("{function}-{subject}"), refuse);
    }
    tool
}

#[test]
fn a_task_over_a_hundred_tools_needs_a_small_part_of_what_all_schemas_would() {
    let sent = Arc::new(Mutex::new(Vec::<usize>::new()));
    let told = Arc::new(Mutex::new(0));
    let (counted, about_tools) = (Arc::clone(&sent), Arc::clone(&told));
    let llm = model(move |last, request| {
        let system = request.system.as_deref().unwrap();
        let messages: usize = request.messages.iter().map(|message| message.content.len()).sum();
        counted.lock().unwrap().push(system.len() + messages);
        match request.messages.len() {
            1 => {
                assert!(
                    system.contains("There are 100 tools.") && !system.contains("west_sensor"),
                    "{system}"
                );
                python("import tools\ntools.search('count shipment south', limit=3)")
            }
            3 => {
                assert!(last.contains("south_shipment.count_shipment"), "{last}");
                *about_tools.lock().unwrap() += last.len();
                python("tools.describe('south_shipment.count_shipment')")
            }
            5 => {
                assert!(last.contains("def count_shipment("), "{last}");
                *about_tools.lock().unwrap() += last.len();
                python(
                    "from tools.south_shipment import count_shipment\nFINAL(dict(count_shipment(30))['open'])",
                )
            }
            _ => unreachable!("{request:?}"),
        }
    });
    let mut kernel = builder().llm(llm);
    for system in SYSTEMS {
        for subject in SUBJECTS {
            kernel = kernel.tool(tool(system, subject));
        }
    }
    let kernel = kernel.build().unwrap();
    assert_eq!(kernel.tools().len(), 100);
    let mut agent = agent(&kernel, |agent| agent);
    let outcome = agent.execute_task_blocking("How many shipments of the south are open?").unwrap();
    assert_eq!(answered(&outcome), "south_shipment".len().to_string());

    // All schemas, in the form in which programs see them, which is shorter than JSON schemas.
    let listing = "import tools\n'\\n\\n'.join(tools.describe(item.name, detail='full')\n    for item in __import__('tools._index')._index.ITEMS if '.' in item.name)";
    let length = format!("len({})", listing.lines().skip(1).collect::<Vec<_>>().join("\n"));
    let outcome = agent.execute_task_blocking(AgentTask::code(format!("import tools\n{length}"))).unwrap();
    let listing: usize = answered(&outcome).parse().unwrap();
    let sent = sent.lock().unwrap();
    let (calls, all) = (sent.len(), sent.iter().sum::<usize>());
    println!("{calls} requests of {all} bytes in all; all schemas are {listing} bytes in each");
    println!("of that about tools: {} bytes", told.lock().unwrap());
    assert!(listing > 300_000, "{listing}");
    // The whole task, all that was sent in all requests together, against all schemas sent once.
    assert!(all * 100 <= 3 * listing, "{all} of {listing}");
    assert_eq!(calls, 3);
    // What was told of tools, once.
    assert!(*told.lock().unwrap() * 100 <= listing);
}
