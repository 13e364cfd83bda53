"""What an update's verdict depends on: nothing that policy reads is missing, little is extra."""

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck
from hypothesis import given as drawn
from hypothesis import settings as configure
from hypothesis import strategies as st

from charts import generate_judged
from tests.fixtures.changes import annotation, changed, drop, label, put
from tests.fixtures.meshes import ambient, istio, linkerd
from tests.fuzz import edits
from tests.unit.policy import strategies
from tests.unit.policy.judge import DEFAULTS, judge, settings
from tests.unit.policy.plaintext.test_review import CASES, STRICT
from tests.unit.policy.touched import touched
from webhook.policy import checks, judged
from webhook.policy.judged import Keys
from webhook.policy.plaintext import objects
from webhook.policy.plaintext.review import KINDS, PolicyChange, review
from webhook.policy.settings import Settings

Json = dict[str, Any]

JUDGED = judged.by_mesh(DEFAULTS)
MESHES = tuple(JUDGED)
KEYS = [keys for one in JUDGED.values() for keys in (one.labels, one.annotations)]
#: Settings in which labels, and so updates of them, decide what a pod is allowed to do.
DEAL: Json = {"reason": "agreed", "namespaces": ["mendix"]}
BY_LABELS = settings(
    allow=[
        {**DEAL, "outboundPorts": "1-65535", "selector": {"matchLabels": {"app": "dns"}}},
        {**DEAL, "inboundPorts": "8080", "selector": {
            "matchExpressions": [{"key": "tier", "operator": "Exists"}]}},
    ],
    exemptions=[{**DEAL, "checks": ["input-not-allowed", "capture-bypassed", "host-network"],
                 "selector": {"matchLabels": {"istio.io/rev": "canary"}}}],
    levels=[{**DEAL, "check": "capture-bypassed", "level": "warning",
             "selector": {"matchLabels": {"team": "shop"}}}],
)  # fmt: skip
SELECTED = ("app", "tier", "team", "istio.io/rev")
#: What others write to running pods: CNI plugins, autoscalers, controllers, agents, people.
OTHERS = (
    "cni.projectcalico.org/podIP", "cni.projectcalico.org/podIPs",
    "cni.projectcalico.org/containerID", "k8s.v1.cni.cncf.io/network-status",
    "k8s.v1.cni.cncf.io/networks-status", "k8s.ovn.org/pod-networks",
    "ovn.kubernetes.io/ip_address",
    "vpc.amazonaws.com/pod-ips", "cluster-autoscaler.kubernetes.io/safe-to-evict",
    "controller.kubernetes.io/pod-deletion-cost", "pod-template-hash", "openshift.io/scc",
    "cilium.io/x", "karpenter.sh/do-not-disrupt", "argocd.argoproj.io/tracking-id", "team",
    "kubectl.kubernetes.io/default-container", "prometheus-operator.dev/x", "notistio.io/x",
    "mendix-mesh.io/note", "xlinkerd.io/inject",
)  # fmt: skip


def test_the_chart_s_copy_is_current() -> None:
    assert generate_judged.FILE.read_text() == generate_judged.generated(), "run `make docs`"


def test_only_the_allow_lists_and_their_check_are_about_all_keys() -> None:
    whole = {
        entry.check.id
        for entry in checks.all_checks().values()
        if {"metadata.labels", "metadata.annotations"} & set(entry.check.fields)
    }
    assert whole == {"input-not-allowed"}


@pytest.mark.parametrize("key", OTHERS)
def test_what_others_write_to_running_pods_is_not_judged(key: str) -> None:
    assert not any(keys.judged(key) for keys in KEYS)


def test_an_agent_of_the_mesh_is_not_judged_by_what_it_writes_to_the_status() -> None:
    annotations = JUDGED["ambient"].annotations
    assert annotations.judged(ambient.REDIRECTION)
    assert not annotations.judged(ambient.REDIRECTION, by_status=True)
    pod = ambient.app()
    for value in ("enabled", "pending", "unheard-of"):
        marked = changed(pod, annotation(ambient.REDIRECTION, value))
        assert judge(marked, pod, by="ambient", subresource="status").outcome == "admitted"
        assert judge(pod, marked, by="ambient", subresource="status").outcome == "admitted"
        assert judge(marked, pod, by="ambient").outcome == "denied"
    # And Istio's CNI plugin repairs pods with this label.
    for by in ("istio", "ambient"):
        assert not JUDGED[by].labels.judged("cni.istio.io/uninitialized")


@pytest.mark.parametrize("keys", KEYS, ids=str)
def test_a_key_is_judged_if_a_list_or_a_check_has_it(keys: Keys) -> None:
    for key in (*keys.keys, *keys.domains.starts):
        assert keys.judged(key)
    assert not any(map(keys.judged, keys.free))


def test_the_labels_that_settings_select_by_are_found() -> None:
    assert judged.selected_by(DEFAULTS) == set()
    assert judged.selected_by(BY_LABELS) == set(SELECTED)


def test_a_label_that_settings_select_by_is_judged() -> None:
    dns = changed(linkerd.injected(), annotation("config.linkerd.io/skip-outbound-ports", "25"),
                  label("app", "dns"))  # fmt: skip
    shop = changed(dns, label("app", "shop"))
    assert judge(shop, dns, given=BY_LABELS).outcome == "denied"
    assert touched(dns, shop, JUDGED["linkerd"], selected=SELECTED)
    assert not touched(dns, shop, JUDGED["linkerd"])


def _mark(draw: st.DrawFn, pod: Json) -> None:
    """Give a pod a label or annotation of those that policy knows, others know or settings name."""
    place = draw(st.sampled_from(("labels", "annotations")))
    own = edits.LABEL_KEYS if place == "labels" else edits.KEYS
    key = draw(st.sampled_from((*own, *OTHERS, *SELECTED, *strategies.KEYS)))
    marks = pod["metadata"].setdefault(place, {})
    marks[key] = draw(st.sampled_from(("dns", "shop", "canary", "x", *edits.ILL)))
    if place == "labels" and not _is_label(marks[key]):
        marks[key] = "x"


def _is_label(value: str) -> bool:
    """Return whether the API server would store a label's value."""
    inner = value.replace("-", "").replace("_", "").replace(".", "")
    ends = value[:1] + value[-1:]
    return len(value) < 64 and (
        not value or (inner.isascii() and inner.isalnum() and ends.isalnum())
    )


@st.composite
def updates(draw: st.DrawFn, by: str) -> tuple[Json, Json, str]:
    """Draw a stored pod, what an update makes of it, and the subresource of the update."""
    life = draw(edits.lives(by))
    old = life.stored or life.submitted
    new = copy.deepcopy(life.updated or old)
    for pod in (old, new):
        for _ in range(draw(st.integers(0, 2))):
            _mark(draw, pod)
    if draw(st.booleans()):
        owner = {"apiVersion": "apps/v1", "kind": "X", "uid": "1", "controller": True}
        new["metadata"]["ownerReferences"] = [{**owner, "name": draw(st.sampled_from(edits.ILL))}]
    return old, new, draw(st.sampled_from(("", "status", "ephemeralcontainers")))


def found(by: str, given: Settings, update: tuple[Json, Json, str]) -> bool:
    """Return whether policy finds anything in an update: a violation, or advice."""
    old, new, subresource = update
    verdict = judge(new, old, by=by, given=given, subresource=subresource)
    return verdict.outcome != "admitted" or bool(verdict.violations)


@pytest.mark.parametrize("given", [DEFAULTS, BY_LABELS], ids=["defaults", "by labels"])
@pytest.mark.parametrize("by", MESHES)
@configure(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@drawn(data=st.data())
def test_an_update_in_which_policy_finds_anything_is_judged(
    by: str, given: Settings, data: st.DataObject
) -> None:
    update = data.draw(updates(by))
    if found(by, given, update):
        old, new, subresource = update
        selected = judged.selected_by(given)
        assert touched(old, new, JUDGED[by], selected=selected, subresource=subresource)


# If it fails, as it must, hypothesis shows the two pods, which are long.


POLICIES = [(by, kind, spec) for by, kind, spec, *_ in CASES]


@pytest.mark.parametrize(("by", "kind"), sorted({(by, kind) for by, kind, _ in POLICIES}))
def test_annotations_of_a_policy_object_are_not_judged_unless_they_are_named(
    by: str, kind: str
) -> None:
    rule = KINDS[by][kind]
    assert set(rule.annotations) <= {*JUDGED[by].of_policies, *JUDGED[by].of_namespaces}
    keys = {*edits.KEYS, *edits.LABEL_KEYS, *OTHERS} - {*rule.annotations}
    noted = {key: value for key in keys for value in ("enabled", "http")}
    for spec in (spec for *which, spec in POLICIES if which == [by, kind]):
        before, after = (_policy(rule.type, spec, marks) for marks in ({}, noted))
        for one, other in ((before, after), (after, before)):
            verdict = review(PolicyChange(kind, "mendix", one, other), by, "enforce", STRICT)
            assert verdict.outcome == "admitted"
            assert not verdict.violations


def _policy(kind: type[Any], spec: Json, annotations: dict[str, str]) -> Any:
    metadata = {"name": "x", "namespace": "mendix", "annotations": annotations}
    return objects.decode(msgspec.json.encode({"metadata": metadata, "spec": spec}), kind)


def test_a_pod_with_a_changed_owner_is_not_judged() -> None:
    """Controllers adopt and release pods. Only the injector reads the owner's name."""
    pod = linkerd.injected()
    owners = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a\nb", "uid": "1"}]
    adopted = changed(pod, put("/metadata/ownerReferences", owners))
    assert judge(adopted, pod).outcome == "admitted"
    assert not touched(pod, adopted, JUDGED["linkerd"])


@pytest.mark.parametrize(
    ("change", "judges"),
    [
        (label("team", "shop"), False),
        (annotation("cni.projectcalico.org/containerID", ""), False),
        (put("/spec/tolerations", []), False),
        (put("/spec/containers/0/resources", {"limits": {"cpu": "2"}}), False),
        (put("/spec/containers/0/image", "shop:2"), True),
        (put("/spec/ephemeralContainers", [{"name": "debugger", "image": "busybox"}]), True),
        (annotation("config.linkerd.io/skip-inbound-ports", "8080"), True),
        (drop("/metadata/labels/linkerd.io~1control-plane-ns"), True),
        (label(istio.INJECT, "true"), True),
    ],
    ids=str,
)
def test_an_update_is_judged_if_it_touches_what_a_check_reads(change: Any, judges: bool) -> None:
    pod = linkerd.injected()
    assert touched(pod, changed(pod, change), JUDGED["linkerd"]) is judges
