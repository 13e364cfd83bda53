"""Numbers, times and texts as pages show them."""

import datetime

from markupsafe import Markup

from tests.unit.cluster.dashboard.reports import NOW
from webhook.cluster.dashboard import words


def before(**parts: int) -> str:
    return words.ago(NOW - datetime.timedelta(**parts), NOW)


def test_the_largest_unit_that_fits_is_reported() -> None:
    assert [before(seconds=0), before(seconds=1), before(seconds=119), before(hours=5)] == [
        "just now", "1 second ago", "1 minute ago", "5 hours ago",
    ]  # fmt: skip
    assert before(days=3) == "3 days ago"


def test_a_clock_that_runs_behind_makes_no_negative_times() -> None:
    assert before(seconds=-40) == "just now"
    assert words.ago(None, NOW) == "at an unknown time"


def test_marks_that_turn_text_around_are_spelt_out() -> None:
    assert words.shown("a\u202egpj.exe\n\x1b[2J") == "a\\u202egpj.exe\\n\\x1b[2J"


def test_long_texts_are_cut_and_markup_of_our_own_is_not() -> None:
    assert len(words.shown("x" * 10_000)) == words.LONGEST
    assert words.shown(Markup("<b>" + "x" * 10_000)) == Markup("<b>" + "x" * 10_000)
    assert (words.shown(None), words.shown(3)) == ("", 3)


def test_a_coverage() -> None:
    assert (words.percent(None), words.percent(7)) == ("-", "7 %")
