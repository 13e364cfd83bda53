"""The fixtures are current and complete, and each breaks only its own check."""

import re

import pytest

from tests.fixtures import generate, samples
from tests.fixtures.fixture import Fixture
from tests.unit.policy.judge import broken, judge
from webhook.policy import checks
from webhook.policy.validate import Verdict

FIXTURES = generate.fixtures()
FAILING = [fixture for fixture in FIXTURES if not fixture.passes]
PASSING = [fixture for fixture in FIXTURES if fixture.passes]


def name(fixture: Fixture) -> str:
    return f"{fixture.check}/{fixture.name}"


def verdict(fixture: Fixture) -> Verdict:
    """Return the verdict on the documents of one pod, or of an update."""
    *before, obj = fixture.documents
    old = before[0] if before else None
    return judge(obj, old, by=fixture.mesh, subresource=fixture.subresource)


def test_the_samples_of_mendix_are_current() -> None:
    files = dict(samples.files())
    assert all(path.exists() and path.read_text() == text for path, text in files.items())
    assert set(samples.FOLDER.glob("*.yaml")) == files.keys()


def test_no_two_fixtures_have_one_name() -> None:
    names = [(fixture.check, fixture.name) for fixture in FIXTURES]
    assert len(set(names)) == len(names)


def test_every_check_has_a_failing_and_a_nearest_passing_example() -> None:
    kinds = {(fixture.check, fixture.passes) for fixture in FIXTURES}
    lacking = {check for check in checks.ids() if not {(check, True), (check, False)} <= kinds}
    assert not lacking, f"add a failing and a passing pod of {lacking} to tests/fixtures/meshes"


def test_every_mesh_that_a_check_names_has_an_example_that_breaks_it() -> None:
    shown = {(fixture.check, fixture.mesh) for fixture in FAILING}
    named = {(name, mesh) for name, entry in checks.all_checks().items()
             for mesh in entry.check.meshes}  # fmt: skip
    lacking = sorted(named - shown)
    assert not lacking, f"add a failing pod for each of {lacking} to tests/fixtures/meshes"


def test_no_two_pods_have_one_name_so_that_all_can_be_applied_to_one_namespace() -> None:
    names = [document["metadata"]["name"] for f in FIXTURES for document in f.documents[:1]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("fixture", FAILING, ids=name)
def test_a_failing_example_breaks_its_check_and_no_other(fixture: Fixture) -> None:
    found = verdict(fixture)
    level = checks.all_checks()[fixture.check].check.level
    assert broken(found, level) == sorted({fixture.check, *fixture.also})
    assert not broken(found, "warning" if level == "deny" else "deny")
    assert found.allowed == (level == "warning")


@pytest.mark.parametrize("fixture", PASSING, ids=name)
def test_a_passing_example_is_admitted_and_keeps_its_check(fixture: Fixture) -> None:
    found = verdict(fixture)
    assert found.outcome == "admitted"
    assert fixture.check not in broken(found, "warning")


@pytest.mark.parametrize("fixture", FAILING, ids=name)
def test_what_is_found_lies_in_the_fields_that_the_check_says_it_looks_at(fixture: Fixture) -> None:
    for violation in verdict(fixture).violations:
        fields = checks.all_checks()[violation.check].check.fields
        place = re.sub(r"(ontainers|ports|Mounts|volumes)\[[^]]*\]", r"\1[*]", violation.field)
        assert any(place.startswith(field.removesuffix("*]")) for field in fields), place
