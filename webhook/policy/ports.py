"""Lists of ports as meshes write them: `25, 8080-8090`."""

from collections.abc import Iterable

from webhook.policy.memo import remembered

Ranges = tuple[tuple[int, int], ...]


def parse(text: str) -> tuple[Ranges, list[str]]:
    """Read a list of ports and ranges; gives the ranges, and the parts that are neither.

    A range that ends before it starts is none, nor is a number that is too long for any port.
    """
    ranges: list[tuple[int, int]] = []
    odd: list[str] = []
    for raw in text.split(","):
        part = raw.strip()
        if not part:
            continue
        low, dash, high = part.partition("-")
        first, last = _number(low), _number(high if dash else low)
        if first is not None and last is not None and first <= last:
            ranges.append((first, last))
        else:
            odd.append(part)
    return tuple(ranges), odd


def shown(text: str) -> list[str]:
    """The ports and ranges of a list, each as it is shown; odd parts are left out."""
    return [_show(span) for span in parse(text)[0]]


def _number(text: str) -> int | None:
    stripped = text.strip()
    if len(stripped) > 5 or not (stripped.isascii() and stripped.isdecimal()):
        return None
    return int(stripped)


@remembered
def beyond(text: str, allowed: Ranges) -> tuple[str, ...]:
    """The parts of a list that reach past the allowed ranges, as written; odd ones count."""
    ranges, odd = parse(text)
    return (*(_show(span) for span in ranges if not _within(span, allowed)), *odd)


def _within(span: tuple[int, int], allowed: Iterable[tuple[int, int]]) -> bool:
    low, high = span
    for start, end in sorted(allowed):
        if start <= low <= end:
            low = end + 1
    return low > high


def _show(span: tuple[int, int]) -> str:
    return str(span[0]) if span[0] == span[1] else f"{span[0]}-{span[1]}"
