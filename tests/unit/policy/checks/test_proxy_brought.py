"""The record of an author's input: made before the injector runs, and judged after it."""

from typing import Any

import jsonpatch
import pytest

from tests.fixtures.changes import RECORD, Change, annotation, brought, changed, drop, label, put
from tests.fixtures.meshes import ambient, istio, linkerd
from tests.unit.policy.judge import (
    Json,
    broken,
    deployment,
    judge,
    recorded,
    settings,
    whole_patch,
)
from webhook.policy.validate import Verdict

BY = {"linkerd": linkerd, "istio": istio, "ambient": ambient}
NETWORKS = linkerd.variable("LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS", "127.0.0.0/8")
#: A proxy that satisfies every other check.
BY_HAND = changed(linkerd.injected(), NETWORKS)
MARKED = changed(BY_HAND, brought("initContainers[linkerd-init]", "initContainers[linkerd-proxy]"))
KEY = "/metadata/annotations/mendix-mesh.io~1inputs"


def places(verdict: Verdict) -> list[str]:
    return [v.field for v in verdict.violations if v.check == "proxy-brought"]


@pytest.mark.parametrize(
    ("by", "pod", "record"),
    [
        ("linkerd", linkerd.app(), "allowed"),
        ("linkerd", changed(linkerd.app(), linkerd.config("proxy-cpu-limit", "1")), "allowed"),
        ("linkerd", changed(linkerd.app(), linkerd.config("proxy-cpu-limit", "a\nb: c")),
         "input-not-allowed metadata.annotations[config.linkerd.io/proxy-cpu-limit]"),
        ("linkerd", changed(linkerd.app(), put("/spec/volumes", [
            {"name": "linkerd-identity-token", "emptyDir": {}}])),
         "proxy-brought spec.volumes[linkerd-identity-token]"),
        ("istio", istio.app(), None),
        ("istio", changed(istio.app(), annotation(RECORD, "")), "allowed"),
        ("istio", changed(istio.app(), istio.customised(env=[{"name": "TZ", "value": "UTC"}])),
         None),
        ("istio", changed(istio.app(), istio.customised(env=[{"name": "A", "value": "b"}])),
         "input-not-allowed spec.containers[istio-proxy]"),
        ("istio", changed(istio.app(), annotation(istio.STATUS, "{}")),
         "status-forged metadata.annotations[sidecar.istio.io/status]"),
        ("istio", istio.waypoint(), None),
        ("istio", istio.gateway(), None),
        ("ambient", ambient.app(), None),
        ("ambient", changed(ambient.app(), annotation(ambient.REDIRECTION, "enabled")),
         "status-forged metadata.annotations[ambient.istio.io/redirection]"),
        ("unknown", linkerd.injected(), None),
    ],
)  # fmt: skip
def test_only_what_an_author_must_not_set_is_recorded(
    by: str, pod: Json, record: str | None
) -> None:
    assert recorded(pod, by=by) == record


#: A name that ends its place in the injector's template and continues with a variable.
PASTED = 'x"\n    - name: ISTIO_BOOTSTRAP\n      value: "y'
OWNER = {"apiVersion": "v1", "kind": "Shop", "name": "x", "uid": "1", "controller": True}
#: Each place of a pod from which an injector pastes a name before the API server validates it, or
#: that the API server never validates.
NAMES: dict[str, tuple[Change, str]] = {
    **{
        f"owner-{key}": (put("/metadata/ownerReferences", [OWNER, {**OWNER, key: PASTED}]),
                         "metadata.ownerReferences")
        for key in ("apiVersion", "kind", "name")
    },
    "pod": (put("/metadata/name", PASTED), "metadata.name"),
    "generated": (put("/metadata/generateName", PASTED), "metadata.name"),
    "label": (label("deploymentconfig", PASTED), "metadata.labels"),
    "label-key": (label(PASTED, "x"), "metadata.labels"),
    "annotation-key": (annotation(f"resource.opentelemetry.io/{PASTED}", "x"),
                       "metadata.annotations"),
    "account": (put("/spec/serviceAccountName", PASTED), "spec.serviceAccountName"),
    "container": (put("/spec/containers/0/name", PASTED), "spec.containers"),
    "image": (put("/spec/containers/0/image", f"shop:{PASTED}"), "spec.containers"),
    "reference": (put("/spec/containers/0/image", "shop:$(POD_NAME)"), "spec.containers"),
    **{
        # YAML treats U+0085 as a line end, Go's encoder of JSON does not escape it.
        f"port-{key}": (put("/spec/containers/0/ports", [{"containerPort": 1, key: "x\x85y"}]),
                        "spec.containers[*].ports")
        for key in ("name", "protocol", "hostIP")
    },
}  # fmt: skip


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_would_continue_the_injector_s_template_is_recorded(by: str, name: str) -> None:
    change, field = NAMES[name]
    pod = changed(BY[by].app(), change)
    assert f"input-not-allowed {field}" in (recorded(pod, by=by) or "")
    assert keeps_out(by, pod)


def keeps_out(by: str, pod: Json, **more: Any) -> bool:
    """Return whether mutating keeps the injector away, which could change the record."""
    place, key, value = OUT[by]
    stored = jsonpatch.apply_patch(pod, whole_patch(pod, by=by, **more))
    return bool(stored["metadata"].get(place, {}).get(key) == value)


OUT = {
    "linkerd": ("annotations", "linkerd.io/inject", "disabled"),
    **dict.fromkeys(("istio", "ambient"), ("labels", "sidecar.istio.io/inject", "false")),
}


@pytest.mark.parametrize(
    ("by", "key", "value", "out"),
    [
        ("istio", "sidecar.istio.io/logLevel", "warning\nmetadata: {}\n---", True),
        ("istio", "sidecar.istio.io/logLevel", "much too long" * 100, False),
        ("istio", "sidecar.istio.io/bootstrapOverride", 'x"', True),
        ("istio", "sidecar.istio.io/bootstrapOverride", "shop", False),
        ("istio", "sidecar.istio.io/userVolume", '{"x\\"": {"emptyDir": {}}}', True),
        ("istio", "sidecar.istio.io/userVolume", '{"x": {"hostPath": {"path": "/"}}}', False),
        ("istio", "proxy.istio.io/config", "binaryPath: /x\nconcurrency: 2", False),
        ("istio", "proxy.istio.io/config", 'proxyMetadata: {A: "x\\N"}', True),
        ("istio", "proxy.istio.io/config", "binaryPath: !x |\n  y", True),
        ("istio", "unknown.istio.io/x", "a\nb", False),
        ("linkerd", "config.linkerd.io/proxy-cpu-limit", "1\n2", True),
        ("linkerd", "config.linkerd.io/proxy-cpu-limit", "one", False),
        ("ambient", "sidecar.istio.io/logLevel", "a'b", True),
    ],
)
def test_no_injector_sees_what_could_change_its_template_and_so_our_record(
    by: str, key: str, value: str, out: bool
) -> None:
    """In mode warn, other pods with such mistakes still join the mesh."""
    pod = changed(BY[by].app(), annotation(key, value))
    assert recorded(pod, by=by) not in (None, "allowed")
    assert keeps_out(by, pod) is out
    exempt = settings(
        exemptions=[{"checks": ["input-not-allowed"], "namespaces": ["*"], "reason": "ours"}]
    )
    assert not keeps_out(by, pod, given=exempt)


def test_in_ambient_mode_such_a_pod_still_joins() -> None:
    pod = changed(ambient.app(), annotation("sidecar.istio.io/logLevel", "a'b"), drop(ambient.KEY))
    patch = whole_patch(pod, by="ambient")
    assert jsonpatch.apply_patch(pod, patch)["metadata"]["labels"][ambient.MODE] == "ambient"


def test_an_admin_who_allows_any_value_allows_no_line_break() -> None:
    given = settings(istio={"annotations": [{"key": "sidecar.istio.io/logLevel", "reason": "y"}]})
    for value, fine in (("shop, all", True), ("info\nx", False)):
        pod = changed(istio.app(), annotation("sidecar.istio.io/logLevel", value))
        assert keeps_out("istio", pod, given=given) is not fine


@pytest.mark.parametrize("key", ["apiVersion", "kind", "name"])
def test_a_gateway_whose_owner_would_continue_the_template_is_judged_as_any_pod(key: str) -> None:
    change, _ = NAMES[f"owner-{key}"]
    assert recorded(changed(istio.gateway(), change), by="istio") is not None


@pytest.mark.parametrize("by", BY)
def test_names_and_images_of_every_usual_form_are_plain(by: str) -> None:
    image = "registry.example.com:5000/team_a/shop__app:1.2.3_rc-1@sha256:" + "0" * 64
    pod = changed(
        BY[by].app(),
        put("/metadata/ownerReferences", [{**OWNER, "apiVersion": "privatecloud.mendix.com/v1"}]),
        put("/spec/containers/0/image", image),
        label("example.com/Team_A.b-c", ""),
    )
    assert recorded(pod, by=by) == recorded(BY[by].app(), by=by)


def test_a_gateway_before_its_injection_is_neither_recorded_nor_denied() -> None:
    only = put("/spec/containers", [{"name": "istio-proxy", "image": "auto"}])
    pod = changed(istio.app(), annotation(istio.TEMPLATES, "gateway"), only)
    assert recorded(pod, by="istio") is None
    assert places(judge(pod, by="istio", final=False)) == []
    assert places(judge(deployment(pod), by="istio")) == []


def test_more_inputs_than_are_recorded_all_count() -> None:
    many = [linkerd.config(f"next-{number}", "x") for number in range(30)]
    pod = linkerd.injected(*many)
    record = recorded(changed(linkerd.app(), *many))
    assert record is not None
    assert record.count(",") == 20
    stored = changed(pod, annotation(RECORD, record))
    fields = {v.field for v in judge(stored).violations}
    assert len(fields) == 21
    assert "metadata.annotations[config.linkerd.io/next-0]" in fields


def test_without_a_record_everything_is_the_author_s_unless_the_namespace_explains_it() -> None:
    pod = linkerd.injected(linkerd.config("proxy-version", "edge-26.8.2"))
    assert broken(judge(pod)) == ["proxy-image-untrusted"]
    assert broken(judge(changed(pod, annotation(RECORD, "allowed")))) == []
    namespace = {"config.linkerd.io/proxy-version": "edge-26.8.2"}
    assert broken(judge(pod, namespace_annotations=namespace)) == []
    other = {"config.linkerd.io/proxy-version": "edge-26.8.3"}
    assert broken(judge(pod, namespace_annotations=other)) == ["proxy-image-untrusted"]


def test_what_the_injector_used_up_is_denied_by_the_record() -> None:
    entry = "input-not-allowed metadata.annotations[prometheus.io/path]"
    pod = changed(istio.injected(), annotation(RECORD, entry))
    (violation,) = judge(pod, by="istio").violations
    assert (violation.check, violation.field) == tuple(entry.split())


def test_an_update_must_not_change_the_record() -> None:
    for change in (annotation(RECORD, "allowed"), drop(KEY)):
        assert broken(judge(changed(MARKED, change), MARKED)) == ["proxy-brought"]
    new = changed(BY_HAND, annotation(RECORD, "allowed"))
    assert broken(judge(new, BY_HAND)) == ["proxy-brought"]


def test_a_running_pod_shows_that_it_came_in_so_and_by_which_exemption() -> None:
    assert places(judge(MARKED, stored=True)) == [
        "spec.initContainers[linkerd-init]",
        "spec.initContainers[linkerd-proxy]",
    ]
    exempt = settings(
        exemptions=[
            {
                "checks": ["proxy-brought"],
                "namespaces": ["mendix"],
                "selector": {
                    "matchExpressions": [{"key": "velero.io/restore-name", "operator": "Exists"}]
                },
                "reason": "restored as it ran",
            }
        ]
    )
    restored = changed(MARKED, put("/metadata/labels/velero.io~1restore-name", "monday"))
    for stored in (True, False):
        verdict = judge(restored, given=exempt, stored=stored)
        assert (verdict.outcome, len(verdict.exempted)) == ("exempt", 2)
        assert judge(MARKED, given=exempt, stored=stored).outcome == "denied"


def test_a_container_that_keeps_the_injector_away_is_one_violation() -> None:
    """Only linkerd-init: the injector skips the pod. This has one cause."""
    alone = put("/spec/initContainers", [{"name": "linkerd-init", "image": "x"}])
    pod = changed(linkerd.app(), alone, brought("initContainers[linkerd-init]"))
    assert broken(judge(pod)) == ["proxy-brought"]
