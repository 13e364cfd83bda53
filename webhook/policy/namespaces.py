"""Which values a namespace's labels may have, and who may take it out of enforcement.

A change is judged by the labels before and after it. For a namespace without these labels, the
chart's values are used: its mesh by name, and the mode.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from webhook.policy.labels import DOMAIN, MESH_LABEL, MESHES, MODE_LABEL
from webhook.policy.settings import LeaveEnforcement, Settings, mistakes
from webhook.policy.validate import MODES, Mode
from webhook.policy.words import listed, shortened

#: The labels with few allowed values: label, description, and the values.
_VALUES: Sequence[tuple[str, str, Sequence[str]]] = (
    (MESH_LABEL, "mesh", MESHES),
    (MODE_LABEL, "mode", MODES),
)


_LABELS = tuple(label for label, _, _ in _VALUES)


class Standing(NamedTuple):
    """The mesh of a namespace, `unknown` if its label has another value, and its mode."""

    mesh: str
    mode: Mode

    def __str__(self) -> str:
        return f"{self.mesh}, {self.mode}"


class Values(NamedTuple):
    """The chart's values for a namespace."""

    #: The mode for a namespace without a label.
    mode: Mode
    #: The mesh and mode of a namespace without a mesh label; None if it is not enrolled by name.
    named: Standing | None = None

    def standing(self, labels: Mapping[str, str]) -> Standing | None:
        """Return mesh and mode of a namespace with these labels; None if it is not enrolled.

        An unknown mode counts as enforce.
        """
        mesh, mode = labels.get(MESH_LABEL), labels.get(MODE_LABEL)
        found = self.named
        if mesh is not None:
            found = Standing(mesh if mesh in MESHES else "unknown", self.mode)
        if found is None or mode is None:
            return found
        return found._replace(mode=next((one for one in MODES if one == mode), "enforce"))


class NamespaceChange(NamedTuple):
    """A namespace that is created, or whose labels are changed, and by whom."""

    before: Mapping[str, str]
    after: Mapping[str, str]
    user: str
    groups: Sequence[str]


class Left(NamedTuple):
    """A namespace that leaves enforcement: its state before and after."""

    was: Standing
    will_be: Standing | None

    @property
    def to(self) -> str:
        """Return the new state in one word: another mode, another mesh, or not enrolled."""
        if self.will_be is None:
            return "not enrolled"
        return self.will_be.mesh if self.will_be.mode == "enforce" else self.will_be.mode


class Ruling(NamedTuple):
    """The verdict on a change."""

    #: Why it is denied; empty if it is allowed.
    denial: str = ""
    warnings: Sequence[str] = ()
    left: Left | None = None


def rule(change: NamespaceChange, values: Values, settings: Settings) -> Ruling:
    """Judge a change: deny unknown values, and leaving enforcement if the settings forbid it.

    An unknown value that was there before is allowed to stay, so that other labels can be fixed.
    """
    wrong = list(_wrong(change))
    if wrong:
        return Ruling("; ".join(wrong))
    left = _left(change, values)
    if left and not settings.leave_enforcement.admits(change.user, change.groups):
        return Ruling(_denial(left, settings.leave_enforcement), left=left)
    return Ruling(warnings=list(_warnings(change, values, left)), left=left)


def nearest(label: str, value: str) -> str:
    """Return the known value that an unknown one probably means; empty if unclear."""
    known = next(values for key, _, values in _VALUES if key == label)
    return "" if value in known else mistakes.nearest(value, known)


def _wrong(change: NamespaceChange) -> Iterator[str]:
    """Yield what is wrong with the values that the change sets."""
    for label, what, known in _VALUES:
        value = change.after.get(label)
        if value is not None and value not in known and value != change.before.get(label):
            yield mistakes.unknown(what, value, f"metadata.labels[{label}]", known)


def _left(change: NamespaceChange, values: Values) -> Left | None:
    was, will_be = values.standing(change.before), values.standing(change.after)
    if was is None or was.mode != "enforce":
        return None
    stays = will_be is not None and will_be.mode == "enforce"
    # Replacing an unknown mesh with a known one is a fix, not a way to leave.
    if stays and will_be and was.mesh in ("unknown", will_be.mesh):
        return None
    return Left(was, will_be)


def _denial(left: Left, may: LeaveEnforcement) -> str:
    named = [*(f"group {name}" for name in may.groups), *(f"user {name}" for name in may.users)]
    return (
        f"the namespace would leave enforcement (mesh and mode now: {left.was}; after the "
        f"change: {left.will_be or left.to}); settings.leaveEnforcement allows this only for "
        f"{listed(named)}"
    )


def _warnings(change: NamespaceChange, values: Values, left: Left | None) -> Iterator[str]:
    if left and left.was.mesh != "unknown":
        yield (
            f"mendix-mesh: pods outside the {left.was.mesh} mesh are no longer denied; "
            f"the namespace is now {left.to}"
        )
    for label in sorted(change.after):
        if label.startswith(DOMAIN) and label not in _LABELS and label not in change.before:
            near = mistakes.nearest(label, _LABELS)
            hint = f"did you mean {near}?" if near else f"allowed: {', '.join(_LABELS)}"
            yield f"mendix-mesh does not read label {shortened(label, 36)}; {hint}"
    if MODE_LABEL in change.after and values.standing(change.after) is None:
        yield f"{MODE_LABEL} has no effect without {MESH_LABEL}; allowed: {', '.join(MESHES)}"
    if values.standing(change.after) == Standing("unknown", "enforce"):
        yield (
            f"no pod can start here because {MESH_LABEL} has an unknown value; "
            f"allowed: {', '.join(MESHES)}"
        )
