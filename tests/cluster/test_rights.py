"""Every command with only the ClusterRoles that docs/day-2.md lists for it."""

from collections.abc import Callable, Iterator

import pytest

from tests.cluster import command
from tests.cluster.command import Done
from tests.cluster.mesh import MODE_LABEL, MeshCluster
from tests.cluster.test_audit import defined
from tests.cluster.test_settings import configured_by
from tests.cluster.workloads import is_meshed, pod, pods_of, ready_pods, workload
from tests.standins import mendix
from tests.standins import mendix_manifests as manifests
from tests.unit.test_day_2_page import rows

#: By command: its ClusterRoles.
LISTED = {
    name: [role.strip(" `") for role in cells[0].split(",")]
    for name, cells in rows("command | ClusterRoles").items()
}
EXTRA = {
    "discover --enroll": ["--mode", "warn", "--yes"],
    "discover --enroll --strict": ["--mode", "warn", "--yes", "--cut-off-anyway"],
    "restart": ["--yes"],
    "restart --include-bare": ["--yes"],
}
CODES = {"audit": 1, "audit --write-reports": 1}


@pytest.fixture(scope="module", autouse=True)
def reports(mesh_cluster: MeshCluster) -> Iterator[None]:
    yield from defined(mesh_cluster, "wgpolicyk8s.io", "v1alpha2", "PolicyReport")


@pytest.fixture(scope="module", autouse=True)
def linkerd_config(mesh_cluster: MeshCluster) -> Iterator[None]:
    """Linkerd's own configuration, as the stand-in has it."""
    with configured_by(mesh_cluster, mesh_cluster.injector.config):
        yield


def enrolled(mesh_cluster: MeshCluster) -> str:
    """Create a namespace that is enrolled, with a workload and a bare pod from before."""
    api, name = mesh_cluster.api, mesh_cluster.plane.new_namespace("mendix")
    mendix.install_crds(api)
    api.create(manifests.custom_resource("StoragePlan", "postgres", name, {}))
    api.create(workload("Deployment", name))
    api.create(pod(name, "bare", labels={"app": "bare"}))
    ready_pods(api, name)
    ready_pods(api, name, "bare")
    mesh_cluster.relabel(name, "linkerd.enforce", mode="enforce")
    return name


@pytest.fixture(scope="module")
def shared(mesh_cluster: MeshCluster) -> str:
    """A namespace for commands that lack a right."""
    return enrolled(mesh_cluster)


def run(cluster: MeshCluster, named: str, roles: list[str], namespace: str, code: int) -> Done:
    """Run a command as an account with only these roles."""
    account = "-".join(["rights", *(role.removeprefix("mendix-mesh-") for role in roles)])
    by = command.as_account(cluster.plane, *roles, name=account)
    form = [] if "--enroll" in named else ["-o", "json"]
    where = [] if "--settings" in named else ["-n", namespace]
    given = [*named.split(), *EXTRA.get(named, []), *where, *form]
    return by(*given, codes=[code])


def is_found(cluster: MeshCluster, namespace: str, done: Done) -> bool:
    return bool(done.data["namespaces"][0]["mesh"] == "linkerd") and done.err == ""


def is_read(cluster: MeshCluster, namespace: str, done: Done) -> bool:
    # The istiod of another test may exist too.
    return "linkerd" in [one["name"] for one in done.data["meshes"]] and done.err == ""


def is_relabelled(cluster: MeshCluster, namespace: str, done: Done) -> bool:
    labels = cluster.api.get("Namespace", namespace)["metadata"]["labels"]
    return bool(labels[MODE_LABEL] == "warn")


def is_strict(cluster: MeshCluster, namespace: str, done: Done) -> bool:
    marks = cluster.api.get("Namespace", namespace)["metadata"]["annotations"]
    closed = marks["config.linkerd.io/default-inbound-policy"] == "all-authenticated"
    return closed and is_relabelled(cluster, namespace, done) and "could not check" not in done.err


def is_audited(cluster: MeshCluster, namespace: str, done: Done) -> bool:
    (found,) = done.data["namespaces"]
    states = {row["name"]: row["state"] for row in found["workloads"]}
    return states == {"shop": "unmeshed", "bare": "unmeshed"} and done.err == ""


def is_reported(cluster: MeshCluster, namespace: str, done: Done) -> bool:
    report = cluster.api.get("PolicyReport", "mendix-mesh", namespace)
    return bool(report["summary"]["fail"] == 2) and "Warning" not in done.err


def is_healthy(cluster: MeshCluster, namespace: str, done: Done) -> bool:
    (found,) = done.data["namespaces"]
    return bool(found["meshed"] == "yes") and done.data["unchecked"] == [] and done.err == ""


def is_restarted(cluster: MeshCluster, namespace: str, done: Done) -> bool:
    (bare,) = pods_of(cluster.api, namespace, "bare")
    restarted = all(map(is_meshed, pods_of(cluster.api, namespace)))
    return restarted and not is_meshed(bare) and done.err == ""


def is_cleared(cluster: MeshCluster, namespace: str, done: Done) -> bool:
    restarted = all(map(is_meshed, pods_of(cluster.api, namespace)))
    return restarted and not pods_of(cluster.api, namespace, "bare") and done.err == ""


SUCCESS: dict[str, Callable[[MeshCluster, str, Done], bool]] = {
    "discover": is_found,
    "discover --settings": is_read,
    "discover --enroll": is_relabelled,
    "discover --enroll --strict": is_strict,
    "audit": is_audited,
    "audit --write-reports": is_reported,
    "doctor": is_healthy,
    "restart": is_restarted,
    "restart --include-bare": is_cleared,
}


def test_every_command_that_is_listed_is_tried() -> None:
    assert list(LISTED) == list(SUCCESS)


@pytest.mark.parametrize("named", LISTED)
def test_the_roles_that_are_listed_are_enough(mesh_cluster: MeshCluster, named: str) -> None:
    namespace = enrolled(mesh_cluster)
    done = run(mesh_cluster, named, LISTED[named], namespace, CODES.get(named, 0))
    assert SUCCESS[named](mesh_cluster, namespace, done), (done.out, done.err)


@pytest.mark.parametrize(
    ("named", "role"), [(named, role) for named, roles in LISTED.items() for role in roles]
)
def test_none_of_them_is_too_much(
    mesh_cluster: MeshCluster, shared: str, named: str, role: str
) -> None:
    """Without the right, the command does not do its work, and names the right."""
    kept = [one for one in LISTED[named] if one != role]
    code = 1 if "reporter" in role or named.startswith("audit") else 2
    # With --cut-off-anyway, a failed check of the clients is only reported.
    code = 0 if "strict" in role else code
    done = run(mesh_cluster, named, kept, shared, code)
    assert "is forbidden: User" in done.err + done.out
