"""docs/bypasses.md names every check, and no other."""

import re
from pathlib import Path

from webhook.policy import checks

PAGE = Path(__file__).parents[2] / "docs" / "bypasses.md"


def test_every_check_stops_or_warns_of_a_way_round_that_the_page_names() -> None:
    named = re.findall(r"\[([a-z-]+)\]\(checks\.md#([a-z-]+)\)", PAGE.read_text())
    assert {name for name, _ in named} == checks.ids()
    assert [pair for pair in named if pair[0] != pair[1]] == []
