"""With `engine: policy`, ordinary pods start while no server answers, and nothing else gets in.

The real istiod and the stand-in of Linkerd's injector are at work. The servers of mendix-mesh are
scaled to zero.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster import command, guides
from tests.cluster.api import Json, core, wait_for
from tests.cluster.engine import MESHES, opts_in
from tests.cluster.istio import IstioCluster
from tests.cluster.mesh import MeshCluster, configured
from tests.cluster.test_doctor import gone
from tests.cluster.test_story import settle
from tests.cluster.workloads import pod, ready_pods, workload
from tests.fixtures.generate import fixtures
from tests.standins import mendix
from webhook.policy.checks import all_checks

pytestmark = pytest.mark.timeout(300)

REPLICAS = 200
VALUES: Json = {"engine": "policy", "policyDelaySeconds": 1}
MODES = ("enforce", "warn", "audit")
#: An annotation whose value only the server can judge.
SPECIAL = {
    "linkerd": {"config.linkerd.io/proxy-additional-env": "[]"},
    "istio": {"proxy.istio.io/config": "{}"},
    "ambient": {"proxy.istio.io/config": "{}"},
}


class Outage(NamedTuple):
    cluster: MeshCluster
    #: The namespace of a mesh and a mode.
    places: dict[tuple[str, str], str]


@pytest.fixture(scope="module")
def policed(
    istio_cluster: IstioCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outage]:
    """Namespaces of each mesh and mode, in a cluster with the API server's own policies."""
    cluster = istio_cluster
    places = {
        (mesh, mode): MeshCluster.enroll(cluster, mode, mesh=mesh)
        for mesh in MESHES
        for mode in MODES
    }
    host = pod(places["ambient", "enforce"], hostNetwork=True)

    def by_policy() -> bool:
        return "ValidatingAdmissionPolicy" in cluster.api.denial(host)

    with configured(cluster, VALUES, by_policy):
        # The page's command changes nothing any more.
        (line,) = guides.commands("engines.md", "Who decides: the server or the API server")
        guides.Reader(cluster.plane, tmp_path_factory.mktemp("reader"), "").run(line)
        assert by_policy()
        yield Outage(cluster, places)
        wait_for(by_policy, why="the policies to be in force again")


@pytest.fixture(scope="module")
def outage(policed: Outage) -> Iterator[Outage]:
    """The same, with Deployments of no pods. Then the servers are gone."""
    cluster, places = policed
    for where in places.values():
        cluster.api.create(workload("Deployment", where, replicas=0))
    scale(cluster, 0)
    wait_for(lambda: not servers(cluster), why="the servers to be gone")
    wait_for(
        lambda: "special-pods" in cluster.api.denial(special(places["linkerd", "enforce"])),
        why="calls of the servers to fail",
    )
    yield policed
    scale(cluster, 2)
    for where in places.values():
        cluster.api.delete("Deployment", "shop", where)


def scale(cluster: MeshCluster, replicas: int) -> None:
    spec = {"spec": {"replicas": replicas}}
    cluster.api.patch(
        "Deployment", "mendix-mesh", cluster.release.namespace, spec, subresource="scale"
    )


def servers(cluster: MeshCluster) -> list[Json]:
    labels = ",".join(f"{key}={value}" for key, value in cluster.release.labels.items())
    return cluster.api.list("Pod", cluster.release.namespace, labels=labels)


def special(where: str, mesh: str = "linkerd") -> Json:
    return pod(where, "special", annotations=SPECIAL[mesh])


@pytest.mark.parametrize("mesh", MESHES)
def test_every_pod_that_the_mendix_operator_makes_is_ordinary(policed: Outage, mesh: str) -> None:
    cluster = policed.cluster
    where = MeshCluster.enroll(cluster, "enforce", mesh=mesh)
    wait_for(
        lambda: "ValidatingAdmissionPolicy" in cluster.api.denial(pod(where, hostNetwork=True)),
        why="the policies to know the namespace",
    )
    mendix.install_crds(cluster.api)
    user = cluster.plane.user("mendix-operator", ["system:masters"])
    with mendix.MendixOperator(user, where).run():
        settle(cluster, where)
    made = [event for event in cluster.plane.audit(resource="pods", namespace=where)
            if event["verb"] == "create" and "subresource" not in event["objectRef"]]  # fmt: skip
    called = [event["objectRef"].get("name") for event in made
              if any(key.startswith("special-pods.") for key in event["annotations"])]  # fmt: skip
    print(f"{mesh}: {len(made)} pods, of which {len(called)} were sent to the server: {called}")
    assert len(made) > 8
    assert not called


@pytest.mark.parametrize("mesh", ["linkerd", "istio"])
def test_the_doctor_finds_a_binding_that_is_gone(policed: Outage, mesh: str) -> None:
    cluster, where = policed.cluster, policed.places[mesh, "enforce"]
    run, api = command.as_admin(cluster.plane), cluster.api
    assert "no errors, no warnings" in run("doctor", "-n", where).out
    name = f"mendix-mesh-{mesh}-enforce"
    with gone(api, "ValidatingAdmissionPolicyBinding", name):
        found = run("doctor", "-n", where, codes=(1,)).out
    assert "policy-missing" in found
    assert "with the action Deny selects the namespace" in found
    with gone(api, "ValidatingAdmissionPolicy", f"mendix-mesh-{mesh}"):
        found = run("doctor", "-n", where, codes=(1,)).out
    assert f"there is no ValidatingAdmissionPolicy mendix-mesh-{mesh}" in found


def test_the_page_shows_the_real_message(policed: Outage) -> None:
    where = policed.places["linkerd", "enforce"]
    wait_for(
        lambda: "host-network" in policed.cluster.api.denial(pod(where, hostNetwork=True)),
        why="the policy to be in force again",
    )
    manifest = json.dumps(pod(where, hostNetwork=True))
    said = (
        policed.cluster.plane.kubectl(
            "create", "--dry-run=server", "-f", "-", input=manifest, check=False
        )
        .stderr.strip()
        .replace('error when creating "STDIN": ', "")
    )
    page = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()
    assert said in page, said


@pytest.mark.parametrize("mesh", MESHES)
@opts_in
def test_two_hundred_ordinary_pods_start(outage: Outage, mesh: str) -> None:
    cluster, where = outage.cluster, outage.places[mesh, "enforce"]
    scaled = {"spec": {"replicas": REPLICAS}}
    cluster.api.patch("Deployment", "shop", where, scaled, subresource="scale")
    found = ready_pods(cluster.api, where, count=REPLICAS, seconds=120)
    proxies = {"linkerd": "linkerd-proxy", "istio": "istio-proxy"}
    for one in found:
        if mesh == "ambient":
            assert one["metadata"]["labels"]["istio.io/dataplane-mode"] == "ambient"
        else:
            named = {container["name"] for container in one["spec"]["initContainers"]}
            assert proxies[mesh] in named


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("mode", MODES)
@opts_in
def test_a_special_pod_is_denied_in_enforce_alone(outage: Outage, mesh: str, mode: str) -> None:
    why = outage.cluster.api.denial(special(outage.places[mesh, mode], mesh))
    if mode == "enforce":
        assert 'failed calling webhook "special-pods.' in why
    else:
        assert not why


@pytest.mark.parametrize("mesh", MESHES)
@opts_in
def test_an_ordinary_pod_outside_the_mesh_is_denied_warned_of_or_recorded(
    outage: Outage, mesh: str
) -> None:
    cluster, said = outage.cluster, "host-network spec.hostNetwork uses the node's network"
    host = {mode: pod(outage.places[mesh, mode], hostNetwork=True) for mode in MODES}
    assert said in cluster.api.denial(host["enforce"])
    cluster.api.create(host["warn"], dry_run=True)
    assert any(said in text for text in cluster.api.warnings)
    cluster.api.create(host["audit"], dry_run=True)
    assert not cluster.api.warnings
    *_, last = cluster.plane.audit(namespace=outage.places[mesh, "audit"])
    assert last["annotations"][f"mendix-mesh-{mesh}/checks"] == "host-network"


@pytest.mark.parametrize("mesh", MESHES)
@opts_in
def test_every_bypass_is_denied(outage: Outage, mesh: str) -> None:
    """The author's side of each: the injectors have not seen these pods."""
    where, denied = outage.places[mesh, "enforce"], 0
    outage.cluster.api.create(core("ServiceAccount", "shop", where))
    for fixture in fixtures():
        if fixture.mesh != mesh or fixture.passes or len(fixture.documents) > 1:
            continue
        if "deny" not in levels(fixture.check) or fixture.stored_only:
            continue
        new = {**fixture.documents[0]}
        new["metadata"] = {**new["metadata"], "namespace": where}
        assert outage.cluster.api.denial(new), fixture.name
        denied += 1
    print(f"{mesh}: {denied} bypasses denied while no server answers")
    assert denied > 10


@opts_in
def test_the_page_s_commands_for_an_emergency_end_all_denials_of_ordinary_pods(
    outage: Outage, tmp_path: Path
) -> None:
    cluster = outage.cluster
    away, _ = guides.commands("upgrade.md", "In an emergency")
    guides.Reader(cluster.plane, tmp_path, "").run(away)
    for mesh in MESHES:
        host = pod(outage.places[mesh, "enforce"], hostNetwork=True)
        wait_for(lambda host=host: not cluster.api.denial(host), why=f"{mesh} to admit it")  # type: ignore[misc]
    # The next upgrade restores them, also without a server.
    cluster.release.upgrade(VALUES, wait=False)


def levels(check: str) -> str:
    return all_checks()[check].check.level if check in all_checks() else ""
