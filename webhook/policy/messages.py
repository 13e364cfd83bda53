"""The texts of verdicts, for the person who ran kubectl."""

from collections.abc import Sequence

from webhook.policy.checks import Violation
from webhook.policy.validate import Verdict

#: The maximum length of a warning that clients show completely (kubernetes.io, extensible admission
#: controllers).
LONGEST_WARNING = 119
#: kubectl shows a message completely, but an Event cuts it at 1,024 characters.
MOST_VIOLATIONS = 20


def denial(verdict: Verdict) -> str:
    """Return all violations of a verdict, one line each: check, field, reason and fix."""
    mesh = "any" if verdict.mesh == "unknown" else f"the {verdict.mesh}"
    would = verdict.would or f"would run outside {mesh} mesh"
    denying = [violation for violation in verdict.violations if violation.level == "deny"]
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
    """Return the client's warnings: none for a denial, and only advice in mode audit."""
    if verdict.outcome == "denied":
        return []
    shown = [v for v in verdict.violations if v.level == "advise" or verdict.outcome == "warned"]
    return [warning(violation) for violation in shown]


def warning(v: Violation) -> str:
    """Return one violation in under 120 characters: drop the reason first, then the field."""
    for parts in (f"{v.field} {v.reason}; ", f"{v.field}: ", f"{v.reason}; ", ""):
        text = _one_line(f"{v.check}: {parts}{v.fix}")
        if len(text) <= LONGEST_WARNING:
            return text
    return text[: LONGEST_WARNING - 1] + "…"


def _one_line(text: str) -> str:
    return " ".join(text.split())
