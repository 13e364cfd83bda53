"""The review that a worker is answering, for the log line of a worker that ended in it.

A worker that does not answer gunicorn's master for too long is aborted by SIGABRT. It can't write
about that itself: Python runs a signal handler between two bytecodes, and a worker that hangs in C
code reaches none. (uvicorn's worker has no handler, and ends at once.) So the worker keeps the
beginning of each review in memory that it shares with the master, and the master reads it when the
worker is gone. This works for every end: SIGABRT, SIGKILL, a crash, no memory left.
"""

import json
import mmap
import re
import struct
from collections.abc import Iterator
from typing import Any

import structlog

log = structlog.get_logger(__name__)

#: The API server writes uid, kind, name and namespace before the object: some 600 bytes.
_HEAD = struct.Struct("2048s")
_REQUEST = re.compile(rb'"request"\s*:\s*\{')
#: The first of the object's fields, so that it is in the beginning too.
_GENERATED = re.compile(rb'"generateName"\s*:\s*"([a-z0-9.-]{1,253})"')
#: Between two members of a JSON object, and between a key and its value.
_COMMA, _COLON = re.compile(r"\s*,?\s*"), re.compile(r"\s*:\s*")
#: No value that Kubernetes accepts is longer.
_LONGEST = 253
_decoder = json.JSONDecoder()


class UnderWay:
    """Shared by a worker and its master; made by the master before the worker starts."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _HEAD.size)

    def begin(self, body: bytes) -> None:
        """Remember the review with this body. Costs a copy of 2 KiB."""
        _HEAD.pack_into(self._memory, 0, body)

    def end(self) -> None:
        """Forget it: it is answered."""
        self._memory[0] = 0

    def report(self, pid: int) -> None:
        """In the master, after the worker ended: log the review that it was in, if any."""
        if self._memory[0]:
            head = self._memory[:].rstrip(b"\0")
            log.error("a worker ended in the middle of a review", pid=pid, **identity(head))


def identity(head: bytes) -> dict[str, str]:
    """Return uid, kind, namespace and name from the beginning of a review; nothing else of it.

    What is not in the beginning is empty. A name that the API server is still to generate ends
    with `*`.
    """
    found = {"uid": "", "kind": "", "namespace": "", "name": ""}
    for key, value in _members(head):
        text = value.get("kind") if key == "kind" and isinstance(value, dict) else value
        if key in found and isinstance(text, str):
            found[key] = text[:_LONGEST]
    generated = _GENERATED.search(head)
    if generated and not found["name"]:
        found["name"] = f"{generated[1].decode()}*"
    return found


def _members(head: bytes) -> Iterator[tuple[Any, Any]]:
    """Yield the keys and values of the request, up to where the beginning is cut off."""
    request = _REQUEST.search(head)
    if request is None:
        return
    text = head[request.end() :].decode(errors="replace")
    end = 0
    try:
        while True:
            key, end = _decoder.raw_decode(text, _skip(_COMMA, text, end))
            value, end = _decoder.raw_decode(text, _skip(_COLON, text, end))
            yield key, value
    except (ValueError, RecursionError):
        return


def _skip(what: re.Pattern[str], text: str, start: int) -> int:
    match = what.match(text, start)
    return match.end() if match else start
