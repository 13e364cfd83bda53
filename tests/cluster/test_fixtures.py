"""Every fixture of every check on a real API server: failing pods are denied, others are stored.

A fixture is a stored pod, and already contains the injector's work. So these namespaces are hidden
from Linkerd's injector, and Istio's does not run. For our webhooks, such a pod brings its proxy, so
most of these namespaces have an exemption from that.
"""

from collections.abc import Iterator
from pathlib import Path

import jsonpatch
import pytest

from tests.cluster.api import Api, Json, StatusError, core
from tests.cluster.mesh import MESH_LABEL, MeshCluster, configured
from tests.cluster.workloads import is_invalid_patch, is_meshed
from tests.fixtures.cases import CASES, Case, Request
from tests.fixtures.fixture import Fixture
from tests.fixtures.generate import fixtures, named
from tests.unit.cli.test_cases import denials
from webhook.policy.checks import all_checks

REDIRECTION = "ambient.istio.io/redirection"

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
        return not mesh_cluster.api.denial(_in_namespace(injected, made["linkerd"]))

    sandbox = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "runsc"}
    mesh_cluster.api.create({**sandbox, "metadata": {"name": "gvisor"}})
    settings: Json = {"exemptions": [EXEMPTION], "istio": {}}
    for case in CASES:
        settings["istio"] |= case.settings.get("istio", {})
    with configured(mesh_cluster, {"settings": settings}, exempts):
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
    cluster.api.create(core("ServiceAccount", "shop", where))
    cluster.await_judge(where, f"{'unknown-mesh' if mesh == 'unknown' else mesh}.enforce")
    return where


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


def of_author(found: set[str]) -> set[str]:
    """Return the checks without the opt-out by which we keep the injector from an input."""
    return found - {"opted-out"} if "input-not-allowed" in found else found


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
    assert of_author(found) == of_author({check, *fixture.also})


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
    mesh_cluster.api.create(core("ServiceAccount", "shop", where))
    (pod,) = fixture.documents
    assert is_meshed(mesh_cluster.api.create(_in_namespace(pod, where)))


# The pods with verdicts that `review` is tested with.


def requests(case: Case, namespace: str) -> Iterator[Request]:
    """The requests of a case, in another namespace."""
    for request in case.requests():
        for one in filter(None, (request.pod, request.old)):
            one["metadata"]["namespace"] = namespace
            if request.old:  # The garbage collector deletes stored pods whose owner does not exist.
                one["metadata"].pop("ownerReferences", None)
        yield request


def send(api: Api, request: Request) -> None:
    """Send the request to the API server. Raise StatusError."""
    pod, old, subresource = request
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    account = pod["spec"].get("serviceAccountName", "default")
    api.ensure(core("ServiceAccount", account, namespace))
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


INVALID = {"invalid patch"}


def denied_by(api: Api, request: Request) -> set[str]:
    """Return the checks for which our webhook denies it. Raise StatusError for other denials."""
    try:
        send(api, request)
    except StatusError as denied:
        if is_invalid_patch(denied.message):
            return INVALID
        first, *lines = denied.message.splitlines()
        if 'mendix-mesh.io" denied the request' not in first:
            raise
        return {line.split()[0] for line in lines}
    return set()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_pod_gets_the_verdict_of_review(
    mesh_cluster: MeshCluster, namespaces: dict[str, str], tmp_path: Path, case: Case
) -> None:
    """One is as submitted, the others are as stored. Policy objects are in test_plaintext."""
    where = (
        mesh_cluster.enroll(mesh=case.mesh)
        if case.submitted
        else _namespace(mesh_cluster, case.mesh)
    )
    found = [of_author(denied_by(mesh_cluster.api, one)) for one in requests(case, where)]
    assert {bool(checks) for checks in found} == {case.want == "deny"}
    assert found in (denials(case, tmp_path), [INVALID])
