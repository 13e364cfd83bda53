"""Says how to restart a workload. All advice to restart something comes from here.

`kubectl rollout restart` is no advice for what the Mendix Operator owns, because the operator rolls
the change back.
"""

import shlex

from webhook.cluster.kinds.inventory import Workload

#: The words in the fix of a check that `advice` replaces.
RESTART = "restart the workload"
RECREATE = "recreate the pod; no controller will"
WAIT = "wait: the task ends by itself, and the next one joins the mesh"
_STATIC = "change or move the pod's file on its node, because it is a static pod"
_ROLLS = frozenset({"Deployment", "StatefulSet", "DaemonSet"})


def command(namespace: str, *names: str, outdated: bool = False) -> str:
    """Return the command that restarts what needs it in a namespace, or only named workloads.

    `outdated`: also what is in the mesh, but with an outdated proxy or outdated roots.
    """
    words = ["mendix-mesh restart -n", shlex.quote(namespace)]
    words += ["--outdated"] if outdated else []
    return " ".join([*words, *map(shlex.quote, names)])


def named(workload: Workload) -> str:
    """Return a workload as the commands take it: `deployment/shop`."""
    return f"{workload.kind.lower()}/{workload.name}"


def advice(
    workload: Workload,
    role: str,
    *,
    is_task: bool = False,
    is_enrolled: bool = True,
    outdated: bool = False,
) -> str:
    """Return how to restart a workload, by what owns its pods. `role` is its role in Mendix."""
    if is_task:
        return WAIT
    if workload.kind == "Pod":
        return RECREATE
    if workload.kind == "Node":
        return _STATIC
    where = shlex.quote(workload.namespace)
    if is_enrolled:
        done = command(workload.namespace, named(workload), outdated=outdated)
    elif workload.kind in _ROLLS and not role.startswith("app"):
        done = f"kubectl -n {where} rollout restart {shlex.quote(named(workload))}"
    else:
        return "delete its pods one after the other; their controller recreates them"
    return f"{RESTART}: {done}"
