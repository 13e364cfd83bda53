"""The auditor's endpoints for monitoring: probes, metrics, version.

The dashboard and the namespace webhook are separate applications. The command combines them.
"""

from typing import Literal

from flask import Flask, Response, request
from werkzeug.exceptions import Forbidden, HTTPException

from webhook.cluster.api.errors import ClusterError
from webhook.cluster.auditor.history import Scans
from webhook.cluster.auditor.metrics import CONTENT_TYPE_LATEST, AuditorMetrics
from webhook.cluster.auditor.tokens import TokenReviewer
from webhook.policy.words import printable
from webhook.version import VERSION

#: The paths that never wait: not for the API server, and not for the scanner.
QUICK = (b"/livez", b"/readyz", b"/version")
#: The nonResourceURL that a scraper must be allowed to `get`, and the ClusterRole that allows it.
METRICS_URL, METRICS_ROLE = "/metrics", "mendix-mesh-metrics-reader"


def create_app(
    scans: Scans,
    metrics: AuditorMetrics,
    *,
    scrapers: TokenReviewer | Literal["none"] | None = None,
) -> Flask:
    """Return the Flask application that serves the state of the scanner.

    `scrapers` decides who may read the metrics: everyone if it is None, no one if it is `none`.
    """
    app = Flask("mendix-mesh-auditor", static_folder=None)

    @app.get("/livez")
    def alive() -> Response:
        return Response("ok\n", content_type="text/plain")

    @app.get("/readyz")
    def ready() -> Response:
        # If the cluster fails later, the last scan is still shown. A restart would not help.
        if scans.last:
            return Response("ok\n", content_type="text/plain")
        why = f"no scan has ended yet{f': {scans.error}' if scans.error else ''}"
        return Response(f"{why}\n", 503, content_type="text/plain")

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> Response:
        text = printable(f"{error.code} {error.name}: {error.description}") + "\n"
        return Response(text, error.code, error.get_headers(), content_type="text/plain")

    @app.errorhandler(ClusterError)
    def unavailable(error: ClusterError) -> Response:
        text = printable(f"503 Service Unavailable: {error}") + "\n"
        return Response(text, 503, content_type="text/plain")

    @app.get("/metrics")
    def expose() -> Response:
        if scrapers == "none":
            raise Forbidden("the metrics are only served by HTTPS, with a token")
        if scrapers:
            scrapers.admit(request.headers.get("Authorization", ""), request.remote_addr or "")
        return Response(metrics.expose(), content_type=CONTENT_TYPE_LATEST)

    @app.get("/version")
    def version() -> dict[str, str]:
        return {"name": "mendix-mesh", "version": VERSION}

    return app
