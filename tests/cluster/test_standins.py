"""The stand-ins themselves, on the test cluster: they do what the real programs do."""

from collections.abc import Callable

import pytest

from tests.cluster.api import Api, wait_for
from tests.cluster.plane import STAY_ANNOTATION, ControlPlane
from tests.standins import mendix_manifests as manifests
from tests.standins.defaults import defaulted
from tests.standins.mendix import MendixOperator, install

Namespace = Callable[..., str]


@pytest.fixture
def api(plane: ControlPlane) -> Api:
    return plane.api


@pytest.fixture
def operator(plane: ControlPlane, namespace: Namespace) -> MendixOperator:
    where = namespace("mendix")
    install(plane.api, where)
    return MendixOperator(plane.user("operator", ["system:masters"]), where)


def test_the_defaults_are_the_api_servers(api: Api, namespace: Namespace) -> None:
    where = namespace()
    for made in (
        manifests.app_deployment("shop", where, annotations={"a": "b"}),
        manifests.operator_deployment(where),
        manifests.agent_deployment(where),
    ):
        assert defaulted(made)["spec"] == api.create(made, dry_run=True)["spec"]


def test_the_operator_makes_all_of_an_app_and_then_rests(
    api: Api, operator: MendixOperator
) -> None:
    where = operator.namespace
    api.create(manifests.mendix_app("shop", where))
    assert operator.reconcile() == 11
    assert operator.denied == {}

    owners = {}
    for kind in ("Runtime", "Build", "StorageInstance", "Endpoint", "Deployment", "Service"):
        for obj in api.list(kind, where):
            if references := obj["metadata"].get("ownerReferences"):
                (owner,) = references
                owners[f"{kind}/{obj['metadata']['name']}"] = f"{owner['kind']}/{owner['name']}"
    for p in api.list("Pod", where):
        (owner,) = p["metadata"].get("ownerReferences") or [{"kind": "-", "name": "-"}]
        if owner["kind"] != "ReplicaSet":
            owners[f"Pod/{p['metadata']['name']}"] = f"{owner['kind']}/{owner['name']}"
    assert owners == {
        "Runtime/shop": "MendixApp/shop",
        "Build/shop-build": "MendixApp/shop",
        "StorageInstance/shop-database": "MendixApp/shop",
        "StorageInstance/shop-file": "MendixApp/shop",
        "Endpoint/shop": "MendixApp/shop",
        "Deployment/shop-master": "Runtime/shop",
        "Service/shop": "Endpoint/shop",
        "Pod/shop-build": "Build/shop-build",
        "Pod/shop-database": "StorageInstance/shop-database",
        "Pod/shop-file": "StorageInstance/shop-file",
    }

    def done() -> bool:
        operator.reconcile()
        return all(
            (obj.get("status") or {}).get("phase") == "Done"
            for kind in ("StorageInstance", "Build")
            for obj in api.list(kind, where)
        )

    wait_for(done, why="the tasks to be done")
    wait_for(
        lambda: api.get("Deployment", "shop-master", where).get("status", {}).get("readyReplicas"),
        why="the app",
    )
    before = operator.writes.copy()
    for _ in range(5):
        assert operator.reconcile() == 0
    assert operator.writes == before
    assert before["Deployment/shop-master"] == 1
    assert operator.reconciles >= 6
    # A task's pod is not recreated after its task has ended.
    api.delete("Pod", "shop-file", where, grace=0)
    assert operator.reconcile() == 0


def test_a_failed_task_pod_stays_until_someone_deletes_it(
    api: Api, operator: MendixOperator
) -> None:
    where = operator.namespace
    annotations = {"general": {STAY_ANNOTATION: "true"}}
    api.create(manifests.mendix_app("shop", where, customPodAnnotations=annotations))
    operator.reconcile()
    failed = wait_for(
        lambda: (
            p
            if (p := api.get("Pod", "shop-build", where)).get("status", {}).get("phase")
            == "Running"
            else None
        ),
        why="the build",
    )
    api.patch("Pod", "shop-build", where, {"status": {"phase": "Failed"}}, subresource="status")
    for _ in range(3):
        assert operator.reconcile() == 0
    assert api.get("Pod", "shop-build", where)["metadata"]["uid"] == failed["metadata"]["uid"]
    api.delete("Pod", "shop-build", where, grace=0)

    def again() -> bool:
        operator.reconcile()
        return bool(
            api.get("Pod", "shop-build", where)["metadata"]["uid"] != failed["metadata"]["uid"]
        )

    wait_for(again, why="a new build pod")
