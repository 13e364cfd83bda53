"""Splits long lists into pages, so that the size of a page is limited for any cluster."""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

#: The number of rows per page.
SIZE = 50


class Paged(NamedTuple, Generic[T]):
    """A page of a list."""

    items: Sequence[T]
    #: The page number, from 1, and the number of pages.
    page: int
    pages: int
    total: int


def paged(items: Sequence[T], requested: str, size: int = SIZE) -> Paged[T]:
    """Return the requested page, or the nearest one that exists."""
    pages = max(1, -(-len(items) // size))
    # Python does not parse numbers with thousands of digits.
    wanted = (
        int(requested) if requested.isascii() and requested.isdigit() and len(requested) < 10 else 1
    )
    page = min(max(1, wanted), pages)
    return Paged(items[(page - 1) * size : page * size], page, pages, len(items))
