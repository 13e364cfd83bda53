"""Any pod-bearing object as its pod."""

from typing import Any

import pytest

from tests.unit.policy import strategies
from tests.unit.policy.judge import mesh
from webhook.policy.pod import objects
from webhook.policy.pod.request import Request
from webhook.policy.pod.workload import Pod, pod_of

TEMPLATE = {
    "metadata": {"labels": {"app": "shop"}, "annotations": {"a": "b"}},
    "spec": {"restartPolicy": "Never", "containers": [{"name": "mendix"}]},
}


def pod(document: Any, **more: Any) -> Pod:
    found = pod_of(objects.convert(document), mesh(), Request(), **more)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", [kind for kind in strategies.KINDS if kind != "Pod"])
def test_a_template_is_never_final_and_its_object_is_its_controller(kind: str) -> None:
    found = pod(strategies.workload(kind, TEMPLATE), final=True)
    assert not found.final
    assert found.controller is not None
    assert (found.controller.kind, found.controller.name) == (kind, "shop")


@pytest.mark.parametrize("kind", ["Service", "Ingress", "pod", "", "ReplicationController"])
def test_other_kinds_bear_no_pod(kind: str) -> None:
    assert pod_of(objects.Object(kind=kind), mesh(), Request()) is None


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


def test_a_volume_whose_name_is_not_utf_8_cannot_be_read() -> None:
    text = b'{"kind": "Pod", "spec": {"volumes": [{"name": "\x80"}]}}'
    found = pod_of(objects.decode(text), mesh(), Request())
    assert found is not None
    with pytest.raises(objects.UndecodableError, match="name of a volume is not UTF-8"):
        found.source("x")
