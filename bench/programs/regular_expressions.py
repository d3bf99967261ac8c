"""Regular expressions: searching a log and rewriting it."""

import re

LOG = "\n".join(
    f"2025-11-{1 + i % 30:02} 10:{i % 60:02}:07 host{i % 9} GET /path/{i}?q={i * 31 % 997} {200 + i % 5} {i % 83}ms"
    for i in range(45_000)
)
LINE = re.compile(r"^(\d{4})-(\d\d)-(\d\d) \S+ (host[0-9]) (GET|POST) (\S+) (2\d\d) (\d+)ms$", re.MULTILINE)


def work():
    slow = sum(int(match[8]) for match in LINE.finditer(LOG) if match[7] == "204")
    renamed = re.sub(r"host(\d)", lambda match: f"node-{match[1]}", LOG)
    queries = re.findall(r"[?&]q=(1\d+)", LOG)
    return f"{slow} {len(renamed)} {len(queries)}"
