"""Every fixture of every check on a real API server: failing pods are denied, others are stored.

A fixture is a stored pod, and already contains the injector's work. So these namespaces are hidden
from Linkerd's injector, and Istio's does not run. For our webhooks, such a pod brings its proxy, so
most of these namespaces have an exemption from that.
"""

from collections.abc import Iterator

import jsonpatch
import pytest

from tests.cluster.api import Api, Json, StatusError
from tests.cluster.mesh import MESH_LABEL, MeshCluster, configured
from tests.cluster.workloads import is_meshed
from tests.fixtures.fixture import Fixture
from tests.fixtures.generate import fixtures, named
from webhook.policy.checks import all_checks

#: The mesh that a file's name begins with -> the label of its namespace.
LABELS = {"linkerd": "linkerd", "istio": "istio", "ambient": "ambient", "unknown": "linkrd"}
HIDDEN = {"config.linkerd.io/admission-webhooks": "disabled"}
#: The fixtures were injected earlier, so they would be denied because they bring a proxy, before
#: any other check. Namespaces of this name are exempt from that.
EXEMPT = "injected"
EXEMPTION = {
    "checks": ["proxy-brought"],
    "namespaces": [f"{EXEMPT}-*"],
    "reason": "fixtures are pods as stored: the injector's work is in them",
}

FIXTURES = [fixture for fixture in fixtures() if fixture.mesh in LABELS]
#: The fixtures that the webhooks or the injector would change.
COMPLETED = [fixture for fixture in FIXTURES if fixture.stored_only]
#: The fixtures that the stand-in for Linkerd's injector completes.
OF_LINKERD = [fixture for fixture in COMPLETED if fixture.mesh == "linkerd"]
#: Updates of fields that only our webhook or Istio's agent writes, so no pod can be created with
#: them. tests.cluster.test_updates and test_ambient cover them.
WRITTEN_LATER = [
    named("proxy-brought", "linkerd-changed-record"),
    named("mesh-label-removed", "ambient-redirection-removed"),
]
FAILING = [one for one in FIXTURES if not one.passes and one not in (*COMPLETED, *WRITTEN_LATER)]
PASSING = [one for one in FIXTURES if one.passes]


def name(fixture: Fixture) -> str:
    return f"{fixture.check}/{fixture.name}"


@pytest.fixture(scope="module")
def namespaces(mesh_cluster: MeshCluster) -> Iterator[dict[str, str]]:
    """An exempt namespace for the pods of each mesh."""
    made = {mesh: _namespace(mesh_cluster, mesh) for mesh in LABELS}
    (injected,) = named("proxy-brought", "linkerd-injected").documents

    def exempts() -> bool:
        try:
            mesh_cluster.api.create(_in_namespace(injected, made["linkerd"]), dry_run=True)
        except StatusError:
            return False
        return True

    sandbox = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "runsc"}
    mesh_cluster.api.create({**sandbox, "metadata": {"name": "gvisor"}})
    with configured(mesh_cluster, {"settings": {"exemptions": [EXEMPTION]}}, exempts):
        yield made
    mesh_cluster.api.delete("RuntimeClass", "gvisor")


@pytest.fixture(scope="module")
def strict(mesh_cluster: MeshCluster) -> dict[str, str]:
    """The same without the exemption."""
    return {mesh: _namespace(mesh_cluster, mesh, "mendix") for mesh in LABELS}


def _namespace(cluster: MeshCluster, mesh: str, prefix: str = EXEMPT) -> str:
    labels = {MESH_LABEL: LABELS[mesh], **HIDDEN}
    with cluster.labelling(labels):
        where = cluster.plane.new_namespace(prefix, labels=labels)
    _create_account(cluster.api, where)
    cluster.await_judge(where, f"{'unknown-mesh' if mesh == 'unknown' else mesh}.enforce")
    return where


def _create_account(api: Api, namespace: str) -> None:
    metadata = {"name": "shop", "namespace": namespace}
    api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})


def submit(cluster: MeshCluster, fixture: Fixture, namespaces: dict[str, str]) -> list[str]:
    """Create or update the objects of a fixture. Return the warnings. Raise StatusError."""
    api, mesh = cluster.api, fixture.mesh
    first, *then = [_in_namespace(document, namespaces[mesh]) for document in fixture.documents]
    if not then:
        api.create(first, dry_run=True)
        return api.warnings
    # An update needs a stored pod that does not affect other fixtures.
    where = _namespace(cluster, mesh)
    api.create(_in_namespace(first, where))
    changes = jsonpatch.make_patch(first, then[0]).patch
    api.patch(
        "Pod",
        first["metadata"]["name"],
        where,
        changes,
        how="json",
        subresource=fixture.subresource,
    )
    return api.warnings


def reported(cluster: MeshCluster, fixture: Fixture) -> set[str]:
    """Return the checks in the audit log's entry of the last request for a fixture."""
    *_, last = cluster.plane.audit(name=fixture.documents[-1]["metadata"]["name"])
    found = last.get("annotations", {}).items()
    return {
        check
        for key, value in found
        if key.endswith(".mendix-mesh.io/checks")
        for check in value.split(",")
    }


def _in_namespace(pod: Json, namespace: str) -> Json:
    return {**pod, "metadata": {**pod["metadata"], "namespace": namespace}}


def test_there_are_fixtures_of_every_check() -> None:
    for some in (FAILING + COMPLETED, PASSING):
        assert {fixture.check for fixture in some} == all_checks().keys()


@pytest.mark.parametrize("fixture", FAILING, ids=name)
def test_a_failing_fixture_is_denied_or_warned_of(
    mesh_cluster: MeshCluster, namespaces: dict[str, str], strict: dict[str, str], fixture: Fixture
) -> None:
    check = fixture.check
    namespaces = strict if check in EXEMPTION["checks"] else namespaces
    if all_checks()[check].check.level == "warning":
        warnings = submit(mesh_cluster, fixture, namespaces)
        assert check in reported(mesh_cluster, fixture)
        assert all(len(text) < 120 for text in warnings)
        return
    with pytest.raises(StatusError) as denied:
        submit(mesh_cluster, fixture, namespaces)
    assert denied.value.code == 403, denied.value
    found = {line.split()[0] for line in denied.value.message.splitlines()[1:]}
    assert found == {check, *fixture.also}


@pytest.mark.parametrize("fixture", PASSING, ids=name)
def test_a_passing_fixture_is_stored_without_a_word_of_its_check(
    mesh_cluster: MeshCluster, namespaces: dict[str, str], fixture: Fixture
) -> None:
    submit(mesh_cluster, fixture, namespaces)
    assert fixture.check not in reported(mesh_cluster, fixture)


@pytest.mark.parametrize("fixture", OF_LINKERD, ids=name)
def test_a_fixture_that_the_webhooks_complete_joins(
    mesh_cluster: MeshCluster, fixture: Fixture
) -> None:
    where = mesh_cluster.enroll()
    _create_account(mesh_cluster.api, where)
    (pod,) = fixture.documents
    assert is_meshed(mesh_cluster.api.create(_in_namespace(pod, where)))
