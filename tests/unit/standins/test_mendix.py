"""The manifests of a Mendix namespace, and what the stand-in operator reverts, offline."""

import copy
from typing import Any

import pytest

from tests.standins import mendix_manifests as manifests
from tests.standins.defaults import defaulted
from tests.standins.mendix import rolled_back

Json = dict[str, Any]

RUNTIME = {
    "apiVersion": manifests.VERSION,
    "kind": "Runtime",
    "metadata": {"name": "shop", "uid": "u-1"},
}


def wanted() -> Json:
    return manifests.app_deployment("shop", "mendix", owner=RUNTIME)


def stored() -> Json:
    """Return the Deployment as the API server and the Deployment controller leave it."""
    filled = defaulted(wanted())
    filled["metadata"] |= {
        "resourceVersion": "7",
        "uid": "u-2",
        "generation": 1,
        "annotations": {"deployment.kubernetes.io/revision": "1"},
        "managedFields": [],
    }
    filled["spec"]["template"]["metadata"]["creationTimestamp"] = None
    return {**filled, "status": {"replicas": 1}}


def test_defaults_and_the_revision_are_no_changes() -> None:
    assert rolled_back(wanted(), stored()) is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata/labels/added", "x"),
        ("metadata/annotations/added", "x"),
        ("metadata/ownerReferences", []),
        ("spec/replicas", 2),
        ("spec/template/metadata/labels/added", "x"),
        ("spec/template/metadata/annotations", {"linkerd.io/inject": "enabled"}),
        ("spec/template/spec/containers", []),
        ("spec/template/spec/initContainers", [{"name": "linkerd-proxy"}]),
        ("spec/template/spec/automountServiceAccountToken", True),
    ],
)
def test_every_other_change_is_rolled_back(path: str, value: Any) -> None:
    changed = stored()
    *parents, last = path.split("/")
    inner = changed
    for part in parents:
        inner = inner[part]
    inner[last] = value
    replacement = rolled_back(wanted(), changed)
    assert replacement is not None
    assert replacement["metadata"]["resourceVersion"] == "7"
    assert replacement["spec"] == defaulted(wanted())["spec"]
    assert rolled_back(wanted(), {**stored(), **replacement}) is None


def test_defaulting_fills_in_what_is_missing_and_nothing_else() -> None:
    before = wanted()
    once = defaulted(before)
    assert before == wanted()
    assert defaulted(once) == once
    assert once["spec"]["template"]["spec"]["dnsPolicy"] == "ClusterFirst"
    assert once["spec"]["strategy"] == {"type": "Recreate"}


def test_an_app_pod_is_what_its_replica_set_creates() -> None:
    pod = manifests.app_pod("shop", "mendix", annotations={"a": "b"})
    assert "name" not in pod["metadata"]
    assert pod["metadata"]["generateName"] == "shop-master-7fd5487c8-"
    assert pod["metadata"]["annotations"] == {"a": "b"}
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["controller"]) == ("ReplicaSet", True)
    assert [c["name"] for c in pod["spec"]["containers"]] == ["mendix", "m2ee-sidecar"]
    assert pod["metadata"]["labels"]["privatecloud.mendix.com/component"] == "mendix-app"


@pytest.mark.parametrize(
    ("pod", "name", "kind"),
    [
        (manifests.build_pod, "shop-build", "Build"),
        (
            lambda env, ns, **kw: manifests.storage_pod(env, "database", ns, **kw),
            "shop-database",
            "StorageInstance",
        ),
        (
            lambda env, ns, **kw: manifests.storage_pod(env, "file", ns, **kw),
            "shop-file",
            "StorageInstance",
        ),
    ],
)
def test_a_task_pod_ends_and_is_owned_by_its_own_resource(pod: Any, name: str, kind: str) -> None:
    owner = manifests.custom_resource(kind, name, "mendix", {})
    owner["metadata"]["uid"] = "u-3"
    made = pod("shop", "mendix", owner=owner)
    assert made["metadata"]["name"] == name
    assert made["spec"]["restartPolicy"] == "Never"
    assert made["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "privatecloud.mendix.com/v1alpha1",
            "kind": kind,
            "name": name,
            "uid": "u-3",
            "controller": True,
        }
    ]


def test_manifests_share_nothing() -> None:
    one, other = wanted(), wanted()
    before = copy.deepcopy(other)
    for container in one["spec"]["template"]["spec"]["containers"]:
        container["securityContext"]["added"] = True
    one["spec"]["selector"]["matchLabels"]["added"] = "x"
    assert other == before
    assert "added" not in one["metadata"]["labels"]


def test_the_class_of_an_ingress_is_in_one_place() -> None:
    modern = manifests.app_ingress("shop", "mendix")
    legacy = manifests.app_ingress("shop", "mendix", class_as_annotation=True)
    annotation = "kubernetes.io/ingress.class"
    assert modern["spec"]["ingressClassName"] == "nginx"
    assert annotation not in modern["metadata"]["annotations"]
    assert "ingressClassName" not in legacy["spec"]
    assert legacy["metadata"]["annotations"][annotation] == "nginx"
