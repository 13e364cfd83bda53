"""Write docs/findings.md from the findings' own data: `python -m docs.generate_findings`."""

import sys
from collections.abc import Iterator
from pathlib import Path

from webhook.cluster.audit.traffic import PLAINTEXT_TRAFFIC
from webhook.cluster.doctor.findings import FindingEntry, all_findings
from webhook.cluster.judge import live
from webhook.policy.checks import Check
from webhook.policy.plaintext import CHECKS

PAGE = Path(__file__).parent / "findings.md"

_HEAD = """\
# Findings

<!-- Written by `make docs` (docs/generate_findings.py) from webhook/cluster/doctor/findings and \
webhook/policy/plaintext. -->

This page lists what `mendix-mesh doctor` reports about a namespace, and what `mendix-mesh audit` \
and the webhook report about running pods and the mesh's policy objects. `mendix-mesh explain ID` \
prints the same. The checks of pods are in [checks.md](checks.md).

## Findings of doctor

An error means that pods are outside the mesh or are not created. A warning means that this is so \
for some pods, or will be soon.
"""


def page() -> str:
    """Return the whole page."""
    found = all_findings()
    lines = [_HEAD]
    for name, entry in found.items():
        lines += _finding(entry)
        if name in CHECKS:
            lines += ["Policy objects are checked for it too:\n", *_check(CHECKS[name])]
    lines.append("## Checks of running pods\n")
    for check in (*live.CHECKS, PLAINTEXT_TRAFFIC):
        lines += [f"### {check.id}\n", *_check(check)]
    lines.append("## Checks of policy objects\n")
    for name, check in CHECKS.items():
        if name not in found:
            lines += [f"### {name}\n", *_check(check)]
    return "\n".join(lines)


def _finding(entry: FindingEntry) -> Iterator[str]:
    rule = entry.rule
    module = sys.modules[entry.find.__module__].__doc__ or ""
    meshes = ", ".join(mesh for mesh in rule.meshes if mesh != "unknown")
    yield f"### {rule.id}\n"
    yield f"**{rule.severity}** · {meshes or 'not enrolled'}\n"
    yield f"{module.strip().splitlines()[0]}\n"
    yield f"- **Why it matters**: {rule.means}"
    yield f"- **Fix**: {rule.fix}"
    if entry.repair:
        yield "- `mendix-mesh doctor --fix` repairs it"
    yield f"- **Source**: {rule.source}\n"


def _check(check: Check) -> Iterator[str]:
    yield f"**{check.level}** · {', '.join(check.meshes)}\n"
    yield f"- **Reason**: {check.reason}"
    yield f"- **Fix**: {check.fix}"
    if any(check.fields):
        yield f"- **Fields**: {', '.join(f'`{field}`' for field in check.fields)}"
    yield f"- **Source**: {check.source}\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
