"""Places in a pod where something is wrong. Meshes report them, checks make violations of them."""

from typing import Literal, NamedTuple

Level = Literal["deny", "warning"]


class Occurrence(NamedTuple):
    """A place in a pod, and what is wrong there."""

    field: str
    values: tuple[str, ...] = ()
    #: The reason; empty means the check's own.
    reason: str = ""
    fix: str = ""
    #: Another level than the check's own, if the settings require it.
    level: Level | None = None


def label(key: str) -> str:
    """Return the field of a label in a pod."""
    return f"metadata.labels[{key}]"


def annotation(key: str) -> str:
    """Return the field of an annotation in a pod."""
    return f"metadata.annotations[{key}]"
