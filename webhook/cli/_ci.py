"""Writes a review in CI formats: SARIF 2.1.0 for code scanning, JUnit XML for test reports."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import PurePath
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from webhook.cli._result import Result
from webhook.policy import checks
from webhook.policy.checks import Check, Violation
from webhook.version import VERSION

_LEVELS = {"deny": "error", "warning": "warning"}


def sarif(results: Sequence[Result], invalid: Sequence[str]) -> dict[str, Any]:
    """Return a SARIF log, with a rule for each check that is violated and a result each time.

    `invalid` has a message for each part of the input that could not be reviewed.
    """
    found = [_found(result, violation) for result in results for violation in result.violations]
    used = {one["ruleId"] for one in found}
    rules = [_rule(one.check) for one in checks.all_checks().values() if one.check.id in used]
    notifications = [{"level": "error", "message": {"text": message}} for message in invalid]
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "mendix-mesh", "version": VERSION, "rules": rules}},
                "results": found,
                "invocations": [
                    {
                        "executionSuccessful": not invalid,
                        "toolExecutionNotifications": notifications,
                    }
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


def _found(result: Result, violation: Violation) -> dict[str, Any]:
    name = f"{result.namespace}/{result.kind}/{result.name}"
    location: dict[str, Any] = {
        "logicalLocations": [{"fullyQualifiedName": name, "kind": "resource"}]
    }
    if result.file:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": _uri(result.file)},
            "region": {"startLine": result.line},
        }
    key = ":".join((name, violation.check, violation.field, *violation.values))
    return {
        "ruleId": violation.check,
        "level": _LEVELS[violation.level],
        "message": {"text": f"{result.kind} {result.namespace}/{result.name}: {_text(violation)}"},
        "locations": [location],
        # With this, viewers recognize the same violation in another run.
        "partialFingerprints": {"violation/v1": key},
    }


def _uri(file: str) -> str:
    path = PurePath(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def junit(results: Sequence[Result], invalid: Sequence[str]) -> str:
    """Return JUnit XML, with a suite for each file and a case for each object.

    An object with a violation of level deny is a failure. An object that is not judged is skipped,
    for example because its namespace is not enrolled. `invalid` has a message for each part of the
    input that could not be reviewed. Each is an error.
    """
    root = ElementTree.Element("testsuites", name="mendix-mesh review")
    for file, found in groupby(results, key=lambda result: result.file):
        suite = ElementTree.SubElement(root, "testsuite", name=_xml(file or "standard input"))
        for result in found:
            _add_case(suite, result)
    if invalid:
        suite = ElementTree.SubElement(root, "testsuite", name="invalid input")
        for message in invalid:
            made = ElementTree.SubElement(suite, "testcase", name=_xml(message))
            ElementTree.SubElement(made, "error", message=_xml(message))
    for element in (root, *root):
        counts = Counter(found.tag for found in element.iter())
        for tag, key in (("testcase", "tests"), ("failure", "failures"), ("error", "errors"),
                         ("skipped", "skipped")):  # fmt: skip
            element.set(key, str(counts[tag]))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def _add_case(suite: ElementTree.Element, result: Result) -> None:
    made = ElementTree.SubElement(suite, "testcase")
    made.set("classname", _xml(f"{result.namespace}.{result.kind}"))
    made.set("name", _xml(result.name))
    if result.file:
        made.set("file", _xml(result.file))
        made.set("line", str(result.line))
    text = _xml("\n".join(_lines(result)))
    if any(violation.level == "deny" for violation in result.violations):
        ElementTree.SubElement(made, "failure", message=result.verdict).text = text
    elif result.verdict == "ignored":
        ElementTree.SubElement(made, "skipped", message="not judged")
    elif text:
        ElementTree.SubElement(made, "system-out").text = text


def _lines(result: Result) -> Iterator[str]:
    for violation in result.violations:
        yield f"{violation.check}: {_text(violation)}"


def _text(violation: Violation) -> str:
    return f"{violation.field}: {violation.reason}; {violation.fix}"


def _xml(text: str) -> str:
    """Return the text with characters that XML can't contain replaced by question marks."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
