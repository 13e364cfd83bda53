"""Formats numbers, times and texts for the pages.

Names and messages can come from anyone who writes objects. They are shortened, and unprintable
characters, such as those that change the direction of text, are shown as codes. Jinja escapes the
rest.
"""

import datetime
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from webhook.policy.words import counted, listed, printable, shortened

#: The maximum length of a text on a page, in characters.
LONGEST = 600


def install(environment: Environment) -> None:
    """Make a Jinja environment format texts this way, and add the filters below."""
    environment.finalize = shown
    environment.filters |= {
        "count": counted, "percent": percent, "ago": ago, "moment": moment, "listed": listed,
        "seconds": seconds,
    }  # fmt: skip


def shown(value: Any) -> Any:
    """Return the value that an expression in a template shows."""
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(shortened(value, LONGEST))
    return value


def percent(coverage: int | None) -> str:
    """Return a coverage as text."""
    return "-" if coverage is None else f"{coverage} %"


def seconds(number: float) -> str:
    """Return a duration as text."""
    return f"{number:.1f} s" if number < 10 else f"{number:.0f} s"


def ago(then: datetime.datetime | None, now: datetime.datetime) -> str:
    """Return the age of something, in the largest unit that fits."""
    if then is None:
        return "at an unknown time"
    passed = max(0, int((now - then).total_seconds()))
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if passed >= size:
            return f"{counted(passed // size, unit)} ago"
    return f"{counted(passed, 'second')} ago" if passed else "just now"


def moment(then: datetime.datetime | None) -> str:
    """Return a time as text, in UTC."""
    return f"{then.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC" if then else ""
