"""`autoEnroll: warn`: Mendix's namespaces join the mesh, and nobody types a command.

The cluster is one of its own, because in a shared one the namespaces of other tests would be
enrolled. The auditor runs with the chart's arguments and rights.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster import auditor, command, istio, mesh
from tests.cluster.api import Json, wait_for
from tests.cluster.auditor import PATIENCE, Auditor
from tests.cluster.istiod import Istiod
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL, MeshCluster
from tests.cluster.plane import ControlPlane
from tests.cluster.workloads import is_meshed, pod
from tests.standins import mendix
from tests.standins import mendix_manifests as manifests

ENROLLED_AT = "mendix-mesh.io/enrolled-at"
WATCHER = "system:serviceaccount:mendix-mesh:mendix-mesh-watcher"
#: Another port than the servers of the shared cluster, because pods of both can have one address.
VALUES = {"port": 10260, "auditor": {"autoEnroll": "warn", "interval": 5}}


@pytest.fixture(scope="module")
def cluster(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshCluster]:
    with (
        ControlPlane(tmp_path_factory.mktemp("enrolling"), plane.binaries) as own,
        mesh.installed(own, VALUES) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def start(cluster: MeshCluster, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Any]:
    """Return a function that runs the auditor as the chart does."""
    (own,) = (
        one
        for one in cluster.api.list("Deployment", "mendix-mesh")
        if one["metadata"]["name"] == "mendix-mesh-auditor"
    )
    (container,) = own["spec"]["template"]["spec"]["containers"]
    options = [
        arg for arg in container["args"] if arg.startswith(("--auto", "--events", "--interval"))
    ]
    assert options == ["--interval=5", "--auto-enroll=warn", "--events"]
    kubeconfig = command.as_account(cluster.plane, name="mendix-mesh-watcher").kubeconfig

    def running() -> Any:
        log = tmp_path_factory.mktemp("auditor") / "log"
        return auditor.running(kubeconfig, log, *options)

    return running


@pytest.fixture(scope="module")
def watching(start: Callable[[], Any]) -> Iterator[Auditor]:
    with start() as running:
        running.until("/readyz")
        yield running


def count(running: Auditor, state: str) -> float:
    """Return how many namespaces the auditor counts in a state."""
    return running.samples("mendix_mesh_auto_enroll_namespaces", state=state)[()]


class Place:
    """A namespace of a cluster."""

    def __init__(self, cluster: MeshCluster, **meta: Any) -> None:
        self.api = cluster.api
        self.name = cluster.plane.new_namespace("mendix", **meta)
        for account in manifests.service_accounts(self.name):
            self.api.create(account)

    @property
    def marks(self) -> dict[str, str]:
        """Return its labels and annotations of mendix-mesh."""
        meta = self.api.get("Namespace", self.name)["metadata"]
        both = {**meta["labels"], **meta.get("annotations", {})}
        return {key: value for key, value in both.items() if key.startswith("mendix-mesh.io/")}

    def configure(self) -> None:
        """Create the first custom resource, as Mendix's installer does."""
        self.api.create(manifests.operator_configuration(self.name))

    def await_enrollment(self, wanted: str = "linkerd") -> float:
        """Return after how many seconds the namespace is enrolled."""
        begun = time.monotonic()
        wait_for(
            lambda: ENROLLED_AT in self.marks, seconds=PATIENCE, why=f"{self.name} to be enrolled"
        )
        assert (self.marks[MESH_LABEL], self.marks[MODE_LABEL]) == (wanted, "warn")
        return time.monotonic() - begun

    def label(self, **labels: str | None) -> None:
        change = {MESH_LABEL: labels.get("mesh"), MODE_LABEL: labels.get("mode")}
        self.api.patch("Namespace", self.name, None, {"metadata": {"labels": change}})

    def pods(self) -> dict[str, Json]:
        found = self.api.list("Pod", self.name)
        return {
            one["metadata"]["name"]: one for one in found
            if "deletionTimestamp" not in one["metadata"]
        }  # fmt: skip

    def await_pods(self, *starts: str, joined: Callable[[Json], bool] = is_meshed) -> None:
        """Wait until there are pods with exactly these starts of names, all in the mesh."""

        def are_in() -> bool:
            found = self.pods()
            named = {start for start in starts for name in found if name.startswith(start)}
            known = all(name.startswith(starts) for name in found)
            return known and named == set(starts) and all(map(joined, found.values()))

        wait_for(are_in, seconds=60, why=f"the pods of {self.name} to be in the mesh")

    def events(self, reason: str) -> list[str]:
        found = self.api.list("Event", self.name)
        return [one["message"] for one in found if one["reason"] == reason]


def app(cluster: MeshCluster, place: Place) -> mendix.MendixOperator:
    """Create an app, and return the operator that runs it."""
    cluster.api.create(manifests.mendix_app("shop", place.name))
    return mendix.MendixOperator(
        cluster.plane.user("mendix-operator", ["system:masters"]), place.name
    )


APP = ("shop-master", "shop-build", "shop-database", "shop-file")


def test_an_operator_is_installed_and_all_its_pods_are_in_the_mesh(
    cluster: MeshCluster, watching: Auditor
) -> None:
    place = Place(cluster)
    begun = time.monotonic()
    mendix.install(cluster.api, place.name)
    installed = time.monotonic() - begun
    seconds = place.await_enrollment()
    with app(cluster, place).run() as operator:
        place.await_pods("mendix-operator", "mendix-agent", *APP)
    assert operator.denied == {}
    (text,) = place.events("Enrolled")
    assert text.startswith("enrolled in linkerd with mode warn, because the namespace has Mendix")
    print(f"installed in {installed:.1f} s with the CRDs, enrolled {seconds:.1f} s later")


def test_an_operator_that_runs_before_its_configuration_joins_too(
    cluster: MeshCluster, watching: Auditor
) -> None:
    """As with Mendix's Helm charts: Helm creates custom resources last."""
    place = Place(cluster)
    cluster.api.create(manifests.operator_deployment(place.name))
    cluster.api.create(manifests.agent_deployment(place.name))
    wait_for(lambda: len(place.pods()) == 2, why="the operator's pods")
    assert not any(map(is_meshed, place.pods().values()))
    place.configure()
    seconds = place.await_enrollment()
    place.await_pods("mendix-operator", "mendix-agent")
    restarted = [
        line["deployment"] for line in watching.logged
        if line["event"].startswith("restarted") and line["namespace"] == place.name
    ]  # fmt: skip
    assert restarted == ["mendix-agent", "mendix-operator"]
    print(f"enrolled {seconds:.1f} s after the first custom resource")


def test_a_global_operator_and_its_managed_namespaces(
    cluster: MeshCluster, watching: Auditor
) -> None:
    home, managed = Place(cluster), [Place(cluster) for _ in range(2)]
    names = [one.name for one in managed]
    mendix.install(cluster.api, home.name, managedNamespaces=names)
    for place in managed:
        # Neither an operator nor an agent runs here.
        cluster.api.create(manifests.custom_resource("StoragePlan", "postgres", place.name, {}))
    for place in (home, *managed):
        place.await_enrollment()
    with app(cluster, managed[0]).run():
        managed[0].await_pods(*APP)
    home.await_pods("mendix-operator", "mendix-agent")


def test_what_an_admin_takes_out_stays_out(
    cluster: MeshCluster, start: Callable[[], Any], watching: Auditor
) -> None:
    place = Place(cluster)
    place.configure()
    place.await_enrollment()
    place.label()
    # More of its resources, a full look, and another auditor.
    cluster.api.create(manifests.mendix_app("shop", place.name))
    with start() as other:
        other.until("/readyz")
        time.sleep(7)
        assert count(other, "removed") >= 1
    assert place.marks.keys() == {ENROLLED_AT}
    assert len(place.events("Enrolled")) == 1
    cluster.api.create(pod(place.name))
    assert not is_meshed(cluster.api.get("Pod", "shop", place.name))
    # Until the admin wants it again.
    cluster.api.patch(
        "Namespace", place.name, None, {"metadata": {"annotations": {ENROLLED_AT: None}}}
    )
    place.await_enrollment()


def test_with_two_meshes_the_namespaces_own_marks_decide_or_an_admin(
    cluster: MeshCluster, watching: Auditor, istio_plane: ControlPlane
) -> None:
    """Linkerd's stand-in and the real istiod."""
    with Istiod(cluster.plane):
        unclear, marked = Place(cluster), Place(cluster, labels={"istio-injection": "enabled"})
        unclear.configure()
        marked.configure()
        marked.await_enrollment("istio")
        wait_for(lambda: unclear.events("NotEnrolled"), seconds=PATIENCE, why="the Event")
        (text,) = unclear.events("NotEnrolled")
        assert "linkerd, istio are installed" in text
        assert unclear.marks == {}
        wait_for(lambda: count(watching, "several-meshes") == 1, seconds=PATIENCE, why="the metric")
        cluster.injector.uninstall()
        try:
            # One mesh is left. The next scan finds it.
            unclear.await_enrollment("istio")
            with app(cluster, unclear).run():
                unclear.await_pods(*APP, joined=istio.is_meshed)
        finally:
            cluster.injector.start()


def test_the_charts_rights_are_all_that_it_needs(watching: Auditor) -> None:
    """This test runs behind all that enroll, when a forbidden request would be in the log."""
    bad = [line for line in watching.logged if line["level"] != "info"]
    assert {line["event"] for line in bad} <= {"not enrolled", "can't watch"}, bad
    assert not [line for line in bad if "forbidden" in str(line)]


def test_without_the_value_it_has_no_right_to_change_namespaces(cluster: MeshCluster) -> None:
    def allowed() -> set[str]:
        rights = ("namespaces", "deployments.apps/mendix-operator")
        return {
            right for right in rights
            if cluster.plane.kubectl(
                "auth", "can-i", "patch", right, "--as", WATCHER, check=False
            ).returncode == 0
        }  # fmt: skip

    assert allowed() == {"namespaces", "deployments.apps/mendix-operator"}
    cluster.release.upgrade({"port": 10260})
    wait_for(lambda: allowed() == set(), why="the rights to be gone")
