"""The fixtures: current, complete, and each breaking what it is for and nothing else."""

import collections
import re
from pathlib import Path

import pytest

from tests.fixtures import generate
from tests.fixtures.fixture import Fixture, load
from tests.unit.policy.judge import broken, judge
from webhook.policy import checks
from webhook.policy.validate import Verdict

FIXTURES = list(generate.fixtures())
FAILING = [fixture for fixture in FIXTURES if not fixture.passes]
PASSING = [fixture for fixture in FIXTURES if fixture.passes]


def name(fixture: Fixture) -> str:
    return f"{fixture.check}/{fixture.name}"


def verdict(fixture: Fixture) -> Verdict:
    """What becomes of a file's documents: of one pod, or of an update."""
    *before, obj = load(fixture.path)
    old = before[0] if before else None
    return judge(obj, old, by=fixture.mesh, subresource=fixture.subresource)


def test_the_files_are_current() -> None:
    files = generate.files()
    outdated = [path for path, text in files.items() if not _holds(path, text)]
    assert not outdated, "run `python -m tests.fixtures.generate`"
    assert not generate.stale(), "run `python -m tests.fixtures.generate`"


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def test_every_check_has_a_failing_and_a_nearest_passing_example() -> None:
    kinds = collections.Counter((fixture.check, fixture.passes) for fixture in FIXTURES)
    lacking = {check for check in checks.ids() if not kinds[check, True] or not kinds[check, False]}
    assert not lacking


def test_no_two_pods_have_one_name_so_that_all_can_be_applied_to_one_namespace() -> None:
    names = [document["metadata"]["name"] for f in FIXTURES for document in f.documents[:1]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("fixture", FAILING, ids=name)
def test_a_failing_example_breaks_its_check_and_no_other(fixture: Fixture) -> None:
    found = verdict(fixture)
    level = checks.all_checks()[fixture.check].check.level
    assert broken(found, level) == sorted({fixture.check, *fixture.also})
    assert not broken(found, "advise" if level == "deny" else "deny")
    assert found.allowed == (level == "advise")


@pytest.mark.parametrize("fixture", PASSING, ids=name)
def test_a_passing_example_is_admitted_and_keeps_its_check(fixture: Fixture) -> None:
    found = verdict(fixture)
    assert found.outcome == "admitted"
    assert fixture.check not in broken(found, "advise")


@pytest.mark.parametrize("fixture", FAILING, ids=name)
def test_what_is_found_lies_in_the_fields_that_the_check_says_it_looks_at(fixture: Fixture) -> None:
    for violation in verdict(fixture).violations:
        fields = checks.all_checks()[violation.check].check.fields
        place = re.sub(r"(ontainers|ports|Mounts|volumes)\[[^]]*\]", r"\1[*]", violation.field)
        assert any(place.startswith(field.removesuffix("*]")) for field in fields), place
