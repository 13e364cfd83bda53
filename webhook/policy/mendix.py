"""Recognizes Mendix's objects: owners, names, task pods.

Names and owners are those of "Mendix on Kubernetes". The operator creates MendixApp -> Runtime,
Build and StorageInstance -> Deployments and pods, each owned by the previous one.
"""

from webhook.policy.pod.objects import Object, OwnerReference
from webhook.policy.pod.workload import Pod

#: The API group of every custom resource of the Mendix Operator.
GROUP = "privatecloud.mendix.com"
#: Owner kinds whose pods build an image or provision a database or file storage, then end.
TASK_OWNERS = frozenset({"Build", "StorageInstance"})
#: Ends of the names of those pods: <environment>-build and so on.
TASK_SUFFIXES = ("-build", "-database", "-file")


def owns(owner: OwnerReference) -> bool:
    """Return whether the owner is a custom resource of the Mendix Operator."""
    return owner.group == GROUP


def is_operator_owned(obj: Object) -> bool:
    """Return whether the Mendix Operator owns the object. It reverts unexpected changes."""
    owners = obj.metadata.owner_references if obj.metadata else None
    return any(owns(owner) for owner in owners or ())


def is_task(pod: Pod) -> bool:
    """Return whether the pod must end: Mendix's build and storage pods, Jobs, and one-off pods.

    A sidecar that does not end would keep such a pod running for ever.
    """
    if pod.tasks_end:
        return True
    owner = pod.controller
    if owner is not None:
        return (owns(owner) and owner.kind in TASK_OWNERS) or owner.kind in ("Job", "CronJob")
    return bool(pod.meta.name and pod.meta.name.endswith(TASK_SUFFIXES))


def role(pod: Pod) -> str:
    """Return the pod's role in Mendix; empty if it is not Mendix's.

    operator, agent, app leader, app worker, app (leaderless), build, database or file.
    """
    owner = pod.controller
    name = (owner.name if owner else "") or pod.meta.name or ""
    for known in ("operator", "agent"):
        if name.startswith(f"mendix-{known}"):
            return known
    if owner is not None and owns(owner) and owner.kind in TASK_OWNERS:
        return (pod.meta.name or "task").rpartition("-")[2]
    if pod.labels.get(f"{GROUP}/component", pod.labels.get("component")) != "mendix-app":
        return ""
    kind = pod.labels.get("node-type")
    if kind == "master" or "-master" in name:
        return "app leader"
    return "app worker" if kind == "worker" or "-worker" in name else "app"
