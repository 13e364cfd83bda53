"""The application of the admission port sheds a review that has waited for too long."""

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from tests.unit.admission.reviews import meshed, review
from webhook.admission.app import create_app
from webhook.admission.lane import Lane
from webhook.admission.metrics import Metrics
from webhook.admission.review import Reviewer
from webhook.policy.settings import Settings
from webhook.serving.connection import Connection
from webhook.serving.health import Health
from webhook.serving.http import Request


@pytest.mark.parametrize("late", [False, True])
def test_a_review_is_judged_only_if_the_api_server_still_waits(late: bool) -> None:
    metrics = Metrics("test")
    reviewer = Reviewer(Settings(), metrics)
    lane = Lane(reviewer, create_app(reviewer, Health(), admits=False))
    calls: list[tuple[float, float]] = []

    def too_late(since: float, allowed: float) -> bool:
        calls.append((since, allowed))
        return late

    lag: Any = SimpleNamespace(too_late=too_late)
    connection = cast("Connection", SimpleNamespace(loop=SimpleNamespace(lag=lag)))
    request = Request(7.0)
    request.url, request.method = b"/validate/linkerd/enforce?timeout=5s", b"POST"
    request.headers = {b"content-type": b"application/json", b"content-length": b"1"}
    request.body = msgspec.json.encode(review(meshed()))
    assert lane.rejection(request, connection) is None
    assert lane.answer(request, connection).status == (503 if late else 200)
    assert calls == [(7.0, 5.0)]
    assert f"mendix_mesh_reviews_shed_total {float(late)}" in metrics.expose().decode()
