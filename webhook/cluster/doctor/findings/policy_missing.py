"""The webhook leaves ordinary pods to a policy of the API server, which is missing."""

from collections.abc import Iterator

from webhook.cluster.doctor.facts import Facts, Place
from webhook.cluster.doctor.findings import FindingRule, Occurrence

FINDING = FindingRule(
    id="policy-missing",
    severity="error",
    means="with engine policy nobody judges ordinary pods, so they are admitted outside the mesh",
    fix="upgrade the release again; if the policy or its binding is lost again, another tool "
    "removes or changes it",
    source="charts/mendix-mesh/templates/validatingadmissionpolicies.yaml",
)

#: What a binding does in each mode.
_ACTIONS = {"enforce": "Deny", "warn": "Warn", "audit": "Audit"}
#: The start of the names of the webhooks that are only called for special pods.
_SPECIAL = "special-pods."


def find(facts: Facts, place: Place) -> Iterator[Occurrence]:
    """Yield the policy, or the binding, that the namespace lacks."""
    leaves = any(entry.webhook.name.startswith(_SPECIAL) for entry in facts.ours(place))
    if not leaves or place.enrolled is None:
        return
    policy, action = f"mendix-mesh-{place.mesh.name}", _ACTIONS[place.enrolled.mode]
    fix = f"restore it: {facts.helm()}; if it is lost again, another tool removes or changes it"
    if policy not in facts.policies():
        yield Occurrence(f"there is no ValidatingAdmissionPolicy {policy}", fix=fix)
    elif not any(
        one.policy == policy and action in one.actions
        and one.selector.matches(place.namespace.labels)
        for one in facts.bindings()
    ):  # fmt: skip
        yield Occurrence(
            f"no binding of ValidatingAdmissionPolicy {policy} with the action {action} selects "
            "the namespace",
            fix=fix,
        )
