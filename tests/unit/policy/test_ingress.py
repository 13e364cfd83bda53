"""Ingresses: the controller must dial the Service."""

from typing import Any

import pytest

from tests.standins import mendix_manifests as manifests
from tests.unit.policy.judge import Json, patch_for, settings

COMMUNITY = "nginx.ingress.kubernetes.io/service-upstream"
F5 = "nginx.org/use-cluster-ip"
CLASSES = settings(ingress={"classes": {"nginx": "f5-nginx", "old": "ingress-nginx", "x": "none"}})


def added(obj: Json, **more: Any) -> dict[str, str]:
    """The annotations that the patch adds, by unescaped key."""
    found = {}
    for operation in patch_for(obj, **more):
        assert operation["op"] == "add"
        if operation["path"] == "/metadata/annotations":
            found.update(operation["value"])
        else:
            key = operation["path"].removeprefix("/metadata/annotations/")
            found[key.replace("~1", "/")] = operation["value"]
    return found


@pytest.mark.parametrize("legacy", [True, False])
def test_the_class_is_read_from_spec_or_from_the_legacy_annotation(legacy: bool) -> None:
    obj = manifests.app_ingress("shop", "mendix", class_as_annotation=legacy)
    assert added(obj) == {COMMUNITY: "true"}


def test_the_class_of_spec_wins() -> None:
    obj = manifests.app_ingress("shop", "mendix", class_name="old")
    obj["metadata"]["annotations"]["kubernetes.io/ingress.class"] = "nginx"
    assert added(obj, given=CLASSES) == {COMMUNITY: "true"}


def test_each_controller_gets_its_own_annotation() -> None:
    obj = manifests.app_ingress("shop", "mendix", class_name="nginx")
    assert added(obj, given=CLASSES) == {F5: "true"}


@pytest.mark.parametrize("name", ["x", "traefik", ""])
def test_other_classes_are_left_alone(name: str) -> None:
    obj = manifests.app_ingress("shop", "mendix", class_name=name)
    assert added(obj, given=CLASSES) == {}


@pytest.mark.parametrize("value", ["true", "false", ""])
def test_an_author_s_value_is_left_alone(value: str) -> None:
    obj = manifests.app_ingress("shop", "mendix", annotations={COMMUNITY: value})
    assert added(obj) == {}


def test_an_update_is_fixed_too() -> None:
    obj = manifests.app_ingress("shop", "mendix")
    assert added(obj, old=obj) == {COMMUNITY: "true"}


def test_an_ingress_without_anything_is_left_alone() -> None:
    assert added({"kind": "Ingress"}) == {}


def test_missing_metadata_is_added_whole() -> None:
    obj = {"kind": "Ingress", "metadata": None, "spec": {"ingressClassName": "nginx"}}
    (operation,) = patch_for(obj)
    assert operation["value"] == {"annotations": {COMMUNITY: "true"}}
    assert operation["path"] == "/metadata"


VHOST = "nginx.ingress.kubernetes.io/upstream-vhost"
WITH_VHOST = settings(ingress={"upstreamVhost": True})


def test_with_istio_the_sidecar_gets_the_service_name_if_the_settings_say_so() -> None:
    obj = manifests.app_ingress("shop", "mendix")
    annotations = added(obj, given=WITH_VHOST, by="istio", namespace="mendix")
    assert annotations == {COMMUNITY: "true", VHOST: "shop.mendix.svc.cluster.local"}
    assert VHOST not in added(obj, by="istio", namespace="mendix")
    assert VHOST not in added(obj, given=WITH_VHOST, by="linkerd", namespace="mendix")


def test_an_ingress_of_several_services_has_no_one_host_to_tell() -> None:
    obj = manifests.app_ingress("shop", "mendix")
    obj["spec"]["defaultBackend"] = {"service": {"name": "other", "port": {"number": 80}}}
    assert added(obj, given=WITH_VHOST, by="istio", namespace="mendix") == {COMMUNITY: "true"}


def test_an_author_s_own_host_is_kept() -> None:
    obj = manifests.app_ingress("shop", "mendix")
    obj["metadata"]["annotations"][VHOST] = "mine"
    assert added(obj, given=WITH_VHOST, by="istio", namespace="mendix") == {COMMUNITY: "true"}
