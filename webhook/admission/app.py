"""The Flask application: probes, metrics, version and, if enabled, admission reviews.

Behind the lane, Flask gets all requests except reviews. Under a test client or another WSGI server,
it answers reviews as well, with the same `Reviewer` and the same responses.
"""

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, UnsupportedMediaType

from webhook.admission.metrics import CONTENT_TYPE_LATEST
from webhook.admission.review import AnyRoute, Reviewer
from webhook.serving.health import Health
from webhook.serving.http import BODY_LIMIT, REJECTIONS
from webhook.version import VERSION


def create_app(reviewer: Reviewer, health: Health, *, admits: bool = True) -> Flask:
    """Return the Flask application. With `admits` it answers reviews as well."""
    app = Flask("mendix-mesh", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT
    # The API server follows no redirects, so paths are not normalized.
    app.url_map.merge_slashes = False

    @app.get("/livez")
    def alive() -> Response:
        trouble = health.deadlock()
        return Response(f"{trouble or 'ok'}\n", 503 if trouble else 200, content_type="text/plain")

    @app.get("/readyz")
    def ready() -> Response:
        # Without trouble the server is ready as soon as it answers. A review needs only this
        # process.
        trouble = health.trouble()
        return Response(f"{trouble or 'ok'}\n", 503 if trouble else 200, content_type="text/plain")

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(reviewer.metrics.expose(), content_type=CONTENT_TYPE_LATEST)

    @app.get("/version")
    def version() -> dict[str, str]:
        return {"name": "mendix-mesh", "version": VERSION}

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> Response:
        text = REJECTIONS.get(error.code or 0) or f"{error.code} {error.name}\n"
        return Response(text, error.code, error.get_headers(), content_type="text/plain")

    def admit(route: AnyRoute) -> Response:
        if not is_json(request.content_type):
            raise UnsupportedMediaType
        body = reviewer.answer(route, request.get_data(cache=False))
        return Response(body, content_type="application/json")

    for path, route in reviewer.routes.items() if admits else ():
        app.add_url_rule(
            path,
            path,
            lambda route=route: admit(route),
            methods=["POST"],
            provide_automatic_options=False,
        )
    return app


def is_json(content_type: str | None) -> bool:
    """Return whether a content type is JSON, with or without a charset."""
    return (content_type or "").partition(";")[0].strip().lower() == "application/json"
