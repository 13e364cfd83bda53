"""The workflows: what they run; and the release's rights, and that its edits find their place."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / ".github/workflows/release.yml"
WORKFLOWS = sorted(FILE.parent.glob("*.y*ml"))


def workflow() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return content


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_a_commit_and_says_which_version_that_is(file: Path) -> None:
    used = re.findall(r"uses: (.*)", file.read_text())
    assert used
    assert [
        one for one in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)
    ] == []


def test_its_rights_are_those_that_it_uses() -> None:
    assert workflow()["permissions"] == {}
    for job in workflow()["jobs"].values():
        assert job["permissions"] == {"contents": "read", "packages": "write", "id-token": "write"}


def test_it_builds_on_the_base_that_the_dockerfile_names() -> None:
    assert f"\nARG PYTHON={workflow()['env']['BASE']}\n" in (ROOT / "Dockerfile").read_text()


def test_what_it_writes_into_the_chart_has_one_place_there() -> None:
    patterns = re.findall(r'sed -i "s\|(\S.*?)\|', FILE.read_text())
    assert len(patterns) == 2
    values = (ROOT / "charts/mendix-mesh/values.yaml").read_text()
    for pattern in patterns:
        plain = pattern.replace('\\"', '"')
        assert len(re.findall(plain, values, re.MULTILINE)) == 1


def test_no_shell_step_is_made_of_what_others_may_write() -> None:
    steps = [step for job in workflow()["jobs"].values() for step in job["steps"]]
    assert [step["run"] for step in steps if "${{" in step.get("run", "")] == []
