"""Caches results of functions of a text. Images, paths and port lists are often the same.

The texts come from outside, so their number and their length are limited.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar, TypeVarTuple

Rest = TypeVarTuple("Rest")
Result = TypeVar("Result")

_MOST, _LONGEST = 512, 256


def remembered(function: Callable[[str, *Rest], Result]) -> Callable[[str, *Rest], Result]:
    """Return a pure function with a cache of its latest results, which are immutable."""
    cached = lru_cache(maxsize=_MOST)(function)

    def call(text: str, *rest: *Rest) -> Result:
        return cached(text, *rest) if len(text) <= _LONGEST else function(text, *rest)

    call.__doc__ = function.__doc__
    return call
