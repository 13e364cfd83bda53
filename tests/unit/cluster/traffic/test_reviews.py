"""The webhook's verdicts, from a real Prometheus that scrapes its real metrics."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import prometheus
from tests.standins import mesh_metrics
from tests.standins.mesh_metrics import Exporter
from tests.unit.cluster.apiserver import HttpRequest, Reply, serving
from webhook.admission.metrics import Metrics
from webhook.cluster.traffic import Prometheus
from webhook.cluster.traffic.reviews import Counts, look

#: The length of the window in seconds.
WINDOW = 6


class Webhook(Exporter):
    """A server's own metrics, on the port of the stand-ins' metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics = Metrics("test")

    def text(self) -> str:
        return self.metrics.expose().decode()

    def answer(self, verdict: str, times: int, *checks: str, kind: str = "Pod") -> None:
        mode = {"denied": "enforce", "warned": "warn", "audited": "audit"}.get(verdict, "enforce")
        for _ in range(times):
            self.metrics.review("validate", "linkerd", mode, kind, verdict)
            for check in checks:
                self.metrics.violation("linkerd", mode, check)


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Webhook, str]]:
    """A server with verdicts inside and outside the window, and its Prometheus."""
    folder = tmp_path_factory.mktemp("prometheus")
    server = Webhook()
    with (
        mesh_metrics.serving(server),
        prometheus.serving(folder, scraped=[server.url]) as running,
    ):
        server.answer("denied", 40, "host-network")
        running.wait_for_scrapes(WINDOW + 1)
        assert look(Prometheus(running.url), window=WINDOW) == Counts(window=WINDOW)
        server.answer("admitted", 100)
        server.answer("denied", 30, "host-network", "proxy-missing")
        server.answer("denied", 1, "host-network", kind="Deployment")
        server.answer("warned", 20, "proxy-missing")
        server.answer("audited", 1, "opt-out")
        running.wait_for_scrapes(1)
        yield server, running.url


@pytest.fixture(scope="module")
def counts(webhook: tuple[Webhook, str]) -> Counts:
    found = look(Prometheus(webhook[1]), window=WINDOW)
    assert found.error == ""
    return found


def test_what_was_denied_and_admitted_within_the_window_is_counted(counts: Counts) -> None:
    # Prometheus extrapolates to the ends of the window.
    assert 31 <= counts.times("denied") <= 60
    assert 20 <= counts.times("warned", "audited") <= 23
    assert counts.answers[0].verdict == "denied"
    assert {(one.verdict, one.kind, one.mesh) for one in counts.answers} == {
        ("denied", "Pod", "linkerd"), ("denied", "Deployment", "linkerd"),
        ("warned", "Pod", "linkerd"), ("audited", "Pod", "linkerd"),
    }  # fmt: skip


def test_a_first_denial_counts_although_its_series_is_new(counts: Counts) -> None:
    (deployment,) = (one for one in counts.answers if one.kind == "Deployment")
    assert deployment.times == 1


def test_checks_are_counted_by_mode_the_most_frequent_first(counts: Counts) -> None:
    found = {(one.check, one.mode) for one in counts.violations}
    assert found == {
        ("host-network", "enforce"), ("proxy-missing", "enforce"), ("proxy-missing", "warn"),
        ("opt-out", "audit"),
    }  # fmt: skip
    assert (counts.violations[-1].check, counts.violations[-1].times) == ("opt-out", 1)


def test_no_denials_and_unknown_denials_are_distinguished(tmp_path: Path) -> None:
    with prometheus.serving(tmp_path) as empty:
        found = look(Prometheus(empty.url), window=WINDOW)
    assert found.error.startswith("Prometheus has no metrics of the webhook")
    assert "does not answer" in look(Prometheus("http://127.0.0.1:1"), window=60).error


def test_answers_of_strange_kinds_are_left_out(tmp_path: Path) -> None:
    def script(request: HttpRequest) -> Reply:
        labels = {"verdict": "burnt"} if b"reviews" in request.body else {}
        series = [{"metric": labels, "value": [1, one]} for one in ("3", "NaN", "0", "-1")]
        return Reply(200, {"status": "success", "data": {"resultType": "vector", "result": series}})

    with serving(script, tmp_path) as server:
        found = look(Prometheus(server.url), window=60)
    assert (found.answers, found.error) == ([], "")
    assert [(one.check, one.mesh, one.times) for one in found.violations] == [("", "", 3)]
