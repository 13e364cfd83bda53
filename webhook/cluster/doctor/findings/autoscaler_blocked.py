"""A HorizontalPodAutoscaler can't compute a utilization, because the proxy requests no resource."""

from collections.abc import Iterator

from webhook.cluster.api.connection import Json, path
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence
from webhook.policy.mendix import GROUP

FINDING = FindingRule(
    id="autoscaler-blocked",
    severity="warning",
    meshes=("linkerd", "istio"),
    means="the autoscaler needs a request of each container, also of the sidecar; without it, it "
    "never scales these pods",
    fix="set the proxy's request, or let the autoscaler measure the app's container alone; "
    "mendix-mesh explain autoscaling shows both",
    source="kubernetes pkg/controller/podautoscaler/metrics/utilization.go and "
    "replica_calculator.go calculatePodRequests",
)
_APP_LABELS = (f"{GROUP}/app", "app")


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each autoscaler whose pods have a proxy without the request that it needs."""
    for scaler in facts.objects(path("autoscaling/v2", "horizontalpodautoscalers", place.name)):
        target = scaler["spec"]["scaleTargetRef"]
        resources = _utilizations(scaler)
        pods = facts.objects(path("v1", "pods", place.name)) if resources else []
        scaled = [pod for pod in pods if _is_scaled(pod, target["kind"], target["name"])]
        for resource in resources:
            without = [pod for pod in scaled if _lacks(pod, place.mesh.proxy_name, resource)]
            if without:
                yield Occurrence(
                    f"HorizontalPodAutoscaler {scaler['metadata']['name']} scales {target['kind']} "
                    f"{target['name']} by its {resource} utilization, but the container "
                    f"{place.mesh.proxy_name} of pod {without[0]['metadata']['name']} has no "
                    f"{resource} request"
                )


def _utilizations(scaler: Json) -> list[str]:
    """Return the resources of which an autoscaler computes the utilization of whole pods."""
    metrics = scaler["spec"].get("metrics") or ()
    found = (one["resource"] for one in metrics if one["type"] == "Resource")
    return [one["name"] for one in found if one["target"]["type"] == "Utilization"]


def _is_scaled(pod: Json, kind: str, name: str) -> bool:
    """Return whether a running pod belongs to a workload or to a MendixApp."""
    meta = pod["metadata"]
    if pod["status"].get("phase") in ("Succeeded", "Failed"):
        return False
    labels = meta.get("labels") or {}
    if kind == "MendixApp":
        return any(labels.get(label) == name for label in _APP_LABELS)
    for owner in meta.get("ownerReferences") or ():
        own = owner["name"]
        if owner["kind"] == "ReplicaSet" and kind == "Deployment":
            own = own.removesuffix(f"-{labels.get('pod-template-hash', '')}")
        elif owner["kind"] != kind:
            continue
        if own == name:
            return True
    return False


def _lacks(pod: Json, proxy: str, resource: str) -> bool:
    """Return whether a pod has a sidecar that requests none of a resource."""
    spec = pod["spec"]
    if resource in _requests(spec):
        return False
    init = (one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always")
    return any(
        one["name"] == proxy and resource not in _requests(one)
        for one in (*spec["containers"], *init)
    )


def _requests(of: Json) -> Json:
    """Return the requests of a container, or of a whole pod (Kubernetes 1.34)."""
    found: Json = (of.get("resources") or {}).get("requests") or {}
    return found
