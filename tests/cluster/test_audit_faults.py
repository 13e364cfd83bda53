"""`audit` and `discover` while the API server, or the connection to it, fails."""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.cluster import command, faulty
from tests.cluster.command import Command
from tests.cluster.faulty import FaultyServer, Trouble
from tests.cluster.mesh import MESH_LABEL, MeshCluster
from tests.cluster.plane import ControlPlane
from tests.cluster.test_audit import only
from tests.cluster.workloads import ready_pods, workload
from tests.standins import mendix
from tests.standins import mendix_manifests as manifests
from webhook.cluster.api.connection import Cluster
from webhook.cluster.api.connection import path as api_path
from webhook.cluster.kinds.inventory import Inventory, LivePod

PODS = 7


@pytest.fixture(scope="module")
def namespace(mesh_cluster: MeshCluster) -> str:
    """An enrolled namespace with some pods, which is Mendix's."""
    name = mesh_cluster.enroll()
    mendix.install_crds(mesh_cluster.api)
    mesh_cluster.api.create(manifests.custom_resource("StoragePlan", "postgres", name, {}))
    mesh_cluster.api.create(workload("Deployment", name, replicas=PODS))
    ready_pods(mesh_cluster.api, name, count=PODS, seconds=60)
    return name


@pytest.fixture
def server(mesh_cluster: MeshCluster) -> Iterator[FaultyServer]:
    with faulty.in_front_of(mesh_cluster.plane) as running:
        yield running


@pytest.fixture
def auditor(mesh_cluster: MeshCluster, server: FaultyServer) -> Command:
    return command.as_account(
        mesh_cluster.plane, "mendix-mesh-enroller", server=server.url, ca=server.ca
    )


def each_path_once(*troubles: Trouble) -> Callable[[str, str], Trouble | None]:
    """The first calls of each path meet these troubles, one after the other; then all is well."""
    met: Counter[str] = Counter()

    def plan(method: str, path: str) -> Trouble | None:
        key = f"{method} {path.partition('?')[0]}"
        met[key] += 1
        return troubles[met[key] - 1] if met[key] <= len(troubles) else None

    return plan


STATUS = b'{"kind": "Status", "reason": "%s", "message": "not now"}'


@pytest.mark.parametrize(
    "troubles",
    [
        (Trouble(429, STATUS % b"TooManyRequests", retry_after="1"),),
        (Trouble(503, b"<html>no backend</html>"), Trouble(502, b"")),
        (Trouble(500, STATUS % b"InternalError"), Trouble(504, STATUS % b"Timeout")),
        (Trouble(cut=0), Trouble(cut=100)),
    ],
    ids=["busy", "a proxy without backend", "errors", "cut connections"],
)
def test_trouble_that_passes_changes_nothing(
    server: FaultyServer, auditor: Command, namespace: str, troubles: tuple[Trouble, ...]
) -> None:
    calm = [auditor.audit("-n", namespace), auditor("discover", "-o", "json").data]
    server.plan = each_path_once(*troubles)
    met = [auditor.audit("-n", namespace), auditor("discover", "-o", "json").data]
    assert met == calm
    assert server.troubles >= 4 * len(troubles)
    assert sum(only(calm[0])["pods"].values()) == PODS


def test_trouble_that_lasts_ends_with_one_line_and_2(
    server: FaultyServer, auditor: Command, namespace: str
) -> None:
    server.plan = lambda _, path: Trouble(503, STATUS % b"Gone") if "/pods" in path else None
    done = auditor("audit", "-n", namespace, codes=[2])
    assert done.err.splitlines()[-1] == "Error: not now"
    assert done.out == ""


def test_an_api_server_that_is_not_to_be_trusted_is_reported(
    mesh_cluster: MeshCluster, server: FaultyServer
) -> None:
    stranger = command.as_account(mesh_cluster.plane, server=server.url, ca=mesh_cluster.plane.ca)
    (line,) = stranger("audit", codes=[2]).err.splitlines()
    assert line.startswith(f"Error: can't trust {server.url}: ")
    assert "certificate" in line
    assert server.called == []


def test_a_cut_while_labelling_labels_all_the_same(
    mesh_cluster: MeshCluster, server: FaultyServer, auditor: Command
) -> None:
    """The API server has done it, and the answer was lost."""
    new = mesh_cluster.plane.new_namespace("mendix")
    mesh_cluster.api.create(manifests.custom_resource("StoragePlan", "postgres", new, {}))
    cuts = each_path_once(Trouble(cut=0))
    server.plan = lambda method, path: cuts(method, path) if method == "PATCH" else None
    auditor("discover", "--enroll", "--mesh", "istio", "-n", new, "--yes")
    assert server.troubles == 1
    meta = mesh_cluster.api.get("Namespace", new)["metadata"]
    assert meta["labels"][MESH_LABEL] == "istio"
    assert "mendix-mesh.io/enrolled-at" in meta["annotations"]


def names(auditor: Command, namespace: str, page: int) -> list[str]:
    """The pods of a namespace, read in small pages."""
    inventory = Inventory(Cluster.connect(str(auditor.kubeconfig)), page=page)
    found = list(inventory.pods(namespace))
    assert all(isinstance(one, LivePod) for one in found)
    return [one.name for one in found]


def test_a_list_that_expires_while_it_is_read_loses_and_doubles_nothing(
    mesh_cluster: MeshCluster, server: FaultyServer, auditor: Command
) -> None:
    """Lose the list's state between two pages: the API server's own 410 Gone.

    The API server remembers its state for minutes. So the proxy replaces the token by one from
    before this kind was defined, and etcd is compacted.
    """
    mendix.install_crds(mesh_cluster.api)
    where = mesh_cluster.plane.new_namespace("mendix")
    expected = [f"plan-{number}" for number in range(PODS)]
    for name in expected:
        mesh_cluster.api.create(manifests.custom_resource("StoragePlan", name, where, {}))

    def plan(_: str, path: str) -> Trouble | None:
        if "continue=" not in path or server.troubles:
            return None
        forget(mesh_cluster.plane)
        return Trouble(path=aged(path))

    server.plan = plan
    cluster = Cluster.connect(str(auditor.kubeconfig))
    plans = api_path(manifests.VERSION, "storageplans", where)
    found = [
        json.loads(bytes(raw))["metadata"]["name"]
        for page in cluster.pages(plans, partial=True, size=3)
        for raw in page.items
    ]
    assert found == expected
    assert server.statuses.count(410) == 1


def aged(path: str) -> str:
    """The same question with a token of long ago."""
    url = httpx.URL(path)
    token = url.params["continue"]
    decoded = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    old = json.dumps({**decoded, "rv": 1}).encode()
    made = base64.urlsafe_b64encode(old).decode().rstrip("=")
    return str(url.copy_set_param("continue", made))


def test_a_list_that_expires_without_a_token_starts_again_without_duplicates(
    server: FaultyServer, auditor: Command, namespace: str
) -> None:
    """The response of API servers before 1.12, and of proxies."""
    before = names(auditor, namespace, 500)
    gone = Trouble(410, STATUS % b"Expired")
    pages = Counter[str]()

    def plan(method: str, path: str) -> Trouble | None:
        pages["continued"] += "continue=" in path
        return gone if "continue=" in path and pages["continued"] == 2 else None

    server.plan = plan
    assert names(auditor, namespace, 2) == before
    assert server.troubles == 1


def forget(plane: ControlPlane) -> int:
    """Write an object and compact etcd up to this write. Return the revision."""
    plane.new_namespace("forget")
    with httpx.Client(base_url=plane.etcd, trust_env=False) as etcd:
        key = base64.b64encode(b"x").decode()
        header = etcd.post("/v3/kv/range", json={"key": key}).json()["header"]
        revision = int(header["revision"])
        etcd.post(
            "/v3/kv/compaction", json={"revision": revision, "physical": True}
        ).raise_for_status()
    return revision
