"""docs/security.md: every threat has an answer, and each test that it names exists."""

import re
from pathlib import Path

import pytest
import yaml

from webhook.version import VERSION

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
POLICY = (ROOT / "SECURITY.md").read_text()
TESTS = {
    name
    for file in (ROOT / "tests").glob("**/test_*.py")
    for name in re.findall(r"^ *def (test_\w+)", file.read_text(), re.MULTILINE)
}


def rows(heading: str) -> list[list[str]]:
    """Return the cells of each row of the first table below a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2]
    lines = section.partition("\n| ")[2].partition("\n\n")[0].splitlines()[2:]
    assert lines, f"docs/security.md has no table below {heading!r}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_each_threat_of_sig_security_has_its_row() -> None:
    assert [row[0] for row in rows("The threats of admission control")] == [
        str(number) for number in range(1, 19)
    ]


@pytest.mark.parametrize("heading", ["The threats of admission control",
                                     "Vulnerabilities of other webhooks"])  # fmt: skip
def test_an_answer_is_shown_by_a_test_or_says_that_there_is_none(heading: str) -> None:
    bare = [
        row[0]
        for row in rows(heading)
        if not row[3] and not row[2].startswith("Not defended, because")
    ]
    assert bare == []


def test_each_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 40
    assert named - TESTS == set()


def test_every_account_and_role_is_on_the_page() -> None:
    documents = list(yaml.safe_load_all((ROOT / "docs" / "rbac.yaml").read_text()))
    names = {one["metadata"]["name"] for one in documents if one["kind"] in _KINDS}
    for template in (ROOT / "charts/mendix-mesh/templates").glob("**/*.yaml"):
        pattern = rf"^kind: (?:{'|'.join(_KINDS)})\nmetadata:\n  name: (\S+)"
        names |= set(re.findall(pattern, template.read_text(), re.MULTILINE))
    assert len(names) > 10
    assert {name for name in names if f"`{name}`" not in PAGE} == set()


_KINDS = ("ServiceAccount", "ClusterRole")


def test_the_version_that_gets_fixes_is_this_one() -> None:
    minor = ".".join(VERSION.split(".")[:2])
    assert re.findall(r"^\| (\S+) \| yes \|$", POLICY, re.MULTILINE) == [minor]
