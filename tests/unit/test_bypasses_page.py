"""docs/bypasses.md names every check, and every label and annotation that a check reads."""

import re
from pathlib import Path

import pytest

from docs import generate_bypasses
from webhook.policy import checks

PAGE = (Path(__file__).parents[2] / "docs" / "bypasses.md").read_text()
NAMED = re.findall(r"\[([a-z-]+)\]\(checks\.md#([a-z-]+)\)", PAGE)


def test_the_table_of_what_was_seen_is_current() -> None:
    assert generate_bypasses.page() == PAGE, "run `make docs`"


def test_every_check_denies_or_warns_of_a_bypass_that_the_page_names() -> None:
    unlike = {name for name, _ in NAMED} ^ checks.ids()
    assert not unlike, f"docs/bypasses.md: add a row for (or remove) {unlike}"
    assert [pair for pair in NAMED if pair[0] != pair[1]] == []


@pytest.mark.parametrize("check", sorted(checks.ids()))
def test_every_mark_that_a_check_looks_at_is_on_the_page(check: str) -> None:
    fields = checks.all_checks()[check].check.fields
    marks = [found[1] for f in fields if (found := re.search(r"(?:labels|annotations)\[(.+)\]", f))]
    # Of several marks with one prefix in a row, only the first has the prefix.
    unnamed = [
        mark
        for mark in marks
        if mark.rstrip("*") not in PAGE and f"`{mark.rpartition('/')[2]}`" not in PAGE
    ]
    assert unnamed == []
