"""`review` gives each case of tests/fixtures/cases.py its verdict, one test for each."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result

from tests.fixtures.cases import CASES, POLICY_OBJECTS, Case
from tests.fixtures.fixture import Json
from tests.unit.admission.reviews import review as admission_review
from tests.unit.cli.test_review import run
from webhook.admission.metrics import Metrics
from webhook.admission.review import Reviewer
from webhook.policy.settings import Settings


def review(case: Case, folder: Path, *more: str) -> Result:
    """Review the pods of a case."""
    (folder / "pods.json").write_text(
        json.dumps({"kind": "List", "items": [one.document for one in case.requests()]})
    )
    (folder / "settings.yaml").write_text(yaml.safe_dump(case.settings))
    final = () if case.submitted else ("--final",)
    given = ("--mesh", case.mesh, "--settings", str(folder / "settings.yaml"), *final)
    return run("-f", str(folder / "pods.json"), *given, *more)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_pod_gets_its_verdict(tmp_path: Path, case: Case) -> None:
    found = review(case, tmp_path)
    assert found.exit_code == {"admit": 0, "deny": 1}[case.want], found.output


def denials(case: Case, folder: Path) -> list[set[str]]:
    """The checks for which each pod of a case is denied."""
    results = json.loads(review(case, folder, "-o", "json").stdout)["results"]
    return [{v["check"] for v in one["violations"] if v["level"] == "deny"} for one in results]


@pytest.mark.parametrize("obj", POLICY_OBJECTS, ids=lambda obj: obj["kind"])
def test_an_object_that_opens_a_bypass_is_denied(obj: Json) -> None:
    mesh = "linkerd" if "linkerd.io" in obj["apiVersion"] else "istio"
    reviewer = Reviewer(Settings(), Metrics("0"))
    body = json.dumps(admission_review(obj)).encode()
    answer: Any = json.loads(reviewer.answer(reviewer.routes[f"/validate/{mesh}/enforce"], body))
    assert answer["response"]["allowed"] is False
    assert "would weaken mutual TLS" in answer["response"]["status"]["message"]
