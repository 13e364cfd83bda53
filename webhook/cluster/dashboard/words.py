"""Numbers, times and texts as pages show them.

Names and messages come from anyone who wrote the objects: they are shortened, and what is not
printable, as marks that turn the direction of the text, is spelt out. Jinja escapes the rest.
"""

import datetime
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from webhook.policy.words import counted, listed, printable, shortened

#: Characters of any one text that a page shows.
LONGEST = 600


def install(environment: Environment) -> None:
    """Make a Jinja environment write texts so, and give it the filters below."""
    environment.finalize = shown
    environment.filters |= {
        "count": counted, "percent": percent, "ago": ago, "moment": moment, "listed": listed,
        "seconds": seconds,
    }  # fmt: skip


def shown(value: Any) -> Any:
    """What an expression in a template writes."""
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(shortened(value, LONGEST))
    return value


def percent(coverage: int | None) -> str:
    """A coverage."""
    return "-" if coverage is None else f"{coverage} %"


def seconds(number: float) -> str:
    """A duration."""
    return f"{number:.1f} s" if number < 10 else f"{number:.0f} s"


def ago(then: datetime.datetime | None, now: datetime.datetime) -> str:
    """How long ago something was, in the largest unit that fits."""
    if then is None:
        return "at an unknown time"
    passed = max(0, int((now - then).total_seconds()))
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if passed >= size:
            return f"{counted(passed // size, unit)} ago"
    return f"{counted(passed, 'second')} ago" if passed else "just now"


def moment(then: datetime.datetime | None) -> str:
    """A time, in UTC."""
    return f"{then.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC" if then else ""
