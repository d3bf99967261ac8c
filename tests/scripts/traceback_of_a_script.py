# exit: 1
import json


def outer(text):
    return inner(text)


def inner(text):
    try:
        return json.loads(text)
    except ValueError as error:
        raise RuntimeError("cannot read it") from error


outer("{")
