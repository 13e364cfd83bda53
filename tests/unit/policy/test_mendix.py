"""Which objects of a namespace belong to Mendix."""

from typing import Any

import pytest

from tests.standins import mendix_manifests as manifests
from tests.unit.policy.judge import mesh
from webhook.policy import mendix
from webhook.policy.pod import objects
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import Pod, pod_of

NS = "mendix"


def owner(kind: str, name: str) -> dict[str, Any]:
    made = manifests.custom_resource(kind, name, NS, {})
    made["metadata"]["uid"] = "1"
    return made


def pod(document: dict[str, Any]) -> Pod:
    found = pod_of(objects.convert(document), mesh(), Request())
    assert found is not None
    return found


BUILD = manifests.build_pod("shop", NS, owner=owner("Build", "shop-build"))
DATABASE = manifests.storage_pod("shop", "database", NS, owner=owner("StorageInstance", "x"))
FILE = manifests.storage_pod("shop", "file", NS)
LEADER = manifests.app_deployment("shop", NS, owner=owner("Runtime", "shop"))
WORKER_POD = manifests.app_pod("shop", NS)
WORKER_POD["metadata"]["labels"]["node-type"] = "worker"
WORKER_POD["metadata"]["ownerReferences"][0]["name"] = "shop-worker-7fd5487c8"


@pytest.mark.parametrize(
    ("document", "role"),
    [
        (manifests.operator_deployment(NS), "operator"),
        (manifests.agent_deployment(NS), "agent"),
        (LEADER, "app leader"),
        (manifests.app_pod("shop", NS), "app leader"),
        (WORKER_POD, "app worker"),
        (BUILD, "build"),
        (DATABASE, "database"),
        (manifests.backup_pod(NS), ""),
        (manifests.installer_job(NS), ""),
        ({"kind": "Pod", "metadata": {"labels": {"component": "mendix-app"}}}, "app"),
        ({"kind": "Pod"}, ""),
    ],
)
def test_a_pod_has_a_role(document: dict[str, Any], role: str) -> None:
    assert mendix.role(pod(document)) == role


@pytest.mark.parametrize(
    ("labels", "name", "role"),
    [
        ({"node-type": "master"}, "shop", "app leader"),
        ({}, "shop-master", "app leader"),
        ({"node-type": "worker"}, "shop", "app worker"),
        ({}, "shop-worker", "app worker"),
        ({"node-type": "other"}, "shop", "app"),
    ],
)
def test_an_app_is_recognized_by_its_label_or_by_its_name(
    labels: dict[str, str], name: str, role: str
) -> None:
    labels = {"component": "mendix-app", **labels}
    assert mendix.role(pod({"kind": "Pod", "metadata": {"name": name, "labels": labels}})) == role


@pytest.mark.parametrize(
    "document",
    [BUILD, DATABASE, FILE, manifests.installer_job(NS),
     {"kind": "Pod", "metadata": {"name": "shop-build"}},
     {"kind": "CronJob"}],
)  # fmt: skip
def test_what_must_end_is_a_task(document: dict[str, Any]) -> None:
    assert mendix.is_task(pod(document))


def test_a_task_is_known_by_its_owner_even_if_it_restarts() -> None:
    running = {**BUILD, "spec": {**BUILD["spec"], "restartPolicy": "Always"}}
    assert mendix.is_task(pod(running))


@pytest.mark.parametrize(
    "document",
    [LEADER, manifests.app_pod("shop-build", NS), manifests.operator_deployment(NS),
     manifests.backup_pod(NS), {"kind": "Deployment", "metadata": {"name": "shop-build"}}],
)  # fmt: skip
def test_what_runs_on_is_no_task(document: dict[str, Any]) -> None:
    assert not mendix.is_task(pod(document))


def test_the_operator_owns_what_its_custom_resources_own() -> None:
    assert mendix.is_operator_owned(objects.convert(LEADER))
    assert not mendix.is_operator_owned(objects.convert(manifests.agent_deployment(NS)))
    assert not mendix.is_operator_owned(objects.convert(manifests.app_pod("shop", NS)))
    assert not mendix.is_operator_owned(objects.Object())
