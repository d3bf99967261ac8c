import asyncio
import base64
import http.client
import json
import sys
from time import perf_counter
from urllib.parse import urlsplit

from mcp import Client, StdioServerParameters

blob = bytes(range(256)) * 4096


async def add(client):
    return (await client.call_tool("add", {"a": 1, "b": 2})).structured_content["sum"]


async def give_back(client):
    result = await client.call_tool("bytes", {"base64": base64.b64encode(blob).decode()})
    return base64.b64decode(result.content[0].text)


async def measure(call, client, expected, rounds):
    times = []
    for warm in range(-3, rounds):
        start = perf_counter()
        result = await call(client)
        if warm >= 0:
            times.append(perf_counter() - start)
        assert result == expected
    return times


def bare(server, protocol, rounds):
    """The same additions with the least that HTTP needs, to tell what of the time is the SDK's."""
    url = urlsplit(server)
    meta = {"protocolVersion": protocol, "clientInfo": {"name": "bare", "version": "1"}, "clientCapabilities": {}}
    meta = {f"io.modelcontextprotocol/{name}": value for name, value in meta.items()}
    params = {"name": "add", "arguments": {"a": 1, "b": 2}, "_meta": meta}
    headers = {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": protocol,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "add",
    }
    connection = http.client.HTTPConnection(url.netloc)
    times = []
    for number in range(rounds):
        start = perf_counter()
        body = json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})
        connection.request("POST", url.path, body, headers)
        answer = json.loads(connection.getresponse().read())
        times.append(perf_counter() - start)
        assert answer["result"]["structuredContent"]["sum"] == 3
    return times


async def main(server, rounds):
    target = server
    over_http = server.startswith("http")
    if not over_http:
        target = StdioServerParameters(command=server, args=["--serve", "stdio"])
    async with Client(target) as client:
        adds = await measure(add, client, 3, rounds)
        blobs = await measure(give_back, client, blob, max(rounds // 10, 1))
        protocol = client.protocol_version
    least = bare(server, protocol, rounds) if over_http else []
    print(json.dumps({"protocol": protocol, "times": [adds, blobs], "bare": least}))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
