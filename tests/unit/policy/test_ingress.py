"""Ingresses: the controller must dial the Service."""

from typing import Any

import pytest

from tests.standins import mendix_manifests as manifests
from tests.unit.policy.judge import DEFAULTS, Json, patch_for, request, settings
from webhook.policy.messages import LONGEST_WARNING, ingress_warnings
from webhook.policy.settings import SettingsError

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


BOTH = {COMMUNITY: "true", F5: "true"}
TELLING = settings(ingress={"classes": {"nginx": "ingress-nginx"}})


@pytest.mark.parametrize("legacy", [True, False])
def test_the_class_is_read_from_spec_or_from_the_legacy_annotation(legacy: bool) -> None:
    obj = manifests.app_ingress("shop", "mendix", class_as_annotation=legacy)
    assert added(obj, given=CLASSES) == {F5: "true"}


def test_the_class_of_spec_wins() -> None:
    obj = manifests.app_ingress("shop", "mendix", class_name="old")
    obj["metadata"]["annotations"]["kubernetes.io/ingress.class"] = "nginx"
    assert added(obj, given=CLASSES) == {COMMUNITY: "true"}


@pytest.mark.parametrize("name", ["nginx", "internal", "webapprouting.kubernetes.azure.com", ""])
def test_a_class_that_either_controller_may_serve_gets_both_annotations(name: str) -> None:
    assert added(manifests.app_ingress("shop", "mendix", class_name=name)) == BOTH


def test_annotations_of_f5_s_controller_show_that_it_serves_the_ingress() -> None:
    own = {"nginx.org/client-max-body-size": "500m"}
    obj = manifests.app_ingress("shop", "mendix", annotations=own)
    # The Mendix Operator's own proxy-body-size shows nothing: it is on every Ingress.
    assert added(obj) == {F5: "true"}
    obj["metadata"]["annotations"]["nginx.ingress.kubernetes.io/rewrite-target"] = "/"
    assert added(obj) == BOTH


def test_settings_win_over_annotations() -> None:
    own = {"nginx.org/client-max-body-size": "500m"}
    obj = manifests.app_ingress("shop", "mendix", annotations=own)
    assert added(obj, given=TELLING) == {COMMUNITY: "true"}


@pytest.mark.parametrize("name", ["x", "traefik", "alb", "azure/application-gateway", "gce"])
def test_classes_of_other_controllers_are_left_alone(name: str) -> None:
    obj = manifests.app_ingress("shop", "mendix", class_name=name)
    assert added(obj, given=CLASSES) == {}


@pytest.mark.parametrize("value", ["true", "false", ""])
def test_an_author_s_value_is_left_alone(value: str) -> None:
    obj = manifests.app_ingress("shop", "mendix", annotations={COMMUNITY: value})
    assert added(obj) == {F5: "true"}
    assert added(obj, given=TELLING) == {}


def test_an_update_gets_the_annotations_too() -> None:
    obj = manifests.app_ingress("shop", "mendix")
    assert added(obj, old=obj) == BOTH


def test_an_ingress_with_our_annotations_gets_nothing_more() -> None:
    obj = manifests.app_ingress("shop", "mendix", annotations=BOTH)
    assert added(obj, old=obj) == {}


def test_an_object_without_metadata_gets_it_whole() -> None:
    obj = {"kind": "Ingress", "metadata": None, "spec": {"ingressClassName": "nginx"}}
    (operation,) = patch_for(obj)
    assert operation["value"] == {"annotations": BOTH}
    assert operation["path"] == "/metadata"


AFFINITY = "nginx.ingress.kubernetes.io/affinity"


def warned(**annotations: str) -> list[str]:
    own = {key.replace("__", "/"): value for key, value in annotations.items()}
    return ingress_warnings(
        request(manifests.app_ingress("shop", "mendix", annotations=own)), DEFAULTS, "linkerd"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (AFFINITY, "cookie"),
        ("nginx.ingress.kubernetes.io/upstream-hash-by", "$remote_addr"),
        ("nginx.com/sticky-cookie-services", "serviceName=shop srv_id"),
        ("nginx.org/lb-method", "ip_hash"),
        ("nginx.org/lb-method", "hash $remote_addr consistent"),
    ],
)
def test_sticky_sessions_get_a_warning(key: str, value: str) -> None:
    (text,) = warned(**{key: value})
    assert text.startswith("mendix-mesh (linkerd) Ingress shop: annotation ")
    assert f" {key.partition('/')[2]} has no effect" in text
    assert len(text) <= LONGEST_WARNING


def test_other_values_and_calls_to_pods_get_no_warning() -> None:
    assert warned() == []
    assert warned(**{"nginx.org/lb-method": "least_conn"}) == []
    # The author keeps the calls to pods: then sticky sessions work.
    assert warned(**{AFFINITY: "cookie", COMMUNITY: "false"}) == []
    other = manifests.app_ingress("shop", "mendix", class_name="traefik")
    other["metadata"]["annotations"][AFFINITY] = "cookie"
    assert ingress_warnings(request(other), DEFAULTS, "linkerd") == []


VHOST = "nginx.ingress.kubernetes.io/upstream-vhost"
WITH_VHOST = settings(ingress={"upstreamVhost": True})


def test_with_istio_the_sidecar_gets_the_service_name_if_the_settings_say_so() -> None:
    obj = manifests.app_ingress("shop", "mendix")
    annotations = added(obj, given=WITH_VHOST, by="istio", namespace="mendix")
    assert annotations == {**BOTH, VHOST: "shop.mendix.svc.cluster.local"}
    assert VHOST not in added(obj, by="istio", namespace="mendix")
    assert VHOST not in added(obj, given=WITH_VHOST, by="linkerd", namespace="mendix")


def test_an_ingress_of_several_services_has_no_one_host_to_tell() -> None:
    obj = manifests.app_ingress("shop", "mendix")
    obj["spec"]["defaultBackend"] = {"service": {"name": "other", "port": {"number": 80}}}
    assert added(obj, given=WITH_VHOST, by="istio", namespace="mendix") == BOTH


def test_an_author_s_own_host_is_kept() -> None:
    obj = manifests.app_ingress("shop", "mendix")
    obj["metadata"]["annotations"][VHOST] = "mine"
    assert added(obj, given=WITH_VHOST, by="istio", namespace="mendix") == BOTH


def test_the_setting_for_the_host_is_rejected_with_f5_s_controller() -> None:
    given = {"classes": {"public": "f5-nginx"}, "upstreamVhost": True}
    with pytest.raises(SettingsError, match=r"`settings.ingress.upstreamVhost`") as error:
        settings(ingress=given)
    assert "VirtualServer" in str(error.value)
