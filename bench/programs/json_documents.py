"""JSON: a document written and read again."""

import json

DOCUMENT = [
    {"id": i, "name": f"user {i}", "score": i / 7, "tags": ["a", "ü", None, True], "nested": {"key": [i, -i]}}
    for i in range(2_500)
]


def work():
    total = 0
    for _ in range(6):
        text = json.dumps(DOCUMENT)
        total += len(text) + sum(record["nested"]["key"][0] for record in json.loads(text))
    return total
