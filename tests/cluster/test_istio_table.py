"""What the real istiod injects, for every combination of labels, compared with our prediction."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.cluster.istio import HIDDEN, INJECT, REVISION, sidecar_of
from tests.cluster.istiod import Istiod
from tests.cluster.plane import ControlPlane
from tests.cluster.workloads import pod
from webhook.policy.meshes.istio import MESH
from webhook.policy.meshes.istio.injection import would_inject
from webhook.policy.pod.objects import convert
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import pod_of
from webhook.policy.settings import Settings

INJECTION = (None, "enabled", "disabled", "other")
LABEL = (None, "true", "false", "yes")
ANNOTATION = (None, "true", "false")

Labels = Mapping[str, str]
Revisions = tuple[str | None, ...]


def labels(pairs: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in pairs.items() if value is not None}


def rows(revisions: Revisions) -> Iterator[tuple[Labels, Labels, Labels]]:
    """Every combination of a namespace's labels, and of a pod's labels and annotations."""
    for injection, revision in itertools.product(INJECTION, revisions):
        of_namespace = labels({"istio-injection": injection, REVISION: revision})
        for label, own, annotation in itertools.product(LABEL, revisions, ANNOTATION):
            yield of_namespace, labels({INJECT: label, REVISION: own}), labels({INJECT: annotation})


class Table:
    """Compares the prediction with istiod's result, in namespaces that only Istio watches."""

    def __init__(self, plane: ControlPlane, installed: tuple[str, ...]) -> None:
        self.compared = 0
        self.injected = 0
        self.disagreements: list[str] = []
        self._plane = plane
        self._installed = installed
        self._namespaces: dict[tuple[tuple[str, str], ...], str] = {}

    def compare(
        self, of_namespace: Labels, of_pod: Labels, annotations: Labels, **spec: Any
    ) -> None:
        where = self._namespace(of_namespace)
        self.compare_in(where, of_namespace, of_pod, annotations, **spec)

    def compare_in(
        self, where: str, of_namespace: Labels, of_pod: Labels, annotations: Labels, **spec: Any
    ) -> None:
        made = pod(where, labels=dict(of_pod), annotations=dict(annotations), **spec)
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
            self._namespaces[key] = self._plane.new_namespace(labels={**wanted, **HIDDEN})
        return self._namespaces[key]

    def run(self, revisions: Revisions, capsys: pytest.CaptureFixture[str]) -> None:
        """Compare every row and print their number. Fail if one differs."""
        for row in rows(revisions):
            self.compare(*row)
        with capsys.disabled():
            print(
                f"\nIstio's truth table with {' and '.join(self._installed)}: {self.compared} rows "
                f"compared, {self.injected} injected, {len(self.disagreements)} disagreements."
            )
        assert self.disagreements == []
        assert 0 < self.injected < self.compared


@pytest.mark.parametrize(
    ("installed", "requested"),
    [
        ({"default": []}, (None, "default", "canary")),
        ({"canary": ["prod"]}, (None, "canary", "prod")),
        ({"default": [], "canary": ["prod"]}, (None, "default", "prod")),
    ],
    ids=["the default revision alone", "a named revision and its tag", "both"],
)
def test_we_predict_what_istiod_does(
    istio_plane: ControlPlane,
    capsys: pytest.CaptureFixture[str],
    installed: Mapping[str, list[str]],
    requested: Revisions,
) -> None:
    with contextlib.ExitStack() as running:
        for revision, tags in installed.items():
            running.enter_context(Istiod(istio_plane, revision=revision, tags=tags))
        names = [name for revision, tags in installed.items() for name in (revision, *tags)]
        Table(istio_plane, tuple(names)).run(requested, capsys)


def test_we_predict_what_the_injector_leaves_alone_when_it_is_called(
    istio_plane: ControlPlane,
) -> None:
    with Istiod(istio_plane):
        table = Table(istio_plane, ("default",))
        table.compare({"istio-injection": "enabled"}, {INJECT: "true"}, {}, hostNetwork=True)
        for where in ("kube-public", "kube-node-lease"):
            istio_plane.await_namespace(where)
            table.compare_in(where, {}, {INJECT: "true"}, {})
    assert (table.compared, table.injected, table.disagreements) == (3, 0, [])
