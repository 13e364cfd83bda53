"""Numbers, lists and other people's text in sentences: messages of every room are made with it."""

from collections.abc import Sequence


def counted(number: int, what: str) -> str:
    """Return a number of things, as `1 pod` or `2,000 pods`."""
    return f"{number:,} {what if number == 1 else f'{what}s'}"


def listed(names: Sequence[str], most: int = 5, *, of: int | None = None) -> str:
    """Return the first of some names and the number of the others, like `a, b and 3 more`.

    `of` is the total number if the names are examples.
    """
    first = names[:most]
    more = (len(names) if of is None else of) - len(first)
    return ", ".join(first) + (f" and {more:,} more" if more > 0 else "")


def shortened(text: str, most: int) -> str:
    """Return the text with at most this many characters, with a mark where it is cut."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def printable(text: str) -> str:
    """Return the text on one line, with control characters written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def masked(text: str) -> str:
    """Return the text with a ? for each such character. Its length stays the same."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
