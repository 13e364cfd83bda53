"""What a namespace's labels mean for the injector, compared with Linkerd's stand-in.

tests/cluster compares `would_inject` with the real istiod.
"""

import copy
import itertools

import pytest

from tests.standins.linkerd import InjectorConfig, inject, selected
from tests.unit.policy.judge import mesh, request, settings
from webhook.policy.injection import missed
from webhook.policy.pod.workload import Pod, pod_of

WEBHOOKS = "config.linkerd.io/admission-webhooks"
INJECT = "linkerd.io/inject"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "shop", "namespace": "mendix", "annotations": {INJECT: "enabled"}},
    "spec": {"containers": [{"name": "app", "image": "app"}]},
}


def the_pod(by: str, obj: object = POD) -> Pod:
    review = request(obj)
    assert review.object is not None
    found = pod_of(review.object, mesh(by), review)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("label", "annotation"),
    [
        *itertools.product(
            [None, "", "enabled", "disabled", "Disabled"],
            [None, "", "enabled", "disabled", "ingress", "true", "Enabled", "enabled "],
        )
    ],
)
def test_linkerds_injector_skips_what_is_missed_and_nothing_else(
    label: str | None, annotation: str | None
) -> None:
    labels = {} if label is None else {WEBHOOKS: label}
    annotations = {} if annotation is None else {INJECT: annotation}
    namespace = {"metadata": {"name": "mendix", "labels": labels, "annotations": annotations}}
    injected = (
        selected(POD, namespace)
        and not inject(copy.deepcopy(POD), namespace, InjectorConfig()).skipped
    )
    found = missed(the_pod("linkerd"), mesh(), labels, annotations)
    assert (found is None) is injected


def test_a_pod_that_has_its_proxy_misses_none() -> None:
    brought = inject(copy.deepcopy(POD), None, InjectorConfig()).pod
    assert missed(the_pod("linkerd", brought), mesh(), {WEBHOOKS: "disabled"}, {}) is None


@pytest.mark.parametrize(
    ("revision", "labels", "level"),
    [
        ("", {}, None),
        ("", {"istio-injection": "enabled"}, None),
        ("", {"istio.io/rev": "default"}, None),
        ("", {"istio.io/rev": "prod"}, "warning"),
        ("", {"istio-injection": "enabled", "istio.io/rev": "prod"}, None),
        ("", {"istio-injection": "disabled"}, "deny"),
        ("", {"istio-injection": "disabled", "istio.io/rev": "default"}, "deny"),
        ("", {"istio-injection": ""}, "deny"),
        ("prod", {}, None),
        ("prod", {"istio.io/rev": "prod"}, None),
        ("prod", {"istio.io/rev": "canary"}, "warning"),
        ("prod", {"istio-injection": "enabled"}, "warning"),
        ("prod", {"istio-injection": "disabled"}, "deny"),
    ],
)
def test_istios_labels_of_a_namespace_decide_with_the_revision_of_the_settings(
    revision: str, labels: dict[str, str], level: str | None
) -> None:
    by = mesh("istio", settings(istio={"revision": revision} if revision else {}))
    review = request(POD)
    assert review.object is not None
    pod = pod_of(review.object, by, review)
    assert pod is not None
    found = missed(pod, by, labels, {})
    assert (found.level if found else None) == level


def test_ambient_needs_no_injector() -> None:
    labels = {"istio-injection": "disabled", WEBHOOKS: "disabled"}
    assert missed(the_pod("ambient"), mesh("ambient"), labels, {INJECT: "yes"}) is None
