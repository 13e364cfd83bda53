"""Long lists, a page at a time: what a page weighs is bounded, whatever the cluster holds."""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

#: Rows of a page.
SIZE = 50


class Paged(NamedTuple, Generic[T]):
    """A page of a list."""

    items: Sequence[T]
    #: Its number, from 1, of `pages`.
    page: int
    pages: int
    total: int


def paged(items: Sequence[T], asked: str, size: int = SIZE) -> Paged[T]:
    """The page that a reader asked for, or the nearest that there is."""
    pages = max(1, -(-len(items) // size))
    # Python refuses to read numbers of thousands of digits.
    wanted = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 10 else 1
    page = min(max(1, wanted), pages)
    return Paged(items[(page - 1) * size : page * size], page, pages, len(items))
