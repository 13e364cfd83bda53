"""Remembering what was made of a text: the same images, paths and port lists come again and again.

The texts come from outside, so both their number and their length are bounded.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar, TypeVarTuple

Rest = TypeVarTuple("Rest")
Result = TypeVar("Result")

_MOST, _LONGEST = 512, 256


def remembered(function: Callable[[str, *Rest], Result]) -> Callable[[str, *Rest], Result]:
    """Make a pure function of a text, with an immutable result, remember its latest calls."""
    cached = lru_cache(maxsize=_MOST)(function)

    def call(text: str, *rest: *Rest) -> Result:
        return cached(text, *rest) if len(text) <= _LONGEST else function(text, *rest)

    call.__doc__ = function.__doc__
    return call
