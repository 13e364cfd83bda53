"""The JSON Patch operations that a review adds, on the raw object."""

import copy
from typing import Any

import jsonpatch
import pytest

from tests.fixtures.meshes import linkerd
from tests.standins import mendix_manifests as manifests
from tests.unit.policy import strategies
from tests.unit.policy.judge import Json, patch_for, settings
from webhook.policy.mesh import Want
from webhook.policy.mutate import patch
from webhook.policy.pod.objects import Meta

INJECT = "linkerd.io/inject"
NATIVE = "config.linkerd.io/proxy-enable-native-sidecar"
ALPHA = "config.alpha.linkerd.io/proxy-enable-native-sidecar"
POLICY = "config.linkerd.io/default-inbound-policy"
CLOSED = settings(linkerd={"inboundPolicy": "all-authenticated"})
TEMPLATE: Json = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "mendix"}]}}


def pod(annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    meta: Json = {"name": "shop", "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def annotations_of(obj: Json, **more: Any) -> dict[str, str]:
    """The pod's annotations after mutation, be it in a template or not."""
    patched = jsonpatch.apply_patch(copy.deepcopy(obj), patch_for(obj, **more))
    meta = strategies.template_of(patched).get("metadata") or {}
    return meta.get("annotations") or {}


@pytest.mark.parametrize("metadata", [{}, {"annotations": None}, {"labels": {"a": "b"}}])
def test_a_missing_map_is_added_whole(metadata: Json) -> None:
    assert patch_for({"kind": "Pod", "metadata": metadata}) == [
        {"op": "add", "path": "/metadata/annotations", "value": {INJECT: "enabled"}}
    ]


def test_keys_with_slashes_and_tildes_are_escaped() -> None:
    operations = patch("/x", Meta(labels={}), [Want("labels", "a~b/c~1", "v")])
    assert [operation.path for operation in operations] == ["/x/metadata/labels/a~0b~1c~01"]
    assert patch("/x", Meta(labels={}), []) == []


@pytest.mark.parametrize("value", ["", "true", "Enabled", "enabled "])
def test_a_value_that_the_injector_does_not_know_is_fixed(value: str) -> None:
    assert annotations_of(pod({INJECT: value})) == {INJECT: "enabled"}


@pytest.mark.parametrize("value", ["enabled", "ingress", "disabled"])
def test_an_author_s_valid_choice_is_left_alone(value: str) -> None:
    assert patch_for(pod({INJECT: value})) == []


def test_an_opt_out_is_overridden_if_the_settings_say_so() -> None:
    override = settings(optOut="override")
    assert annotations_of(pod({INJECT: "disabled"}), given=override) == {INJECT: "enabled"}


@pytest.mark.parametrize("policy", ["OnFailure", "Never"])
def test_a_pod_that_must_end_gets_a_sidecar_that_ends(policy: str) -> None:
    found = annotations_of(pod(restartPolicy=policy))
    assert found == {INJECT: "enabled", NATIVE: "true", ALPHA: "true"}


@pytest.mark.parametrize("key", [NATIVE, ALPHA, NATIVE.replace("config.", "config.beta.")])
def test_an_author_s_choice_of_sidecar_is_left_alone(key: str) -> None:
    found = annotations_of(pod({key: "false"}, restartPolicy="Never"))
    assert found == {key: "false", INJECT: "enabled"}


def test_the_demanded_inbound_policy_is_added_if_there_is_none() -> None:
    assert annotations_of(pod(), given=CLOSED)[POLICY] == "all-authenticated"
    assert annotations_of(pod({POLICY: "deny"}), given=CLOSED)[POLICY] == "deny"
    assert POLICY not in annotations_of(pod())


def test_an_ingress_controller_gets_no_inbound_policy_because_its_clients_have_no_mesh() -> None:
    assert annotations_of(pod(), given=CLOSED, ingress=True) == {INJECT: "enabled"}


def test_an_opted_out_pod_gets_nothing_at_all() -> None:
    assert patch_for(pod({INJECT: "disabled"}, restartPolicy="Never"), given=CLOSED) == []


def test_a_pod_is_not_touched_after_its_creation() -> None:
    assert patch_for(pod(), pod()) == []
    assert patch_for(pod(), operation="DELETE") == []
    assert patch_for(pod(), subresource="ephemeralcontainers") == []
    assert patch_for(pod(), object=None) == []


@pytest.mark.parametrize("kind", [kind for kind in strategies.KINDS if kind != "Pod"])
def test_a_controller_s_template_is_opted_in_as_it_is_made(kind: str) -> None:
    obj = strategies.workload(kind, TEMPLATE)
    assert annotations_of(obj)[INJECT] == "enabled"
    assert (NATIVE in annotations_of(obj)) == (kind in ("Job", "CronJob"))
    where = "/spec/jobTemplate/spec/template" if kind == "CronJob" else "/spec/template"
    assert {operation["path"] for operation in patch_for(obj)} == {f"{where}/metadata/annotations"}


def test_an_update_opts_a_template_in_only_if_it_changes_the_template_anyway() -> None:
    old = strategies.workload("Deployment", TEMPLATE)
    scaled = {**old, "spec": {**old["spec"], "replicas": 3}}
    assert patch_for(scaled, old) == []
    changed = strategies.workload("Deployment", {**TEMPLATE, "spec": linkerd.app()["spec"]})
    assert annotations_of(changed, old=old) == {INJECT: "enabled"}


@pytest.mark.parametrize("controller", [True, False])
def test_what_the_mendix_operator_owns_is_left_alone(controller: bool) -> None:
    runtime = manifests.custom_resource("Runtime", "shop", "mendix", {})
    runtime["metadata"]["uid"] = "1"
    obj = manifests.app_deployment("shop", "mendix", owner=runtime)
    obj["metadata"]["ownerReferences"][0]["controller"] = controller
    assert patch_for(obj) == []


def test_what_another_controller_owns_is_left_alone() -> None:
    obj = strategies.workload("ReplicaSet", TEMPLATE)
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "controller": True}
    obj["metadata"]["ownerReferences"] = [owner]
    assert patch_for(obj) == []


@pytest.mark.parametrize("spec", [None, {}, {"template": None}, {"template": {"spec": None}},
                                  {"template": {"spec": {"containers": []}}}])  # fmt: skip
def test_a_template_without_containers_is_left_alone(spec: Json | None) -> None:
    assert patch_for({"kind": "Deployment", "metadata": {"name": "shop"}, "spec": spec}) == []


def test_other_kinds_and_the_unknown_mesh_add_nothing() -> None:
    assert patch_for({"kind": "Service", "metadata": {"name": "shop"}}) == []
    assert patch_for(pod(), by="unknown") == []
