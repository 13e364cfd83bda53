"""The chart's result for the matrix of values is the reviewed one."""

import pytest

from tests.chart import helm, matrix


@pytest.mark.parametrize("name", matrix.REVIEWED)
def test_what_is_rendered_is_what_was_reviewed(name: str) -> None:
    assert matrix.reviewable(name) == matrix.golden(name).read_text(), (
        "look at the difference; where it is meant: make golden"
    )


def test_there_is_no_golden_file_without_values() -> None:
    assert {path.stem for path in matrix.GOLDEN.glob("*")} == set(matrix.REVIEWED)


@pytest.mark.parametrize("name", matrix.SETS)
def test_the_linter_has_no_complaint(name: str) -> None:
    assert "0 chart(s) failed" in helm.lint(matrix.values(name))


def test_every_template_is_rendered_by_some_set_of_values() -> None:
    rendered = {source for name in matrix.SETS for source in matrix.rendered(name).sources}
    templates = {
        f"mendix-mesh/{path.relative_to(helm.CHART)}"
        for path in (helm.CHART / "templates").rglob("*.yaml")
    }
    # A certificate made by Helm is another one each time.
    assert templates - rendered == {
        "mendix-mesh/templates/secret-tls.yaml",
        "mendix-mesh/templates/auditor/secret-tls.yaml",
        # See test_policies. What they say is in files/policies.json.
        "mendix-mesh/templates/mutatingadmissionpolicies.yaml",
        "mendix-mesh/templates/validatingadmissionpolicies.yaml",
    }
