"""Webhooks that say yes without looking: the least that two webhooks can cost a pod's creation.

The mutating one adds the same label that ours adds in ambient mode.
"""

import base64
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_UID = re.compile(rb'"uid":"([0-9a-f-]{36})"')
_PATH = "/metadata/labels/istio.io~1dataplane-mode"
_PATCH = base64.b64encode(
    json.dumps([{"op": "add", "path": _PATH, "value": "ambient"}]).encode()
).decode()
_START = '{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"%s",'
_REST = {
    "/mutate": f'"allowed":true,"patchType":"JSONPatch","patch":"{_PATCH}"}}}}',
    "/validate": '"allowed":true}}',
}


async def app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """Answer one review, by its path; the uid is the first in it."""
    chunks, more = [], True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    found = _UID.search(b"".join(chunks))
    uid = found[1].decode() if found else ""
    body = (_START % uid + _REST[scope["path"]]).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
