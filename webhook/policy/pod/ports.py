"""Port lists in the syntax of the meshes: `25, 8080-8090`."""

from collections.abc import Collection

from webhook.policy.pod.memo import remembered

Ranges = tuple[tuple[int, int], ...]


#: The maximum number of parts that are read. The rest counts as one invalid part.
_MOST = 500


def parse(text: str) -> tuple[Ranges, list[str]]:
    """Return the ports and ranges of a list, and its invalid parts.

    Invalid are a range that ends before it starts, a number that is too long for a port, and
    everything after 500 parts.
    """
    ranges: list[tuple[int, int]] = []
    unexpected: list[str] = []
    for raw in text.split(",", _MOST):
        part = raw.strip()
        if not part:
            continue
        low, dash, high = part.partition("-")
        first, last = _number(low), _number(high if dash else low)
        if first is not None and last is not None and first <= last:
            ranges.append((first, last))
        else:
            unexpected.append(part)
    return tuple(ranges), unexpected


def shown(text: str) -> list[str]:
    """Return the ports and ranges of a list for display, without invalid parts."""
    return [_show(span) for span in parse(text)[0]]


def _number(text: str) -> int | None:
    stripped = text.strip()
    if len(stripped) > 5 or not (stripped.isascii() and stripped.isdecimal()):
        return None
    return int(stripped)


@remembered
def beyond(text: str, allowed: Ranges) -> tuple[str, ...]:
    """Return the parts of a list that are outside the allowed ranges, as written, or invalid."""
    ranges, unexpected = parse(text)
    known = sorted(allowed)
    return (*(_show(span) for span in ranges if not _within(span, known)), *unexpected)


def _within(span: tuple[int, int], allowed: list[tuple[int, int]]) -> bool:
    low, high = span
    for start, end in allowed:
        if start <= low <= end:
            low = end + 1
    return low > high


def _show(span: tuple[int, int]) -> str:
    return str(span[0]) if span[0] == span[1] else f"{span[0]}-{span[1]}"


def others(text: str, known: Collection[str]) -> tuple[str, ...]:
    """Return the parts of a list (for example of subnets) that are not known ones, as written."""
    parts = (part.strip() for part in text.split(",", _MOST))
    return tuple(part for part in parts if part and part not in known)
