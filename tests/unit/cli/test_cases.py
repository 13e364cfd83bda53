"""Pods and policy objects with their required verdict, one test for each.

They come from people who tried to bypass the policy, or whose pods were denied wrongly. `deny` and
`admit` contain stored or submitted pods, `policy-objects` whole admission reviews.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.unit.cli.test_review import run
from webhook.admission.metrics import Metrics
from webhook.admission.review import Reviewer
from webhook.policy.settings import Settings

CASES = Path(__file__).parents[2] / "fixtures" / "cases"
PODS: list[dict[str, str]] = json.loads((CASES / "cases.json").read_text())
POLICY_OBJECTS = sorted((CASES / "policy-objects").glob("*.json"))


def test_every_file_is_a_case() -> None:
    files = {path.relative_to(CASES).as_posix() for path in CASES.glob("[ad]*/*")}
    assert {case["file"] for case in PODS} == {one for one in files if ".settings." not in one}
    assert POLICY_OBJECTS


def review(case: dict[str, str], *more: str) -> Result:
    """Review the pods of a case."""
    flags = [str(CASES / f) if f.endswith(".yaml") else f for f in case["flags"].split()]
    return run("-f", str(CASES / case["file"]), "--mesh", case["mesh"], *flags, *more)


@pytest.mark.parametrize("case", PODS, ids=lambda case: case["file"])
def test_a_pod_gets_its_verdict(case: dict[str, str]) -> None:
    found = review(case)
    assert found.exit_code == {"admit": 0, "deny": 1}[case["want"]], found.output


def denials(case: dict[str, str]) -> list[set[str]]:
    """The checks for which each pod of a case is denied."""
    results = json.loads(review(case, "-o", "json").stdout)["results"]
    return [{v["check"] for v in one["violations"] if v["level"] == "deny"} for one in results]


@pytest.mark.parametrize("path", POLICY_OBJECTS, ids=lambda path: path.stem)
def test_an_object_that_opens_a_bypass_is_denied(path: Path) -> None:
    body = path.read_bytes()
    group = json.loads(body)["request"]["kind"]["group"]
    mesh = "linkerd" if group.endswith("linkerd.io") else "istio"
    reviewer = Reviewer(Settings(), Metrics("0"))
    answer: Any = json.loads(reviewer.answer(reviewer.routes[f"/validate/{mesh}/enforce"], body))
    assert answer["response"]["allowed"] is False
    assert "would weaken mutual TLS" in answer["response"]["status"]["message"]
