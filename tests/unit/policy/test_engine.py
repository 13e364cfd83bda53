"""The data from which the chart makes the API server's own policies."""

import pytest

from charts import generate_policies
from webhook.policy import cel, checks, engine


def test_the_chart_s_copy_is_current() -> None:
    assert generate_policies.FILE.read_text() == generate_policies.generated(), "run: make docs"


@pytest.mark.parametrize("mesh", engine.MESHES)
def test_every_condition_says_in_words_what_holds(mesh: str) -> None:
    for condition in [*engine.ordinary(mesh), *engine.submitted(mesh)]:
        assert condition.what
        assert condition.expression


@pytest.mark.parametrize("mesh", engine.MESHES)
def test_every_parameter_of_an_expression_is_one_that_the_chart_computes(mesh: str) -> None:
    computed = {*generate_policies.PARAMETERS, "selected", "optOutDenied", "linkerd.policies"}
    text = generate_policies.generated()
    named = {part.partition(">>")[0] for part in text.split("<<")[1:]}
    assert named <= computed
    assert mesh in text


def test_a_check_in_cel_names_its_own_reason() -> None:
    for name, entry in checks.all_checks().items():
        for mesh in entry.check.meshes:
            if entry.rule and mesh in engine.MESHES:
                rows = entry.rule(engine.MESHES[mesh].terms).rows
                assert cel.text(entry.check.fix) in rows or name in (
                    "root-capable",
                    "proxy-missing",
                )


def test_a_text_in_a_literal_ends_where_it_should() -> None:
    assert cel.text("it's \\ two\nlines") == "'it\\'s \\\\ two\\nlines'"


def test_a_pattern_with_a_quote_can_not_be_written() -> None:
    with pytest.raises(ValueError, match="quote"):
        cel.pattern("it's")
