// The official TypeScript SDK against `agentkernel mcp serve`. Usage: client.mjs BINARY

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const TOKEN = "a-token-of-the-test";

async function use(client) {
  const { tools } = await client.listTools();
  const names = tools.map((tool) => tool.name);
  assert(names.includes("execute") && names.includes("task_wait"), names.join());

  const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);
  const execute = (code, session, options) => call("execute", session ? { code, session } : { code }, options);

  // The SDK checks structured results against their schemas.
  const outcome = await execute("x = 20\nprint('out')\nx + 22");
  assert.equal(outcome.structuredContent.value, 42);
  assert.equal(outcome.content[0].text, "out\n42");
  const failed = await execute("1 / 0");
  assert(failed.isError && failed.content[0].text.includes("ZeroDivisionError"));
  await assert.rejects(call("no_such_tool", {}), /there is no tool/);

  await call("session_create", { name: "other" });
  await call("session_fork", { name: "fork" });
  assert.equal((await execute("x", "fork")).structuredContent.value, 20);
  assert.equal((await execute("'x' in globals()", "other")).structuredContent.value, false);
  const listed = await call("session_list", {});
  assert.deepEqual(listed.structuredContent.sessions.map((one) => one.name), ["default", "fork", "other"]);
  await call("session_reset", { session: "fork" });
  await call("session_close", { session: "fork" });

  let heard = "";
  const code = "import time\nfor n in range(4):\n    print(n)\n    time.sleep(0.15)";
  await execute(code, undefined, { onprogress: ({ message }) => (heard += message ?? "") });
  assert.equal(heard, "0\n1\n2\n3\n");

  const given = new AbortController();
  setTimeout(() => given.abort("not needed any more"), 500);
  await assert.rejects(execute("x = 0\nwhile True: pass", undefined, { signal: given.signal }));
  assert.equal((await execute("x")).structuredContent.value, 20);

  await execute("open('a b.txt', 'w').write('text')");
  const { resources } = await client.listResources();
  assert(resources.some((one) => one.uri === "workspace:///a%20b.txt"));
  const { contents } = await client.readResource({ uri: "workspace:///a%20b.txt" });
  assert.equal(contents[0].text, "text");
  await assert.rejects(client.readResource({ uri: "workspace:///../../etc/passwd" }));
  assert((await client.listResourceTemplates()).resourceTemplates.length >= 1);

  const { structuredContent: task } = await call("task_dispatch", { code: "6 * 7" });
  assert.equal((await call("task_wait", { id: task.id })).structuredContent.result, 42);
  assert.equal((await call("task_status", { id: task.id })).structuredContent.state, "succeeded");
  assert((await call("task_list", {})).structuredContent.tasks.length >= 1);
  assert(!(await call("task_cancel", { id: task.id })).isError);
}

const connect = async (transport) => {
  const client = new Client({ name: "test", version: "1" });
  await client.connect(transport);
  return client;
};

const binary = process.argv[2];
const directory = mkdtempSync(join(tmpdir(), "agentkernel-mcp-"));
const flags = [`--tasks=${join(directory, "tasks.db")}`, "--no-config"];
try {
  const local = await connect(
    new StdioClientTransport({ command: binary, args: ["mcp", "serve", ...flags], env: process.env }),
  );
  await use(local);
  await local.close();
  console.log("typescript, stdio: ok");

  const server = spawn(binary, ["mcp", "serve", "--http=0", ...flags], {
    env: { ...process.env, AGENTKERNEL_MCP_TOKEN: TOKEN },
    stdio: ["ignore", "ignore", "pipe"],
  });
  try {
    const said = await new Promise((resolve) => createInterface(server.stderr).once("line", resolve));
    const url = new URL(said.match(/http:\S+\/mcp/)[0]);
    const headers = (token) => ({ requestInit: { headers: { Authorization: `Bearer ${token}` } } });
    await assert.rejects(connect(new StreamableHTTPClientTransport(url, headers("another-token-of-the-test"))));
    const remote = await connect(new StreamableHTTPClientTransport(url, headers(TOKEN)));
    await use(remote);
    await remote.close();
    console.log("typescript, http: ok");
  } finally {
    server.kill();
  }
} finally {
  rmSync(directory, { recursive: true });
}
