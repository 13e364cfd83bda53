"""`mendix-mesh review -o sarif` and `-o junit`, the formats for CI."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.unit.cli.test_review import ENROLLED, HOST_NETWORK, POD, run

OTHER = "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n"
WEB = POD.replace("shop", "web")
UNTOUCHED = POD.replace("mendix", "other")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with two files, one of which has an invalid document."""
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "my apps"
    made.mkdir()
    (made / "a.yaml").write_text(f"{ENROLLED}---\n{HOST_NETWORK}---\nkind: [\n")
    (made / "b.yaml").write_text(f"{OTHER}---\n# Not its first line.\n{WEB}---\n{UNTOUCHED}")
    return made


def sarif(*arguments: str, stdin: str = "", code: int) -> dict[str, Any]:
    outcome = run("-o", "sarif", *arguments, stdin=stdin)
    assert outcome.exit_code == code
    (found,) = json.loads(outcome.stdout)["runs"]
    assert isinstance(found, dict)
    return found


def junit(*arguments: str, stdin: str = "", code: int) -> ElementTree.Element:
    outcome = run("-o", "junit", *arguments, stdin=stdin)
    assert outcome.exit_code == code
    return ElementTree.fromstring(outcome.stdout)


def test_sarif_has_a_rule_for_each_check_and_a_result_for_each_violation(folder: Path) -> None:
    found = sarif("-f", "my apps", code=2)
    rules = {rule["id"] for rule in found["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in found["results"]} == rules
    fingerprints = [result["partialFingerprints"]["violation/v1"] for result in found["results"]]
    assert len(set(fingerprints)) == len(fingerprints)
    levels = {result["ruleId"]: result["level"] for result in found["results"]}
    assert (levels["host-network"], levels["shared-identity"]) == ("error", "warning")


def test_sarif_names_file_and_line_of_the_object(folder: Path) -> None:
    places = {
        (where["artifactLocation"]["uri"], where["region"]["startLine"])
        for result in sarif("-f", "my apps", code=2)["results"]
        for where in (result["locations"][0]["physicalLocation"],)
    }
    assert places == {("my%20apps/a.yaml", 5), ("my%20apps/b.yaml", 6)}
    (result, *_) = sarif("-f", str(folder / "a.yaml"), code=2)["results"]
    where = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert where == (folder / "a.yaml").as_uri()


def test_sarif_of_standard_input_names_the_object_only() -> None:
    (location,) = sarif("-f", "-", stdin=HOST_NETWORK, code=1)["results"][0]["locations"]
    assert location == {
        "logicalLocations": [{"fullyQualifiedName": "mendix/Pod/shop", "kind": "resource"}]
    }


def test_sarif_says_that_a_part_of_the_input_is_invalid(folder: Path) -> None:
    (invocation,) = sarif("-f", "my apps", code=2)["invocations"]
    assert invocation["executionSuccessful"] is False
    (notification,) = invocation["toolExecutionNotifications"]
    assert "my apps/a.yaml:11:1: not YAML" in notification["message"]["text"]
    (invocation,) = sarif("-f", "-", stdin=POD, code=0)["invocations"]
    assert invocation["executionSuccessful"] is True


def test_junit_has_a_case_for_each_object(folder: Path) -> None:
    root = junit("-f", "my apps", code=2)
    cases = [
        (case.get("file"), case.get("line"), [inner.tag for inner in case])
        for case in root.iterfind(".//testcase")
    ]
    assert cases == [
        ("my apps/a.yaml", "5", ["failure"]),
        ("my apps/b.yaml", "6", ["system-out"]),
        ("my apps/b.yaml", "11", ["skipped"]),
        (None, None, ["error"]),
    ]
    assert "host-network: spec.hostNetwork: " in (root.findtext(".//failure") or "")
    for element in (root, *root):
        for tag, key in (("testcase", "tests"), ("failure", "failures"), ("error", "errors"),
                         ("skipped", "skipped")):  # fmt: skip
            assert element.get(key) == str(len(element.findall(f".//{tag}")))


def test_characters_that_xml_cannot_hold_are_replaced() -> None:
    pod = POD.replace(
        "name: shop,", 'name: "sh\\e\\aop", annotations: {linkerd.io/inject: disabled},'
    )
    assert junit("-f", "-", stdin=pod, code=1).get("failures") == "1"
