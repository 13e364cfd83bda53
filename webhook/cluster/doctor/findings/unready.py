"""The server of mendix-mesh or of the injector has no ready pod."""

from collections.abc import Iterator

from webhook.cluster.api.connection import path
from webhook.cluster.api.errors import StatusError
from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence, quota
from webhook.cluster.kinds.webhooks import Service

FINDING = FindingRule(
    id="unready",
    severity="error",
    means="the webhook cannot answer: pods that need it are denied, or created without the proxy",
    fix="find out why its pods are not ready: use kubectl describe and kubectl logs on the "
    "Deployment and its pods",
    source="kubernetes.io, dynamic admission control: failure policy",
)


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield each Service that has no ready endpoint, with the status of its Deployment."""
    for title, service in facts.services(place):
        if not _ready(facts, service):
            text = f"Service {service.namespace}/{service.name} of {title} has no ready endpoint"
            try:
                state, fix = _state(facts, title, service)
            except StatusError:
                # Without the right to read the Deployment, this much is known.
                yield Occurrence(text)
                raise
            yield Occurrence(f"{text}; {state}", fix=fix)


def _ready(facts: Facts, service: Service) -> int:
    slices = facts.objects(
        path("discovery.k8s.io/v1", "endpointslices", service.namespace),
        labels=f"kubernetes.io/service-name={service.name}",
    )
    # An unknown condition counts as ready, as in kube-proxy.
    return sum(
        (endpoint.get("conditions") or {}).get("ready") is not False
        for one in slices
        for endpoint in one.get("endpoints") or ()
    )


def _state(facts: Facts, title: str, service: Service) -> tuple[str, str]:
    """Return in which state the Deployment is, in words, and how to fix that."""
    where, name = service.namespace, service.name
    found = facts.deployment(service)
    if found is None:
        fix = "install the mesh's control plane again"
        if title == "mendix-mesh":
            fix = facts.helm()
        return f"Deployment {where}/{name} does not exist", fix
    wanted = found["spec"].get("replicas", 1)
    if not wanted:
        fix = f"kubectl -n {where} scale deployment/{name} --replicas=2"
        return "its Deployment is scaled to zero", fix
    status = found.get("status") or {}
    for one in status.get("conditions") or ():
        if (one.get("type"), one.get("status")) == ("ReplicaFailure", "True"):
            text = " ".join(str(one.get("message", "")).split())
            fix = quota.fix(text, where) or "fix what the message names"
            return f"its Deployment can't create pods: {text}", fix
    ready = status.get("readyReplicas", 0)
    pods = f"kubectl -n {where} describe pods"
    logs = f"kubectl -n {where} logs deployment/{name} --all-containers"
    return f"its Deployment has {ready} of {wanted} pods ready", f"find out why: {pods}; {logs}"
