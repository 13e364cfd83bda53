"""Any pod-bearing object as its pod."""

from typing import Any

import pytest

from tests.fixtures.meshes import linkerd
from tests.unit.policy import strategies
from tests.unit.policy.judge import mesh
from webhook.policy.pod import objects
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import Pod, is_owned, pod_of

TEMPLATE = {
    "metadata": {"labels": {"app": "shop"}, "annotations": {"a": "b"}},
    "spec": {"restartPolicy": "Never", "containers": [{"name": "mendix"}]},
}


def pod(document: Any, **more: Any) -> Pod:
    found = pod_of(objects.convert(document), mesh(), Request(), **more)
    assert found is not None
    return found


def test_of_two_variables_with_one_name_the_last_holds() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B"}, {"name": "A", "value": "2"}]
    spec = {"containers": [{"name": "app", "env": env}, {"name": "none"}]}
    placed = pod({"kind": "Pod", "spec": spec}).containers
    assert [one.env for one in placed] == [{"A": "2", "B": ""}, {}]


@pytest.mark.parametrize("kind", strategies.KINDS)
def test_every_kind_leads_to_the_same_pod(kind: str) -> None:
    found = pod(strategies.workload(kind, TEMPLATE))
    assert found.labels == {"app": "shop"}
    assert found.annotations == {"a": "b"}
    assert [placed.field() for placed in found.containers] == ["spec.containers[mendix]"]
    assert found.tasks_end
    assert found.template == {
        "Pod": "",
        "CronJob": "spec.jobTemplate.spec.template",
    }.get(kind, "spec.template")


@pytest.mark.parametrize("kind", [kind for kind in strategies.KINDS if kind != "Pod"])
def test_a_template_is_never_final_and_its_object_is_its_controller(kind: str) -> None:
    found = pod(strategies.workload(kind, TEMPLATE), final=True)
    assert not found.final
    assert found.controller is not None
    assert (found.controller.kind, found.controller.name) == (kind, "shop")


def test_a_stored_pod_is_final() -> None:
    assert pod(linkerd.app(), final=True).final
    assert not pod(linkerd.app()).final


@pytest.mark.parametrize("kind", ["Service", "Ingress", "pod", "", "ReplicationController"])
def test_other_kinds_bear_no_pod(kind: str) -> None:
    assert pod_of(objects.Object(kind=kind), mesh(), Request()) is None


@pytest.mark.parametrize("kind", strategies.KINDS)
def test_an_object_without_anything_is_an_empty_pod(kind: str) -> None:
    found = pod({"kind": kind})
    assert found.containers == []
    assert found.labels == {}
    assert found.annotations == {}
    assert found.proxy is None


def test_containers_are_distinguished_by_their_origin() -> None:
    found = pod(linkerd.injected())
    assert [placed.name for placed in found.mesh_containers] == ["linkerd-init", "linkerd-proxy"]
    assert [placed.name for placed in found.workload_containers] == ["mendix"]
    assert found.proxy is not None
    assert found.proxy.field("image") == "spec.initContainers[linkerd-proxy].image"


def test_without_a_mesh_s_container_all_are_the_workload_s() -> None:
    found = pod(linkerd.app())
    assert found.mesh_containers == []
    assert [placed.name for placed in found.workload_containers] == ["mendix"]


def test_an_object_is_owned_if_a_controller_says_so() -> None:
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"}
    for references, owned in (
        ([{**owner, "controller": True}], True),
        ([owner], False),
        (None, False),
    ):
        obj = {"kind": "ReplicaSet", "metadata": {"ownerReferences": references}}
        assert is_owned(objects.convert(obj)) is owned
    assert not is_owned(objects.Object())


@pytest.mark.parametrize(
    ("volume", "field"),
    [
        ({}, "emptyDir"),
        ({"emptyDir": None}, "emptyDir"),
        ({"secret": {"secretName": "x"}}, "secret"),
        ({"projected": {"sources": [{"secret": {}}]}}, "projected"),
        ({"projected": {"sources": [None]}}, "unreadable"),
        ({"downwardAPI": {"items": ["enabled"]}}, "unreadable"),
        ({"configMap": 1}, "unreadable"),
        ({"emptyDir": {}, "secret": {}}, "several"),
    ],
)
def test_a_volume_s_source_has_the_field_and_a_content_that_can_be_relied_on(
    volume: dict[str, Any], field: str
) -> None:
    found = pod({"kind": "Pod", "spec": {"volumes": [{"name": "x", **volume}]}})
    source = found.source("x")
    assert source is not None
    assert source.field == field
    assert found.source("y") is None
