"""What the mesh's containers prove by themselves, and the cache of these proofs."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.fixtures.meshes import istio, linkerd
from webhook.policy import meshes
from webhook.policy.mesh import Mesh
from webhook.policy.pod import objects
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import Pod, pod_of
from webhook.policy.settings import Settings

Json = dict[str, Any]
INJECTED: dict[str, Callable[[], Json]] = {"linkerd": linkerd.injected, "istio": istio.injected}


@pytest.fixture(params=INJECTED)
def mesh(request: pytest.FixtureRequest) -> Mesh:
    return meshes.load(Settings())[request.param]


def injected(mesh: Mesh) -> Json:
    return INJECTED[mesh.name]()


def seen(mesh: Mesh, document: Json) -> Pod:
    pod = pod_of(objects.convert(document), mesh, Request(), final=True)
    assert pod is not None
    return pod


def proxy_of(mesh: Mesh, document: Json) -> Json:
    placed = seen(mesh, document).proxy
    assert placed is not None
    found: Json = document["spec"][placed.kind][placed.index]
    return found


def test_the_same_containers_are_judged_once_whatever_is_beside_them(mesh: Mesh) -> None:
    first = injected(mesh)
    other = copy.deepcopy(first)
    other["metadata"]["name"] = "another"
    other["spec"]["containers"].append({"name": "more", "image": "more"})
    proxy_of(mesh, other)["volumeMounts"].append({"name": "token-x", "mountPath": "/token"})
    assert mesh.proofs.of(seen(mesh, first)) is mesh.proofs.of(seen(mesh, other))


def test_a_pod_is_judged_once(mesh: Mesh) -> None:
    pod = seen(mesh, injected(mesh))
    assert mesh.proofs.of(pod) is mesh.proofs.of(pod)


@pytest.mark.parametrize(
    "change",
    [
        {"image": "elsewhere"}, {"command": ["sleep"]}, {"args": ["x"]}, {"restartPolicy": "Never"},
        {"env": []}, {"envFrom": [{"configMapRef": {"name": "shop"}}]},
        {"securityContext": {"privileged": True}}, {"securityContext": {"runAsUser": 7}},
        {"securityContext": {"runAsGroup": 7}},
    ],
    ids=str,
)  # fmt: skip
def test_other_containers_are_judged_again(mesh: Mesh, change: Json) -> None:
    before, after = injected(mesh), injected(mesh)
    proxy_of(mesh, after).update(change)
    assert mesh.proofs.of(seen(mesh, before)) is not mesh.proofs.of(seen(mesh, after))


def test_a_judged_pod_has_only_the_fields_that_distinguish_it(mesh: Mesh) -> None:
    document = injected(mesh)
    proxy_of(mesh, document).update(workingDir="/x", ports=[{"containerPort": 1}])
    bare = mesh.proofs.of(seen(mesh, document)).pod
    assert not any((bare.labels, bare.annotations, bare.volumes))
    assert not bare.workload_containers
    for placed in bare.mesh_containers:
        container = placed.container
        assert not any((container.volume_mounts, container.ports, container.working_dir))
        assert container.liveness_probe == objects.NULL


@pytest.mark.parametrize(
    "change",
    [
        {"env": [{"name": "A", "value": "x" * 20_000}]},
        {"env": [{"name": f"A{number}"} for number in range(201)]},
        {"args": ["x" * 20_000]},
        {"args": [""] * 2_000},
        {"command": [""] * 2_000},
    ],
    ids=["value", "variables", "argument", "arguments", "command"],
)
def test_neither_long_nor_many_things_are_remembered(mesh: Mesh, change: Json) -> None:
    document = injected(mesh)
    proxy_of(mesh, document).update(change)
    first, second = (mesh.proofs.of(seen(mesh, document)) for _ in range(2))
    assert first is not second
    assert first.occurrences == second.occurrences


def test_few_proofs_are_remembered(mesh: Mesh) -> None:
    for number in range(300):
        document = injected(mesh)
        proxy_of(mesh, document)["image"] = f"image:{number}"
        mesh.proofs.of(seen(mesh, document))
    assert len(mesh.proofs.known) <= 128
