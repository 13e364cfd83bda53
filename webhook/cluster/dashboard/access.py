"""Controls who may read the pages, and what browsers may do with them.

Pages change nothing and keep no session, so requests can't be forged with an effect. The remaining
risk is that a foreign page reads them. It can use a DNS name that leads to this server (DNS
rebinding), which the Host header shows. Or it can send requests from the reader's browser, which
the Fetch metadata headers show.
"""

import ipaddress
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, Response, request
from werkzeug.exceptions import Forbidden, MethodNotAllowed

from webhook.cluster.api.connection import Cluster
from webhook.cluster.auditor.tokens import TokenReviewer

#: Names of the local machine. Any port is allowed.
LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
_METHODS = ("GET", "HEAD")
#: The nonResourceURL that a reader must be allowed to `get`, and the ClusterRole that allows it.
URL, ROLE = "/mendix-mesh", "mendix-mesh-viewer"

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


def guard(app: Flask, hosts: Collection[str], readers: TokenReviewer | None = None) -> None:
    """Allow only reading requests for these hosts, by users whom `readers` admits.

    The files of the package are open to all. Other paths below /static/ are not, because the page
    that says that nothing is there shows the name of the cluster.
    """
    allowed = LOCAL | {host.lower() for host in hosts}
    folder = Path(app.static_folder or "")
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    def is_file() -> bool:
        return request.endpoint == "static" and (request.view_args or {})["filename"] in files

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
        if readers and not is_file():
            readers.admit(request.headers.get("Authorization", ""), request.remote_addr or "")

    @app.after_request
    def close(response: Response) -> Response:
        response.headers.update(HEADERS)
        if not is_file():
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


def reviewer(cluster: Cluster) -> TokenReviewer:
    """Return what admits the users who may read the dashboard."""
    return TokenReviewer(cluster, URL, ROLE)
