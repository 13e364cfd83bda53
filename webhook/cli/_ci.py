"""Writes an audit in CI formats: SARIF 2.1.0 for code scanning, JUnit XML for test reports."""

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from webhook.cluster.audit import Audited, AuditFinding, Report, Row
from webhook.cluster.audit.reports import message
from webhook.cluster.audit.traffic import PLAINTEXT_TRAFFIC
from webhook.cluster.judge import live
from webhook.cluster.plaintext.acceptance import describe
from webhook.policy import checks, plaintext
from webhook.policy.checks import Check
from webhook.policy.plaintext import PLAINTEXT_ACCEPTED
from webhook.version import VERSION

_LEVELS = {"deny": "error", "advise": "warning", "exempt": "note"}


def sarif(report: Report) -> dict[str, Any]:
    """Return the audit as a SARIF log, with a rule for each check and a result for each finding.

    SARIF viewers need a file as location. A workload has none, so its name is used instead.
    """
    results = [
        _sarif_result(audited, row, finding)
        for audited in report.namespaces
        for row in audited.workloads
        for finding in row.findings
    ] + [result for audited in report.namespaces for result in _plaintext_results(audited)]
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


def _plaintext_results(audited: Audited) -> Iterator[dict[str, Any]]:
    """Yield a result for each gap for plaintext; its location is the namespace."""
    found = audited.plaintext
    if found is None or not found.level:
        return
    for gap in found.gaps:
        text = f"{describe(gap)}; {gap.fix}"
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
        # With this, viewers recognize the same finding in another run.
        "partialFingerprints": {"finding/v1": f"{name}:{check}:{key}"},
    }


def _notification(audited: Audited) -> dict[str, Any]:
    text = f"{audited.name} could not be read: {audited.error}"
    return {"level": "error", "message": {"text": text}}


def junit(report: Report) -> str:
    """Return the audit as JUnit XML, with a suite for each namespace and a case for each workload.

    A workload outside the mesh, or only partly in it, is a failure. An exempt workload is skipped.
    A workload whose state is unknown is an error.
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
        if audited.plaintext and audited.plaintext.level == "deny":
            case = ElementTree.SubElement(
                suite, "testcase", classname=audited.name, name="plaintext"
            )
            text = _xml("\n".join(audited.plaintext.because))
            ElementTree.SubElement(case, "failure", message="plaintext is accepted").text = text
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
    """Add the case of a workload and return the counter to increase; empty if it passes."""
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
    """Return the text with characters that XML can't contain replaced by question marks."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
