"""Controls who may read the pages, and what browsers may do with them.

Pages change nothing and keep no session, so requests can't be forged with an effect. The remaining
risk is that a foreign page reads them. It can use a DNS name that leads to this server (DNS
rebinding), which the Host header shows. Or it can send requests from the reader's browser, which
the Fetch metadata headers show.
"""

import hashlib
import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from urllib.parse import urlsplit

from flask import Flask, Response, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, MethodNotAllowed, Unauthorized

from webhook.cluster.api.connection import Cluster, Json, path

#: Names of the local machine. Any port is allowed.
LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
_METHODS = ("GET", "HEAD")
#: The nonResourceURL that a reader must be allowed to `get`.
URL = "/mendix-mesh"
#: Seconds for which a review of a token is valid, and the maximum number of cached tokens.
_COUNTS, _MOST = 30.0, 1_024

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "style-src 'self'",
            "script-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def guard(app: Flask, hosts: Collection[str], reviewer: "TokenReviewer | None" = None) -> None:
    """Allow only reading requests for these hosts, by users whom `reviewer` admits."""
    allowed = LOCAL | {host.lower() for host in hosts}

    @app.before_request
    def check() -> None:
        if request.method not in _METHODS:
            raise MethodNotAllowed(_METHODS, "only GET and HEAD are allowed")
        if hostname(request.headers.get("Host", "")) not in allowed:
            raise Forbidden(
                "unknown host name: to reach the dashboard by another name than localhost, "
                "start it with --allowed-host NAME"
            )
        site = request.headers.get("Sec-Fetch-Site", "none")
        mode = request.headers.get("Sec-Fetch-Mode", "navigate")
        if site not in ("none", "same-origin") and mode != "navigate":
            raise Forbidden("other sites are only allowed to link to this page")
        if reviewer and request.endpoint != "static":
            reviewer.admit(request.headers.get("Authorization", ""))

    @app.after_request
    def close(response: Response) -> Response:
        response.headers.update(HEADERS)
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
        return response


def hostname(host: str) -> str:
    """Return the name in a Host header: in lower case, without the port and the final dot."""
    try:
        found = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
    try:
        if ipaddress.ip_address(found).version == 6:
            return f"[{found}]"
    except ValueError:
        pass
    return found.removesuffix(".")


class TokenReviewer:
    """Asks the API server who owns a token, and whether this user may `get` /mendix-mesh.

    This needs the rights of the ClusterRole system:auth-delegator.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    def admit(self, header: str) -> None:
        """Admit the bearer of a token, or raise 401 or 403. May raise `ClusterError`."""
        kind, _, token = header.partition(" ")
        token = token.strip()
        if kind.lower() != "bearer" or not token:
            raise _unknown("send a token of this cluster in the header Authorization: Bearer TOKEN")
        # Keep a digest so that no token stays in memory.
        key = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        now = time.monotonic()
        with self._lock:
            at, why = self._known.get(key, (0.0, ""))
        if not at or now - at > _COUNTS:
            why = self._review(token)
            with self._lock:
                self._known[key] = (now, why)
                self._known.move_to_end(key)
                if len(self._known) > _MOST:
                    self._known.popitem(last=False)
        if why == _UNKNOWN:
            raise _unknown(why)
        if why:
            raise Forbidden(why)

    def _review(self, token: str) -> str:
        """Return why the bearer of a token is not admitted; empty if admitted."""
        status = self._ask("authentication.k8s.io/v1", "TokenReview", {"token": token})
        if not status.get("authenticated"):
            return _UNKNOWN
        user = status.get("user") or {}
        spec = {
            "user": user.get("username", ""),
            "uid": user.get("uid", ""),
            "groups": user.get("groups") or [],
            "extra": user.get("extra") or {},
            "nonResourceAttributes": {"path": URL, "verb": "get"},
        }
        status = self._ask("authorization.k8s.io/v1", "SubjectAccessReview", spec)
        if status.get("allowed"):
            return ""
        return (
            f"{spec['user']} is not allowed to get the nonResourceURL {URL}: "
            "bind the ClusterRole mendix-mesh-viewer to this user"
        )

    def _ask(self, version: str, kind: str, spec: Json) -> Json:
        where = path(version, f"{kind.lower()}s")
        made, _ = self._cluster.create(
            where, {"apiVersion": version, "kind": kind, "metadata": {}, "spec": spec}
        )
        status: Json = made.get("status") or {}
        return status


_UNKNOWN = "the API server does not know this token, or it has expired"


def _unknown(why: str) -> Unauthorized:
    return Unauthorized(why, www_authenticate=WWWAuthenticate("bearer", {"realm": "mendix-mesh"}))
