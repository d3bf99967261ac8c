"""The official Python SDK against `agentkernel mcp serve`: what it validates, it validates here.

Usage: client.py BINARY MODE..., where a mode is `legacy`, `auto` or a version without connections.
"""

import asyncio
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

from mcp import Client, MCPError, StdioServerParameters


def value(result):
    assert not result.is_error, result
    return result.structured_content["value"]


async def use(client):
    """All that a client does, over whatever it is connected."""
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert {"execute", "session_create", "session_fork", "task_dispatch"} <= tools.keys(), tools.keys()
    assert tools["execute"].output_schema["properties"]["outcome"], tools["execute"]

    # The SDK checks structured results against their schemas.
    assert value(await client.call_tool("execute", {"code": "x = 20\nx + 22"})) == 42
    failed = await client.call_tool("execute", {"code": "1 / 0"})
    assert failed.is_error and "ZeroDivisionError" in failed.content[0].text, failed
    assert failed.structured_content["error"]["type"] == "ZeroDivisionError"
    wrong = await client.call_tool("execute", {"kode": "1"})
    assert wrong.is_error and "do not fit" in wrong.content[0].text, wrong
    try:
        await client.call_tool("no_such_tool", {})
    except MCPError as error:
        assert "there is no tool" in str(error), error
    else:
        raise AssertionError("an unknown tool was called")

    made = await client.call_tool("session_create", {"name": "other", "timeout_seconds": 5})
    assert made.structured_content["name"] == "other", made
    fork = await client.call_tool("session_fork", {"name": "fork"})
    assert not fork.is_error, fork
    assert value(await client.call_tool("execute", {"code": "x", "session": "fork"})) == 20
    assert (await client.call_tool("execute", {"code": "x", "session": "other"})).is_error
    listed = await client.call_tool("session_list", {})
    assert [one["name"] for one in listed.structured_content["sessions"]] == ["default", "fork", "other"], listed
    assert not (await client.call_tool("session_reset", {"session": "fork"})).is_error
    assert not (await client.call_tool("session_close", {"session": "fork"})).is_error

    heard = []

    async def on_progress(progress, total, message):
        heard.append(message)

    code = "import time\nfor n in range(4):\n    print(n)\n    time.sleep(0.15)"
    await client.call_tool("execute", {"code": code}, progress_callback=on_progress)
    assert "".join(message or "" for message in heard) == "0\n1\n2\n3\n", heard

    # A call that is given up is cancelled, and the session goes on.
    forever = client.call_tool("execute", {"code": "x = 0\nwhile True: pass"})
    try:
        await asyncio.wait_for(forever, 1)
    except TimeoutError:
        pass
    else:
        raise AssertionError("it ended")
    assert value(await asyncio.wait_for(client.call_tool("execute", {"code": "x"}), 30)) == 20

    await client.call_tool("execute", {"code": "open('a b.txt', 'w').write('text')\nopen('b.bin', 'wb').write(b'\\xff')"})
    resources = {str(one.uri) for one in (await client.list_resources()).resources}
    assert {"workspace:///a%20b.txt", "workspace:///b.bin"} <= resources, resources
    assert (await client.read_resource("workspace:///a%20b.txt")).contents[0].text == "text"
    assert (await client.read_resource("workspace:///b.bin")).contents[0].blob == "/w=="
    templates = (await client.list_resource_templates()).resource_templates
    assert "workspace:///{+path}" in {one.uri_template for one in templates}
    for uri in ["workspace:///../etc/passwd", "workspace:///absent", "file:///etc/passwd"]:
        try:
            await client.read_resource(uri)
        except MCPError:
            continue
        raise AssertionError(uri)

    dispatched = await client.call_tool("task_dispatch", {"code": "6 * 7", "name": "answer"})
    id = dispatched.structured_content["id"]
    ended = await client.call_tool("task_wait", {"id": id, "timeout_seconds": 60})
    assert ended.structured_content["result"] == 42, ended
    assert not (await client.call_tool("task_list", {"name": "answer"})).is_error
    assert (await client.call_tool("task_status", {"id": id})).structured_content["state"] == "succeeded"
    assert not (await client.call_tool("task_cancel", {"id": id})).is_error


async def over_stdio(binary, mode):
    with tempfile.TemporaryDirectory() as directory:
        arguments = ["mcp", "serve", f"--tasks={directory}/tasks.db", "--no-config"]
        parameters = StdioServerParameters(command=binary, args=arguments, env=dict(os.environ))
        async with Client(parameters, mode=mode) as client:
            await use(client)


async def solve(binary):
    """The task of examples/agent: two tools, real files, and something that is left."""
    project = pathlib.Path(__file__).resolve().parents[2]
    with open(project / "examples/agent/script.toml", "rb") as file:
        replies = [rule["reply"] for rule in tomllib.load(file)["rule"]]
    programs = [code for reply in replies for code in re.findall(r"```python\n(.*?)```", reply, re.DOTALL)]
    with tempfile.TemporaryDirectory() as directory:
        shutil.copy(project / "examples/data/sales.csv", directory)
        arguments = ["mcp", "serve", "--no-config", "--tools", str(project / "tools/prebuilt"), "--workspace", directory]
        async with Client(StdioServerParameters(command=binary, args=arguments, env=dict(os.environ))) as client:
            found = await client.call_tool("search_tools", {"words": "query CSV file"})
            assert "sql" in found.content[0].text, found
            # Where the agent answers, this looks at what it would say.
            for program in ["def FINAL(text): print('answer:', text)", *programs]:
                done = await client.call_tool("execute", {"code": program})
                assert not done.is_error, done
            answer = done.structured_content["stdout"]
            assert "2024-11 was the best month" in answer, answer
            report = (await client.read_resource("workspace:///months.md")).contents[0].text
            assert "- 2024-11: 11,293.26" in report, report
            assert "<svg" in (await client.read_resource("workspace:///months.svg")).contents[0].text


async def over_http(binary, mode):
    with tempfile.TemporaryDirectory() as directory:
        arguments = [binary, "mcp", "serve", "--http=0", f"--tasks={directory}/tasks.db", "--no-config"]
        if mode not in ("legacy", "auto"):
            # Without connections all clients have the same sessions.
            arguments += ["--sessions", f"{directory}/sessions"]
        server = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
        try:
            line = server.stderr.readline()
            url = re.search(r"http://\S+/mcp", line)
            assert url, line
            async with Client(url[0], mode=mode) as client:
                await use(client)
        finally:
            server.terminate()
            server.wait(30)


binary, *modes = sys.argv[1:]
asyncio.run(solve(binary))
print("python, a task with two tools on files: ok")
for mode in modes:
    asyncio.run(over_stdio(binary, mode))
    print(f"python, stdio, {mode}: ok")
    asyncio.run(over_http(binary, mode))
    print(f"python, http, {mode}: ok")
