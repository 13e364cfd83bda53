"""What the API server can decide by itself: policy in CEL, for the chart's own admission policies.

A new pod is *ordinary* if everything that policy must know of it can be read in CEL. Then the API
server's policies decide, and no server of ours is asked. All other pods are *special*: they are
sent to the webhook, whose condition is the complement of the same expression. When in doubt, a pod
is special.

`charts/generate_policies.py` writes this data into the chart. The names in `<<…>>` are parameters:
the chart replaces them by what the settings say.
"""

from typing import NamedTuple

from webhook.policy import cel, checks
from webhook.policy.checks import Check
from webhook.policy.engine import ambient, istio, linkerd
from webhook.policy.engine.terms import SIZE, Condition, EngineMesh

MESHES: dict[str, EngineMesh] = {
    "ambient": ambient.MESH, "istio": istio.MESH, "linkerd": linkerd.MESH,
}  # fmt: skip
#: Checks without CEL that an ordinary pod can violate: warnings for the admin, which the API server
#: does not print. If the settings deny such a pod, it is special.
UNDECIDED = ("accepts-plaintext",)


class CheckRule(NamedTuple):
    """A check that the API server decides for ordinary pods."""

    check: Check
    rows: str


def rules(mesh: str) -> list[CheckRule]:
    """Return the checks of a mesh that are decided in CEL."""
    terms = MESHES[mesh].terms
    return [
        CheckRule(entry.check, entry.rule(terms).rows)
        for entry in checks.for_mesh(mesh)
        if entry.rule
    ]


def ordinary(mesh: str) -> list[Condition]:
    """Return the conditions that together make a new pod, as it is stored, ordinary."""
    return [*MESHES[mesh].ordinary, *_decidable(mesh)]


def bounded(mesh: str) -> list[Condition]:
    """Return those of the conditions that bound what the checks in CEL cost."""
    return [SIZE, *_decidable(mesh)]


def _decidable(mesh: str) -> list[Condition]:
    terms = MESHES[mesh].terms
    return [
        Condition(f"a message of {entry.check.id} about it would be short", decidable)
        for entry in checks.for_mesh(mesh)
        if entry.rule and (decidable := entry.rule(terms).decidable)
    ]


def submitted(mesh: str) -> list[Condition]:
    """Return the conditions that together make a pod ordinary before any injector has seen it."""
    return list(MESHES[mesh].submitted)


def together(conditions: list[Condition]) -> str:
    """Return the conjunction of conditions."""
    return cel.every(*(one.expression for one in conditions))
