"""The environment variables of a container."""

from collections.abc import Mapping, Sequence

import msgspec

from webhook.policy.pod.containers import unknown_references
from webhook.policy.pod.objects import Container, EnvVar, UndecodableError

#: The maximum size in bytes. A proxy's variables take 2 to 5 KiB.
_TOO_LONG = 65_536

_decoder = msgspec.json.Decoder(list[EnvVar] | None)


class Variables:
    """The variables of one container. It is immutable."""

    __slots__ = ("listed", "values")

    def __init__(self, listed: Sequence[EnvVar]) -> None:
        #: In their original order.
        self.listed = listed
        #: If a name is repeated, the last value counts. A value from another object (`valueFrom`)
        #: is empty.
        self.values: Mapping[str, str] = {one.name: one.value or "" for one in listed}

    def unknown_references(self, known: frozenset[str]) -> set[str]:
        """Return the names, except known ones, to which values refer as `$(NAME)`."""
        return unknown_references(self.values.values(), known)

    def starting(self, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names that start with one of the prefixes."""
        return tuple(name for name in self.values if name.startswith(prefixes))


def variables(container: Container) -> Variables:
    """Return the variables of a container.

    Raise `UndecodableError` if they can't be read, or are larger than those of any mesh.
    """
    if len(memoryview(container.env)) > _TOO_LONG:
        raise UndecodableError(f"env of container {container.name[:63]} is over 64 KiB")
    try:
        return Variables(_decoder.decode(container.env) or ())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableError(f"{error} (env of container {container.name[:63]})") from None
