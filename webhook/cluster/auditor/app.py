"""The auditor's endpoints for monitoring: probes, metrics, version.

The dashboard and the namespace webhook are separate applications. The command combines them.
"""

from flask import Flask, Response

from webhook.cluster.auditor.history import Scans
from webhook.cluster.auditor.metrics import CONTENT_TYPE_LATEST, AuditorMetrics
from webhook.version import VERSION


def create_app(scans: Scans, metrics: AuditorMetrics) -> Flask:
    """Return the Flask application that serves the state of the scanner."""
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

    @app.get("/metrics")
    def expose() -> Response:
        return Response(metrics.expose(), content_type=CONTENT_TYPE_LATEST)

    @app.get("/version")
    def version() -> dict[str, str]:
        return {"name": "mendix-mesh", "version": VERSION}

    return app
