"""An audit in the formats of CI: SARIF 2.1.0 for code scanning, JUnit's XML for test reports."""

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from webhook.cluster.audit import Audited, AuditFinding, Report, Row
from webhook.cluster.audit.reports import message
from webhook.cluster.audit.traffic import PLAINTEXT_TRAFFIC
from webhook.cluster.judge import live
from webhook.cluster.plaintext.acceptance import told
from webhook.policy import checks, plaintext
from webhook.policy.checks import Check
from webhook.policy.plaintext import PLAINTEXT_ACCEPTED
from webhook.version import VERSION

_LEVELS = {"deny": "error", "advise": "warning", "exempt": "note"}


def sarif(report: Report) -> dict[str, Any]:
    """The audit as a SARIF log: a rule a check, a result a finding.

    Places are workloads, which have no file: viewers want one, and get the workload's name.
    """
    results = [
        _sarif_result(audited, row, finding)
        for audited in report.namespaces
        for row in audited.workloads
        for finding in row.findings
    ] + [result for audited in report.namespaces for result in _of_strictness(audited)]
    unread = [_notification(audited) for audited in report.namespaces if audited.error]
    used = {result["ruleId"] for result in results}
    known = [entry.check for entry in checks.all_checks().values()]
    known += [*live.CHECKS, PLAINTEXT_TRAFFIC, *plaintext.CHECKS.values()]
    driver = {
        "name": "mendix-mesh",
        "version": VERSION,
        "rules": [_rule(check) for check in known if check.id in used],
    }
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "results": results,
                "invocations": [
                    {"executionSuccessful": not unread, "toolExecutionNotifications": unread}
                ],
            }
        ],
    }


def _rule(check: Check) -> dict[str, Any]:
    return {
        "id": check.id,
        "shortDescription": {"text": check.reason},
        "help": {"text": check.fix},
        "defaultConfiguration": {"level": _LEVELS[check.level]},
    }


def _sarif_result(audited: Audited, row: Row, finding: AuditFinding) -> dict[str, Any]:
    name = f"{audited.name}/{row.kind}/{row.name}"
    result = _result(name, finding.check, finding.level, message(finding), finding.field)
    if finding.level == "exempt":
        result["suppressions"] = [{"kind": "external", "justification": finding.fix}]
    return result


def _of_strictness(audited: Audited) -> Iterator[dict[str, Any]]:
    """A result for each way in for plaintext; its place is the namespace."""
    found = audited.strictness
    if found is None or not found.level:
        return
    for gap in found.gaps:
        text = f"{told(gap)}; {gap.fix}"
        key = f"{gap.ports}:{gap.because}"
        result = _result(audited.name, PLAINTEXT_ACCEPTED.id, found.level, text, key)
        if found.level == "exempt":
            result["suppressions"] = [{"kind": "external"}]
        yield result


def _result(name: str, check: str, level: str, text: str, key: str) -> dict[str, Any]:
    return {
        "ruleId": check,
        "level": _LEVELS[level],
        "message": {"text": text},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": name},
                    "region": {"startLine": 1},
                },
                "logicalLocations": [{"fullyQualifiedName": name, "kind": "resource"}],
            }
        ],
        # Runs are compared by this: the same finding in the same place.
        "partialFingerprints": {"finding/v1": f"{name}:{check}:{key}"},
    }


def _notification(audited: Audited) -> dict[str, Any]:
    text = f"{audited.name} could not be read: {audited.error}"
    return {"level": "error", "message": {"text": text}}


def junit(report: Report) -> str:
    """The audit as JUnit's XML: a suite a namespace, a case a workload.

    A workload that is not wholly in the mesh fails, one that is exempt was skipped, and where it
    can't be told, that is an error.
    """
    root = ElementTree.Element("testsuites", name="mendix-mesh audit")
    totals = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for audited in report.namespaces:
        suite = ElementTree.SubElement(root, "testsuite", name=audited.name)
        counts = dict.fromkeys(totals, 0)
        for row in audited.workloads:
            counts["tests"] += 1
            kind = _case(suite, audited, row)
            if kind:
                counts[kind] += 1
        if audited.strictness and audited.strictness.level == "deny":
            case = ElementTree.SubElement(
                suite, "testcase", classname=audited.name, name="plaintext"
            )
            text = _xml("\n".join(audited.strictness.because))
            ElementTree.SubElement(case, "failure", message="plaintext gets in").text = text
            counts["tests"] += 1
            counts["failures"] += 1
        if audited.error:
            case = ElementTree.SubElement(suite, "testcase", classname=audited.name, name="read")
            ElementTree.SubElement(case, "error", message=_xml(audited.error))
            counts["tests"] += 1
            counts["errors"] += 1
        for key, number in counts.items():
            suite.set(key, str(number))
            totals[key] += number
    for key, number in totals.items():
        root.set(key, str(number))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def _case(suite: ElementTree.Element, audited: Audited, row: Row) -> str:
    """Add a workload's case; gives the counter that it goes into, empty where it passes."""
    case = ElementTree.SubElement(
        suite, "testcase", classname=f"{audited.name}.{row.kind}", name=row.name
    )
    lines = [f"{finding.check}: {message(finding)}" for finding in row.findings]
    text = _xml("\n".join(lines))
    if row.state == "exempt":
        ElementTree.SubElement(case, "skipped", message=text)
        return "skipped"
    denied = any(finding.level == "deny" for finding in row.findings)
    tag = {"unmeshed": "failure", "partly": "failure", "unknown": "error"}.get(row.state, "")
    if not tag and denied:
        tag = "failure"
    if not tag:
        if text:
            ElementTree.SubElement(case, "system-out").text = text
        return ""
    summary = f"{row.state} ({', '.join(f'{n} {s}' for s, n in row.pods.items() if n)})"
    ElementTree.SubElement(case, tag, message=summary, type=row.state).text = text
    return f"{tag}s"


def _xml(text: str) -> str:
    """Text without what XML can't hold; messages are printable already but for odd names."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
