"""The texts of verdicts, for the person who ran kubectl."""

import re
from collections.abc import Sequence

from webhook.policy import ingress
from webhook.policy.checks import Violation
from webhook.policy.inputs import CHECK as INPUT
from webhook.policy.pod.request import Request
from webhook.policy.settings import Settings
from webhook.policy.validate import Verdict
from webhook.policy.words import shortened

#: The maximum length of a warning that clients show completely (kubernetes.io, extensible admission
#: controllers).
LONGEST_WARNING = 119
#: kubectl shows a message completely, but an Event cuts it at 1,024 characters.
MOST_VIOLATIONS = 20
#: Characters of the object's kind and name in a warning.
_LONGEST_SUBJECT = 40
#: A fix starts with who has to act.
_FOR_AUTHORS, _FOR_ADMINS = "author: ", ("admin: ", "mesh's admin: ")
_IT = re.compile(r"\bit\b")


def denial(verdict: Verdict) -> str:
    """Return all violations of a verdict, one line each: check, field, reason and fix."""
    mesh = "any" if verdict.mesh == "unknown" else f"the {verdict.mesh}"
    denying = [violation for violation in verdict.violations if violation.level == "deny"]
    would = verdict.would or f"would run outside {mesh} mesh"
    if not verdict.would and all(violation.check == INPUT for violation in denying):
        would = f"sets what its author is not allowed to set in {mesh} mesh"
    lines = [f"{verdict.subject} {would}:"]
    lines += table(denying[:MOST_VIOLATIONS])
    if len(denying) > MOST_VIOLATIONS:
        # Their number is unknown, because only this many are searched for each check.
        lines.append("  and more violations")
    return "\n".join(lines)


def table(violations: Sequence[Violation]) -> list[str]:
    """Return one aligned line per violation."""
    check = max((len(violation.check) for violation in violations), default=0)
    field = max((len(violation.field) for violation in violations), default=0)
    return [f"  {v.check:<{check}}  {v.field:<{field}}  {v.reason}; {v.fix}" for v in violations]


def warnings(verdict: Verdict) -> list[str]:
    """Return the warnings for the client: its violations in mode warn, and one line of advice.

    A denial says everything itself, and mode audit is silent. Advice is only for those who can
    follow it: the author of the object gets none that is for an admin.
    """
    if verdict.outcome == "denied" or verdict.mode == "audit":
        return []
    violations = verdict.violations
    shown = [v for v in violations if v.level == "deny" and verdict.outcome == "warned"]
    lines = [warning(verdict, v) for v in shown[:MOST_VIOLATIONS]]
    advice = [v for v in violations if v.level == "warning" and not v.fix.startswith(_FOR_ADMINS)]
    return lines + [warning(verdict, v, more=len(advice) - 1) for v in advice[:1]]


def warning(verdict: Verdict, v: Violation, *, more: int = 0) -> str:
    """Return one violation of a verdict in under 120 characters.

    If it is too long, leave out the reason, the fix or the field. A fix like "remove it" needs the
    field. `more` is the number of further ones that are not shown.
    """
    subject = shortened(verdict.subject.partition(" (")[0], _LONGEST_SUBJECT)
    fix = v.fix.removeprefix(_FOR_AUTHORS)
    product, end = f"mendix-mesh ({verdict.mesh})", f" (+{more} more)" if more else ""
    for middle in (
        f": {v.field} {v.reason}; {fix}",
        f": {v.field}: {fix}",
        f": {v.field}; mendix-mesh explain {v.check}",
        f": {v.reason}; {fix}",
        *([] if _IT.search(fix) else [f": {fix}"]),
        # Which key or container it is, `explain` does not know.
        *([f": {v.field}"] if "[" in v.field else []),
    ):
        text = " ".join(f"{product} {subject}: {v.check}{middle}{end}".split())
        if len(text) <= LONGEST_WARNING:
            return text
    last = f": {v.check}; mendix-mesh explain {v.check}{end}"
    return f"{product} {shortened(subject, LONGEST_WARNING - len(product) - len(last) - 1)}{last}"


def ingress_warnings(request: Request, settings: Settings, mesh: str) -> list[str]:
    """Return a warning for each annotation of an Ingress that has no effect.

    The mutating webhook changes Ingresses in each mode, so they get the warnings in each mode too.
    """
    obj = request.object
    if obj is None or obj.kind != "Ingress" or request.subresource:
        return []
    start = f"mendix-mesh ({mesh}) Ingress "
    name = (obj.metadata.name if obj.metadata else None) or ""
    ends = (
        f": annotation {key.partition('/')[2]} has no effect; mendix-mesh explain ingress"
        for key in ingress.sticky(obj, settings)
    )
    return [start + shortened(name, LONGEST_WARNING - len(start) - len(end)) + end for end in ends]
