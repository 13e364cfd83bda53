"""What the real istiod injects, for every combination of labels, against what we predict."""

import itertools
from collections.abc import Iterator, Mapping

import pytest

from tests.cluster.api import Api, Json, Refused
from tests.cluster.istio import sidecar_of
from tests.cluster.istiod import Istiod
from tests.cluster.plane import ControlPlane
from tests.cluster.workloads import pod
from webhook.policy.istio_injection import would_inject
from webhook.policy.meshes.istio import MESH
from webhook.policy.objects import convert
from webhook.policy.request import Request
from webhook.policy.settings import Settings
from webhook.policy.workload import pod_of

INJECT, REVISION = "sidecar.istio.io/inject", "istio.io/rev"
INJECTION = (None, "enabled", "disabled", "other")
REVISIONS = (None, "default", "canary")
LABEL = (None, "true", "false", "yes")
ANNOTATION = (None, "true", "false")

Labels = Mapping[str, str]


def labels(pairs: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in pairs.items() if value is not None}


def rows(revisions: tuple[str | None, ...]) -> Iterator[tuple[Labels, Labels, Labels]]:
    """Every combination of a namespace's labels, and of a pod's labels and annotations."""
    for injection, revision in itertools.product(INJECTION, revisions):
        of_namespace = labels({"istio-injection": injection, REVISION: revision})
        for label, own, annotation in itertools.product(LABEL, revisions, ANNOTATION):
            yield of_namespace, labels({INJECT: label, REVISION: own}), labels({INJECT: annotation})


class Table:
    """Compares the prediction with what istiod does, in namespaces that only Istio watches."""

    def __init__(self, plane: ControlPlane, installed: tuple[str, ...]) -> None:
        self.compared = 0
        self.injected = 0
        self.disagreements: list[str] = []
        self._plane = plane
        self._installed = installed
        self._namespaces: dict[tuple[tuple[str, str], ...], str] = {}

    def compare(self, of_namespace: Labels, of_pod: Labels, annotations: Labels) -> None:
        where = self._namespace(of_namespace)
        made = pod(where, labels=dict(of_pod), annotations=dict(annotations))
        took = bool(sidecar_of(self._plane.api.create(made, dry_run=True)))
        seen = pod_of(convert(made), MESH(Settings()), Request(namespace=where))
        assert seen
        predicted, reason = would_inject(seen, of_namespace, self._installed)
        self.compared += 1
        self.injected += took
        if predicted != took:
            row = f"namespace {of_namespace} pod {of_pod} annotations {annotations}"
            self.disagreements.append(f"{row}: injected {took}, predicted {predicted}: {reason}")

    def _namespace(self, wanted: Labels) -> str:
        key = tuple(sorted(wanted.items()))
        if key not in self._namespaces:
            self._namespaces[key] = self._plane.new_namespace(labels=wanted)
        return self._namespaces[key]


def run(table: Table, revisions: tuple[str | None, ...], capsys: pytest.CaptureFixture[str]) -> None:
    for row in rows(revisions):
        table.compare(*row)
    with capsys.disabled():
        print(
            f"\nIstio's truth table: {table.compared} rows compared, "
            f"{len(table.disagreements)} disagreements ({table.injected} injected)."
        )
    assert table.disagreements == []


def test_we_predict_what_istiod_does_with_the_default_revision_alone(
    istiod: Istiod, istio_plane: ControlPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    run(Table(istio_plane, ("default",)), REVISIONS, capsys)
