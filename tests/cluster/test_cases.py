"""The pods with verdicts that `review` is tested with, on a real API server: they get the same.

One is as submitted; the others are as stored, in namespaces like those of
`tests.cluster.test_fixtures`. The policy objects are in `tests.cluster.test_plaintext`.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonpatch
import pytest

from tests.cluster.api import Api, StatusError
from tests.cluster.mesh import MESH_LABEL, MeshCluster, configured
from tests.cluster.test_fixtures import EXEMPT, EXEMPTION, HIDDEN
from tests.fixtures.cases import CASES, Case, Request
from tests.unit.cli.test_cases import denials

REDIRECTION = "ambient.istio.io/redirection"
#: A pod that is admitted only in namespaces with the exemption.
(INJECTED,) = (case for case in CASES if case.name == "linkerd-proxy-gid-minus-1")

Make = Callable[[str], str]


def requests(case: Case, namespace: str) -> Iterator[Request]:
    """The requests of a case, in another namespace."""
    for request in case.requests():
        for one in filter(None, (request.pod, request.old)):
            one["metadata"]["namespace"] = namespace
            if request.old:  # The garbage collector deletes stored pods whose owner does not exist.
                one["metadata"].pop("ownerReferences", None)
        yield request


def submit(api: Api, request: Request) -> None:
    """Send the request to the API server. Raise StatusError."""
    pod, old, subresource = request
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    account = {"name": pod["spec"].get("serviceAccountName", "default"), "namespace": namespace}
    with contextlib.suppress(StatusError):  # it exists
        api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    if old is None:
        api.create(pod, dry_run=True)
        return
    # Only the agent of the mesh writes this, into the status of a pod that exists.
    redirected = old["metadata"]["annotations"].pop(REDIRECTION, None)
    api.create(old)
    if redirected:
        old["metadata"]["annotations"][REDIRECTION] = redirected
        status = {"metadata": {"annotations": {REDIRECTION: redirected}}}
        api.patch("Pod", name, namespace, status, subresource="status")
    changes = jsonpatch.make_patch(old, pod).patch
    api.patch("Pod", name, namespace, changes, how="json", subresource=subresource)


def denied_by(api: Api, request: Request) -> set[str]:
    """Return the checks for which our webhook denies it. Raise StatusError for other denials."""
    try:
        submit(api, request)
    except StatusError as denied:
        first, *lines = denied.message.splitlines()
        if 'mendix-mesh.io" denied the request' not in first:
            raise
        return {line.split()[0] for line in lines}
    return set()


@pytest.fixture(scope="module")
def new_namespace(mesh_cluster: MeshCluster) -> Iterator[Make]:
    """Create a namespace for stored pods. The settings are those of all cases together."""
    api = mesh_cluster.api

    def make(mesh: str) -> str:
        where = mesh_cluster.plane.new_namespace(EXEMPT, labels={MESH_LABEL: mesh, **HIDDEN})
        mesh_cluster.await_judge(where, f"{mesh}.enforce")
        return where

    istio: dict[str, Any] = {}
    for case in CASES:
        istio |= case.settings.get("istio", {})
    (probe,) = requests(INJECTED, make("linkerd"))
    # Without it the API server itself denies a pod that names it.
    sandbox = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "runsc"}
    api.create({**sandbox, "metadata": {"name": "gvisor"}})
    settings = {"exemptions": [EXEMPTION], "istio": istio}
    with configured(mesh_cluster, {"settings": settings}, lambda: not denied_by(api, probe)):
        yield make
    api.delete("RuntimeClass", "gvisor")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_pod_gets_the_verdict_of_review(
    mesh_cluster: MeshCluster, new_namespace: Make, tmp_path: Path, case: Case
) -> None:
    make = (lambda mesh: mesh_cluster.enroll(mesh=mesh)) if case.submitted else new_namespace
    found = [denied_by(mesh_cluster.api, one) for one in requests(case, make(case.mesh))]
    assert {bool(checks) for checks in found} == {case.want == "deny"}
    assert found == denials(case, tmp_path)
