"""The forms of values: how the value of an input must look before it is interpreted.

A form is a pattern in the common syntax of Python's `re` and RE2. It matches whole values. No form
admits a line break, a control character, a quote or `$(`, because injectors paste values into YAML
and the kubelet expands `$(VAR)` after admission. Structured values like JSON are parsed instead,
and each key is judged.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from webhook.policy.inputs import proxyconfig

#: Judges a structured value. Yields a sentence without its subject for each violation.
Judge = Callable[[str], Iterable[str]]


class Form:
    """The form of values: a description for messages, a pattern, and the maximum length."""

    __slots__ = ("_judge", "_match", "_parsed", "longest", "pattern", "words")

    def __init__(
        self,
        words: str,
        pattern: str = "",
        *,
        longest: int = 253,
        judge: Judge | None = None,
        parsed: bool = True,
    ) -> None:
        """`parsed` means that the mesh, too, parses a value that `judge` judges."""
        self.words = words
        #: Empty for structured values, which `judge` parses.
        self.pattern = pattern
        #: In characters. A longer value is not read.
        self.longest = longest
        self._judge, self._parsed = judge, parsed and judge is not None
        self._match = re.compile(pattern, re.ASCII).fullmatch

    def wrong(self, value: str) -> list[str]:
        """Return what is wrong with a value, as predicates; nothing if it has the form."""
        if len(value) > self.longest:
            return [f"is longer than {self.longest} characters"]
        if self._judge is not None:
            return list(self._judge(value))
        return [] if self._match(value) else [f"is not {self.words}"]

    def can_split(self, value: str) -> bool:
        """Return whether a value without this form could end its place in a template.

        Injectors paste values into YAML. What follows would count as a part of the template.
        """
        texts = _texts(value) if self._parsed and len(value) <= self.longest else [value]
        return any(map(_SPLITS.search, texts))


def _texts(value: str) -> Iterator[str]:
    """Yield all keys and values of JSON or YAML; the value itself if it is neither."""
    try:
        # A repeated key may be the one that an injector reads.
        found = json.loads(value, object_pairs_hook=list)
    except (ValueError, RecursionError):
        found = proxyconfig.parse(value) or value
    left: list[Any] = [found]
    while left:
        one = left.pop()
        if isinstance(one, Mapping):
            left += one.items()
        elif isinstance(one, list | tuple):
            left += one
        elif isinstance(one, str):
            yield one


#: The pattern that no value has.
NOTHING = r"[^\s\S]"


def one_of(*values: str) -> Form:
    """Return the form of a few fixed values."""
    named = ", ".join(value or '""' for value in values)
    words = f"one of {named}" if len(values) > 1 else named or "a value that authors may set"
    return Form(words, "|".join(re.escape(value) for value in values) if values else NOTHING)


def structured(words: str, judge: Judge, *, longest: int, parsed: bool = True) -> Form:
    """Return the form of values that are parsed, and judged key by key."""
    return Form(words, longest=longest, judge=judge, parsed=parsed)


_PORT = (
    r"(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}|0)"
)
_SPAN = rf"{_PORT}(?: *- *{_PORT})?"
_CIDR = r"[0-9A-Fa-f:.]{2,45}(?:/[0-9]{1,3})?"


def _listed(item: str) -> str:
    """Return the pattern of a list, possibly empty, with commas and blanks between its items.

    Each blank can match in only one place. Otherwise a long value could keep Python's `re` busy
    forever.
    """
    return rf" *(?:(?:{item}) *)?(?:, *(?:(?:{item}) *)?)*"


#: For inputs that only an admin may set. No value of an author has this form.
ADMIN_ONLY = one_of()
BOOLEAN = Form("true or false", r"[Tt]rue|TRUE|[Ff]alse|FALSE|[tTfF01]")
FALSE = Form("false", r"[Ff]alse|FALSE|[fF0]")
SWITCH = one_of("enabled", "disabled")
PORT = Form("a port", _PORT)
PORTS = Form("ports and ranges, for example 80,8000-8100", _listed(_SPAN), longest=4096)
PORTS_OR_ALL = Form("ports, or *", rf"{_listed(_SPAN)}| *\* *", longest=4096)
#: One pattern for ports, ranges and names. If an item could match in two ways, a list of n items
#: could match in 2^n ways.
PORTS_OR_NAMES = Form("ports, ranges and port names", _listed(r"[a-z0-9-]{1,63}"), longest=4096)
CIDRS = Form("subnets, for example 10.0.0.0/8", _listed(_CIDR), longest=4096)
CIDRS_OR_ALL = Form("subnets, or *", rf"{_listed(_CIDR)}| *\* *", longest=4096)
INTERFACES = Form(
    "network interface names", _listed(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}"), longest=1024
)
NUMBER = Form("a whole number", r"[0-9]{1,9}")
USER = Form("a user ID", r"[1-9][0-9]{0,9}")
RATIO = Form("a ratio, for example 0.5", r"[0-9](?:\.[0-9]{1,9})?")
QUANTITY = Form(
    "a quantity, for example 100m or 64Mi",
    r"(?:[0-9]{1,18}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(?:[numkMGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?",
)
DURATION = Form(
    "a duration, for example 10s", r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ns|us|ms|s|m|h|d)){1,4}"
)
NAME = Form("a name", r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?)?")
NAMES = Form("names, separated by commas", _listed(r"[A-Za-z0-9_.-]{1,63}"), longest=4096)
IMAGE = Form("an image", r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,500}", longest=500)
PULL_POLICY = one_of("Always", "IfNotPresent", "Never")
LOG_LEVEL = Form("a log level", r"[A-Za-z0-9_:,=.*/\[\]{} -]*", longest=1024)
PATTERNS = Form("metric names or patterns", r"[A-Za-z0-9_.,:;|*+?()\[\]^/ -]*", longest=4096)
_BUCKET = r'"[A-Za-z0-9_.*-]{1,200}" *: *\[[0-9., ]{0,500}\] *'
BUCKETS = Form(
    "a JSON object that maps metrics to lists of numbers",
    rf" *\{{ *(?:{_BUCKET}(?:, *{_BUCKET})*)?\}} *",
    longest=4096,
)
PATH = Form(
    "a URL path, for example /metrics",
    r"(?:/[A-Za-z0-9_.~%/-]*(?:\?[A-Za-z0-9_.~%/&=,:\[\]-]*)?)?",
    longest=1024,
)
#: Texts that can be pasted into YAML without quotes and remain one string.
WORDS = Form(
    "letters, digits, spaces and . _ / + -",
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9._/+ -]{0,251}[A-Za-z0-9._/+-])?)?",
)
#: Control characters, and the line ends of YAML, for use in a character class.
UNPRINTABLE = r"\x00-\x1f\x7f-\x9f" + "\u2028\u2029"
_SPLITS = re.compile(f"[{UNPRINTABLE}\"'`\\\\]")
#: For values that no program reads. They only have to be printable.
TEXT = Form("printable text", f"[^{UNPRINTABLE}]*", longest=4096)
