"""Where in a pod something was found: what meshes tell and checks turn into violations."""

from typing import Literal, NamedTuple

Level = Literal["deny", "advise"]


class Occurrence(NamedTuple):
    """A place in a pod, and what is wrong there."""

    field: str
    values: tuple[str, ...] = ()
    #: In words; the check's own if empty.
    reason: str = ""
    fix: str = ""
    #: Another level than the check's own, where the settings demand it.
    level: Level | None = None


def label(key: str) -> str:
    """Return the field of a label in a pod."""
    return f"metadata.labels[{key}]"


def annotation(key: str) -> str:
    """Return the field of an annotation in a pod."""
    return f"metadata.annotations[{key}]"
