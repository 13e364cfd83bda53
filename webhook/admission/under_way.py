"""Stores the review that a worker is answering, for the log if the worker ends in the middle of it.

If a worker does not answer gunicorn's master for too long, the master ends it with SIGABRT. The
worker can't log this itself: Python runs a signal handler between two bytecodes, and a worker that
hangs in C code reaches none. (uvicorn's worker has no handler and ends immediately.) So the worker
copies the beginning of each review to memory that it shares with the master. The master reads it
after the worker has ended. This works for each cause: SIGABRT, SIGKILL, a crash, or no memory left.
"""

import json
import mmap
import re
import struct
from collections.abc import Iterator
from typing import Any

from webhook.log import Log

log = Log(__name__)

#: The API server writes uid, kind, name and namespace before the object. They need about 600 bytes.
_HEAD = struct.Struct("2048s")
_REQUEST = re.compile(rb'"request"\s*:\s*\{')
#: One of the first fields of an object, so it is in this beginning too.
_GENERATED = re.compile(rb'"generateName"\s*:\s*"([a-z0-9.-]{1,253})"')
#: The separators in JSON: between two members of an object, and between a key and its value.
_COMMA, _COLON = re.compile(r"\s*,?\s*"), re.compile(r"\s*:\s*")
#: Kubernetes accepts no longer values.
_LONGEST = 253
_decoder = json.JSONDecoder()


class UnderWay:
    """Shared by a worker and the master. The master creates it before the worker starts."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _HEAD.size)

    def begin(self, body: bytes) -> None:
        """Store the review with this body. This copies 2 KiB."""
        _HEAD.pack_into(self._memory, 0, body)

    def end(self) -> None:
        """Delete the review, because it is answered."""
        self._memory[0] = 0

    def report(self, pid: int) -> None:
        """Log the interrupted review, if any. The master calls this after the worker ended."""
        if self._memory[0]:
            head = self._memory[:].rstrip(b"\0")
            log.error("a worker ended in the middle of a review", pid=pid, **identity(head))


def identity(head: bytes) -> dict[str, str]:
    """Return only uid, kind, namespace and name from the beginning of a review.

    A value that is not in the beginning is empty. A name that the API server has yet to generate
    ends with `*`.
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
    """Yield the keys and values of the request until the text is cut off."""
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
