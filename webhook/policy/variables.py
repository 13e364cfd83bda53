"""The variables of a container, read once where the same text comes again.

A workload's pods, and a mesh's proxies, have the same variables: their text is looked up instead of
decoded. What is remembered comes from outside, so its number and length are bounded.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from webhook.policy.containers import strange_references
from webhook.policy.objects import Container, EnvVar, UndecodableError

#: Entries, and bytes and braces of one; a proxy's take 2 to 4 KiB. Far more is not read at all.
_MOST, _LONGEST, _MOST_BRACES, _TOO_LONG = 256, 8192, 200, 65_536

_decoder = msgspec.json.Decoder(list[EnvVar] | None)


class Variables:
    """The variables of one container; nobody changes them."""

    __slots__ = ("_starting", "_strange", "listed", "values")

    def __init__(self, listed: Sequence[EnvVar]) -> None:
        #: In their order.
        self.listed = listed
        #: Of two with one name the last holds, and one from elsewhere is empty.
        self.values: Mapping[str, str] = {one.name: one.value or "" for one in listed}
        self._starting: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._strange: dict[frozenset[str], frozenset[str]] = {}

    def strange(self, known: frozenset[str]) -> frozenset[str]:
        """The names, other than known ones, that values refer to as `$(NAME)`."""
        found = self._strange.get(known)
        if found is None:
            found = frozenset(strange_references(self.values.values(), known))
            self._strange[known] = found
        return found

    def starting(self, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        """The names that start with one of the prefixes."""
        found = self._starting.get(prefixes)
        if found is None:
            found = tuple(name for name in self.values if name.startswith(prefixes))
            self._starting[prefixes] = found
        return found


def variables(container: Container) -> Variables:
    """Return the variables of a container.

    Raises `UndecodableError` if they can't be read, or are larger than any mesh makes them.
    """
    if len(memoryview(container.env)) > _TOO_LONG:
        raise UndecodableError(f"env of container {container.name[:63]} is over 64 KiB")
    text = bytes(container.env)
    try:
        # Many short ones take far more memory than their text.
        short = len(text) <= _LONGEST and text.count(b"{") <= _MOST_BRACES
        return _remembered(text) if short else _read(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableError(f"{error} (env of container {container.name[:63]})") from None


def _read(text: bytes) -> Variables:
    return Variables(_decoder.decode(text) or ())


_remembered = lru_cache(maxsize=_MOST)(_read)
