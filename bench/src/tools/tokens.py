import json

import tools


def found(query):
    return [item.name for item in tools.search(query, limit=5)]


print(json.dumps({
    "tools": repr(tools.describe()),
    "lines": "\n".join(repr(tools.describe(tool, "summary")) for tool in TOOLS),
    "searches": [
        {"shown": repr(tools.search(query, limit=5)), "found": wanted in found(query)} for query, wanted in TASKS
    ],
    "functions": [repr(tools.describe(name)) for name in FUNCTIONS],
}))
