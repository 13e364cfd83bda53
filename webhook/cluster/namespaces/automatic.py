"""Decides which Mendix namespaces are enrolled without a command, and in which mesh.

What an admin has decided stays: a namespace with one of the labels, an excluded one, and one that
was enrolled before. Its annotation `mendix-mesh.io/enrolled-at` shows the last of these.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from webhook.cluster.kinds.inventory import Namespace
from webhook.cluster.kinds.webhooks import WebhookEntry
from webhook.cluster.namespaces.discovery import guess_mesh, opt_out
from webhook.cluster.namespaces.enrollment import ENROLLED_AT, Enrollment
from webhook.policy.labels import MESH_LABEL, MODE_LABEL
from webhook.policy.words import listed

#: The mode in which namespaces are enrolled. Mode audit would show nobody what is denied later.
AutoMode = Literal["warn", "enforce"]
#: enrolled: it is enrolled, by whomever. ready: it is to be enrolled. The next three are an admin's
#: decision: removed (it was enrolled before), labelled (a mode, but no mesh) and excluded. The last
#: five need one: see `Choice.why`. denied: the API server denied the labels.
State = Literal[
    "enrolled", "ready", "removed", "labelled", "excluded",
    "opted-out", "no-mesh", "mesh-missing", "several-meshes", "denied",
]  # fmt: skip
STATES: Sequence[State] = get_args(State)


class Choice(NamedTuple):
    """What to do with a Mendix namespace."""

    state: State
    #: The mesh to enroll it in, if it is `ready`.
    mesh: str = ""
    #: Why it can't be enrolled, and how to fix it; empty if there is nothing to fix.
    why: str = ""


def decide(
    namespace: Namespace,
    enrollment: Enrollment,
    installed: Sequence[str],
    mutating: Sequence[WebhookEntry],
) -> Choice:
    """Return what to do with a Mendix namespace.

    `installed` are the meshes of the cluster, and `mutating` its mutating webhooks.
    """
    if enrollment.of(namespace):
        return Choice("enrolled")
    if enrollment.excludes(namespace):
        return Choice("excluded")
    if namespace.labels.keys() & {MESH_LABEL, MODE_LABEL}:
        return Choice("labelled")
    if ENROLLED_AT in namespace.annotations:
        return Choice("removed")
    return choose(namespace, installed, mutating)


def choose(
    namespace: Namespace, installed: Sequence[str], mutating: Sequence[WebhookEntry]
) -> Choice:
    """Return the mesh for a namespace: the one that its marks name, else the only one installed."""
    named = guess_mesh(namespace)
    if not installed:
        return Choice("no-mesh", why="no mesh is installed; install Linkerd or Istio")
    if named and named not in installed:
        command = enrolling(namespace, installed[0])
        return Choice(
            "mesh-missing",
            why=f"its labels and annotations name {named}, which is not installed; install it, "
            f"or enroll the namespace in another mesh: {command}",
        )
    if not named and len(installed) > 1:
        command = enrolling(namespace, installed[0])
        return Choice(
            "several-meshes",
            why=f"{listed(installed)} are installed, and its labels and annotations do not name "
            f"one of them; choose one: {command}",
        )
    mesh = named or installed[0]
    if why := opt_out(namespace, mesh, mutating):
        return Choice("opted-out", why=why)
    return Choice("ready", mesh)


def enrolling(namespace: Namespace, mesh: str) -> str:
    """Return the command that enrolls a namespace in a mesh, in mode warn."""
    return f"kubectl label namespace {namespace.name} {MESH_LABEL}={mesh} {MODE_LABEL}=warn"
