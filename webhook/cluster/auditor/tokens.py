"""Asks the API server who a bearer token belongs to, and whether this user may read a URL.

kube-rbac-proxy does the same. It needs the rights of the ClusterRole system:auth-delegator.
"""

import hashlib
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TypeVar

from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, TooManyRequests, Unauthorized

from webhook.cluster.api.connection import Cluster, Json, path
from webhook.serving.table import source_key

#: Seconds for which a review of a token is valid, and the maximum number of cached tokens.
_COUNTS, _MOST = 30.0, 1_024
#: The maximum number of unknown tokens from one client address within so many seconds, and the
#: maximum number of addresses that are counted. IPv6 addresses count by network of 64 bits.
TRIES, WITHIN, _MOST_SOURCES = 10, 60.0, 4_096
_T = TypeVar("_T")
_UNKNOWN = "the API server does not know this token, or it has expired"


class TokenReviewer:
    """Admits the users who may `get` a nonResourceURL. Threads may share it."""

    def __init__(
        self, cluster: Cluster, url: str, role: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`role` is the ClusterRole with the right; a message names it."""
        self._cluster = cluster
        self._url, self._role = url, role
        self._clock = clock
        self._lock = threading.Lock()
        #: Why the owner of a token is not admitted, and since when this is known. Unknown tokens
        #: are kept apart, so that they can't displace tokens of users.
        self._known: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._tries: OrderedDict[bytes, deque[float]] = OrderedDict()

    def admit(self, header: str, client: str) -> None:
        """Admit the bearer of a token, or raise 401, 403 or 429. May raise `ClusterError`.

        `client` is the address of the caller. It may try only a limited number of unknown tokens,
        so that it can't let the API server review tokens without end.
        """
        kind, _, token = header.partition(" ")
        token = token.strip()
        if kind.lower() != "bearer" or not token:
            raise _unauthorized(
                "send a token of this cluster in the header Authorization: Bearer TOKEN"
            )
        # Keep a digest so that no token stays in memory.
        key = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        now = self._clock()
        with self._lock:
            at, why = self._known.get(key, (0.0, ""))
            is_user = bool(at)
            if now - self._unknown.get(key, -_COUNTS) < _COUNTS:
                raise _unauthorized(_UNKNOWN)
            if not is_user:
                self._count(client, now)
        if not is_user or now - at > _COUNTS:
            why = self._reviewed(key, token, client, now)
        if why:
            raise Forbidden(why)

    def _reviewed(self, key: bytes, token: str, client: str, now: float) -> str:
        """Review a token, and return why its owner is not admitted; empty if admitted."""
        why = self._review(token)
        with self._lock:
            if why is None:
                self._known.pop(key, None)
                _keep(self._unknown, key, now)
                raise _unauthorized(_UNKNOWN)
            _keep(self._known, key, (now, why))
            # Only unknown tokens count.
            tries = self._tries.get(source_key(client))
            if tries and now in tries:
                tries.remove(now)
        return why

    def _count(self, client: str, now: float) -> None:
        """Count a token that is not known yet. Raise 429 if the address has tried too many."""
        source = source_key(client)
        tries = self._tries.setdefault(source, deque())
        self._tries.move_to_end(source)
        if len(self._tries) > _MOST_SOURCES:
            self._tries.popitem(last=False)
        while tries and now - tries[0] >= WITHIN:
            tries.popleft()
        if len(tries) >= TRIES:
            raise TooManyRequests(
                "too many unknown tokens from this address",
                retry_after=int(tries[0] + WITHIN - now) + 1,
            )
        tries.append(now)

    def _review(self, token: str) -> str | None:
        """Return why the bearer of a token is not admitted; None if the token is unknown."""
        status = self._ask("authentication.k8s.io/v1", "TokenReview", {"token": token})
        if not status.get("authenticated"):
            return None
        user = status.get("user") or {}
        spec = {
            "user": user.get("username", ""),
            "uid": user.get("uid", ""),
            "groups": user.get("groups") or [],
            "extra": user.get("extra") or {},
            "nonResourceAttributes": {"path": self._url, "verb": "get"},
        }
        status = self._ask("authorization.k8s.io/v1", "SubjectAccessReview", spec)
        if status.get("allowed"):
            return ""
        return (
            f"{spec['user']} is not allowed to get the nonResourceURL {self._url}: "
            f"bind the ClusterRole {self._role} to this user"
        )

    def _ask(self, version: str, kind: str, spec: Json) -> Json:
        where = path(version, f"{kind.lower()}s")
        made, _ = self._cluster.create(
            where, {"apiVersion": version, "kind": kind, "metadata": {}, "spec": spec}
        )
        status: Json = made.get("status") or {}
        return status


def _keep(cache: OrderedDict[bytes, _T], key: bytes, value: _T) -> None:
    cache[key] = value
    cache.move_to_end(key)
    if len(cache) > _MOST:
        cache.popitem(last=False)


def _unauthorized(why: str) -> Unauthorized:
    return Unauthorized(why, www_authenticate=WWWAuthenticate("bearer", {"realm": "mendix-mesh"}))
