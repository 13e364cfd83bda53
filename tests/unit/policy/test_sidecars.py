"""Rules for every mesh that puts a proxy into the pod."""

from typing import Any

import pytest

from tests.fixtures.changes import APP, PREPARE, Change, changed, put
from tests.fixtures.meshes import istio, linkerd
from tests.unit.policy.judge import Json, broken, judge, mesh
from webhook.policy import sidecars
from webhook.policy.mesh import Occurrence
from webhook.policy.pod import objects
from webhook.policy.pod.workload import Pod

USER = "spec.containers[mendix].securityContext.runAsUser"


def pod(document: Json, by: str = "istio") -> Pod:
    obj = objects.convert(document)
    return Pod(obj.metadata, obj.spec, mesh(by), final=True)


def fields(occurrences: Any) -> list[str]:
    found: list[Occurrence] = list(occurrences)
    return [occurrence.field for occurrence in found]


def context(**more: Any) -> Pod:
    """Return the app with its own security context, and one of the whole pod, under `pod`."""
    whole = more.pop("pod", {})
    document = changed(istio.injected(), put("/spec/securityContext", whole))
    return pod(changed(document, put(APP + "/securityContext", more)))


def test_init_containers_before_a_native_proxy_are_early() -> None:
    document = istio.injected(put("/spec/initContainers", [PREPARE]))
    assert fields(sidecars.before_proxy(pod(document), "istio-init")) == []
    early = changed(document, put("/spec/initContainers/1", {**PREPARE, "name": "first"}))
    assert fields(sidecars.before_proxy(pod(early), "istio-init")) == ["spec.initContainers[first]"]


def test_all_init_containers_beside_a_classic_proxy_are_early() -> None:
    prepare = put("/spec/initContainers", [PREPARE, {**PREPARE, "name": "then"}])
    document = istio.injected(prepare, config=istio.CLASSIC)
    assert fields(sidecars.before_proxy(pod(document), "istio-init")) == [
        "spec.initContainers[prepare]",
        "spec.initContainers[then]",
    ]


def test_an_init_container_that_stays_must_not_start_before_the_rules() -> None:
    lasting = {**PREPARE, "name": "lasting", "restartPolicy": "Always"}
    for config in (istio.CLASSIC, None):
        document = changed(istio.injected(put("/spec/initContainers", [PREPARE]), config=config),
                           put("/spec/initContainers/0", lasting))  # fmt: skip
        found = pod(document)
        assert fields(sidecars.before_rules(found, "istio-init")) == [
            "spec.initContainers[lasting]"
        ]
        assert "spec.initContainers[lasting]" not in fields(
            sidecars.before_proxy(found, "istio-init")
        )
    plugin = changed(istio.injected(config=istio.CNI), put("/spec/initContainers/0", lasting))
    assert fields(sidecars.before_rules(pod(plugin), "istio-init")) == []


def test_without_a_proxy_nothing_is_early() -> None:
    document = changed(istio.app(), put("/spec/initContainers", [PREPARE]))
    assert fields(sidecars.before_proxy(pod(document), "istio-init")) == []


@pytest.mark.parametrize("name", ["istio", "linkerd"])
def test_a_mount_of_the_proxy_s_volume_is_reported_with_its_reason(name: str) -> None:
    document = (istio if name == "istio" else linkerd).injected()
    mounts = [{"name": "own", "mountPath": "/a"}, {"name": "proxy-s", "mountPath": "/b"}]
    found = pod(changed(document, put(APP + "/volumeMounts", mounts)), name)
    assert list(sidecars.mounts(found, ["proxy-s"], "why")) == [
        Occurrence("spec.containers[mendix].volumeMounts[proxy-s]", ("proxy-s",), "why")
    ]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, []),
        ({"runAsUser": 1337}, [USER]),
        ({"runAsGroup": 1338}, ["spec.containers[mendix].securityContext.runAsGroup"]),
        ({"runAsUser": 1338, "runAsGroup": 1337}, []),
        ({"pod": {"runAsUser": 1337}}, ["spec.securityContext.runAsUser"]),
        ({"pod": {"runAsUser": 1337}, "runAsUser": 1000}, []),
        ({"pod": {"runAsUser": 1000}, "runAsUser": 1337}, [USER]),
        ({"pod": {"runAsGroup": 1338}}, ["spec.securityContext.runAsGroup"]),
        ({"pod": {"fsGroup": 1338}}, ["spec.securityContext.fsGroup"]),
        ({"pod": {"fsGroup": 1337}}, []),
        (
            {"pod": {"supplementalGroups": [1, 1338]}},
            ["spec.securityContext.supplementalGroups"],
        ),
        ({"pod": {"supplementalGroups": [1337]}}, []),
        ({"runAsUser": 0}, []),
    ],
)
def test_users_and_groups_that_bypass_the_proxy_are_only_its_own(
    given: Json, found: list[str]
) -> None:
    assert fields(sidecars.clashes(context(**given), {1337}, {1338})) == found


def test_if_no_user_bypasses_the_proxy_none_clashes() -> None:
    found = context(pod={"fsGroup": 1337, "runAsUser": 1337, "supplementalGroups": [0]})
    assert fields(sidecars.clashes(found, set(), set())) == []


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        ("dst.linkerd.svc.cluster.local.:8086", True),
        ("dst.linkerd.svc.evil.example.com:8086", False),
        ("dst.linkerd.svc.cluster.local.evil.example.com:8086", False),
        ("dst.linkerd.svc:8086", True),
        ("dst.linkerd.svc", True),
        ("dst.mesh.svc:8086", False),
        ("dst.linkerd.svcs:8086", False),
        ("linkerd.svc:8086", False),
        ("linkerd", False),
        ("", False),
    ],
)
def test_an_address_is_a_service_of_the_namespace_or_not(address: str, ours: bool) -> None:
    assert sidecars.is_service_in(address, "linkerd", "cluster.local") is ours


ISTIOD = "istiod.istio-system.svc"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([put("/metadata/name", ISTIOD)], ["metadata.name"]),
        ([put("/metadata/name", "istiod.istio-system")], ["metadata.name"]),
        ([put("/metadata/name", "istiod.example.com")], ["metadata.name"]),
        ([put("/metadata/name", "shop.example.com")], []),
        # The kubelet then writes the host name, which has no dots.
        ([put("/metadata/name", ISTIOD), put("/spec/hostname", "shop")], []),
        ([put("/spec/hostnameOverride", ISTIOD)], ["spec.hostnameOverride"]),
        ([put("/spec/hostnameOverride", ISTIOD), put("/spec/hostname", "shop")],
         ["spec.hostnameOverride"]),
        ([put("/spec/hostnameOverride", "shop.example.com"), put("/metadata/name", ISTIOD)], []),
    ],
)  # fmt: skip
def test_a_pod_must_not_have_the_name_of_the_control_plane(
    changes: list[Change], expected: list[str]
) -> None:
    """The kubelet writes it into the pod's hosts file, with the pod's address."""
    document = changed(istio.injected(), *changes)
    moved = sidecars.moved_names(pod(document), ["istiod.example.com"], "istio-system")
    assert fields(moved) == expected
    assert ("control-plane-elsewhere" in broken(judge(document, by="istio"))) == (
        bool(expected) and "example" not in document["metadata"]["name"]
    )
