"""The first page: how many of Mendix's pods are in the mesh, and how sure that is."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from webhook.cluster.audit import Audited, Report, together
from webhook.cluster.judge import STATES, State

#: What rows are sorted by, and filtered by: the states of pods, and two of namespaces.
RowState = State | Literal["unread", "unlooked"]
_ORDER: dict[str, int] = {
    "unread": 0, "unmeshed": 1, "partly": 2, "unlooked": 3, "unknown": 4, "exempt": 5, "meshed": 6,
}  # fmt: skip


class Line(NamedTuple):
    """A namespace, as a row."""

    name: str
    mesh: str
    #: Empty where it is not enrolled.
    mode: str
    #: None where nobody knows which namespaces are Mendix's.
    is_mendix: bool | None
    state: RowState
    coverage: int | None
    pods: dict[State, int]
    error: str

    @property
    def counted(self) -> int:
        """Its pods, but for exempt ones."""
        return sum(self.pods.values()) - self.pods.get("exempt", 0)

    @property
    def outside(self) -> int:
        """How many of its pods are not, or not wholly, in the mesh."""
        return self.pods.get("unmeshed", 0) + self.pods.get("partly", 0)


class Answer(NamedTuple):
    """Does the promise hold? For Mendix's namespaces, or all where those are not known."""

    of_mendix: bool
    pods: dict[State, int]
    #: Namespaces whose pods could not be read; and Mendix's, at which nobody looked.
    unread: list[str]
    unlooked: list[str]

    @property
    def counted(self) -> int:
        """The pods that count: exempt ones don't."""
        return sum(self.pods.values()) - self.pods["exempt"]

    @property
    def meshed(self) -> int:
        """How many of them are in the mesh."""
        return self.pods["meshed"]

    @property
    def state(self) -> State:
        """Meshed where all are, and none was overlooked."""
        if self.pods["unmeshed"]:
            return "unmeshed"
        if self.pods["partly"]:
            return "partly"
        if self.pods["unknown"] or self.unread or self.unlooked or not self.counted:
            return "unknown"
        return "meshed"


def lines(report: Report, mendix: Collection[str] | None) -> list[Line]:
    """A row for each namespace that was looked at, and for each of Mendix's that was not."""
    found = [
        _line(one, None if mendix is None else one.name in mendix) for one in report.namespaces
    ]
    known = {one.name for one in report.namespaces}
    empty: dict[State, int] = dict.fromkeys(STATES, 0)
    found += [
        Line(name, "", "", True, "unlooked", None, empty, "")
        for name in mendix or ()
        if name not in known
    ]
    return sorted(found, key=_worst_first)


def _line(one: Audited, is_mendix: bool | None) -> Line:
    states = [state for state in STATES if one.pods.get(state)]
    state: RowState = "unread" if one.error else together(states)
    if not states and not one.error:
        state = "meshed" if one.enrolled else "unlooked"
    return Line(
        name=one.name,
        mesh=one.mesh,
        mode=one.mode,
        is_mendix=is_mendix,
        state=state,
        coverage=one.coverage,
        pods=one.pods,
        error=one.error,
    )


def _worst_first(one: Line) -> tuple[int, int, str]:
    coverage = 101 if one.coverage is None else one.coverage
    return _ORDER[one.state], coverage, one.name


def answer(found: Sequence[Line]) -> Answer:
    """What the rows say together, of Mendix's namespaces where any is known."""
    ours = [one for one in found if one.is_mendix]
    pods: Counter[State] = Counter()
    for one in ours or found:
        pods.update(one.pods)
    return Answer(
        of_mendix=bool(ours),
        pods={state: pods[state] for state in STATES},
        unread=[one.name for one in ours or found if one.state == "unread"],
        unlooked=[one.name for one in ours if one.state == "unlooked" and not one.counted],
    )


def matching(found: Sequence[Line], text: str, mesh: str, state: str, kind: str) -> list[Line]:
    """The rows that a reader asks for; what is empty asks for nothing.

    `state` asks for namespaces that have pods in it; `outside` stands for unmeshed and partly.
    """
    return [
        one
        for one in found
        if text.lower() in one.name
        and mesh in ("", one.mesh)
        and _in_state(one, state)
        and kind in ("", "mendix" if one.is_mendix else "other")
    ]


def _in_state(one: Line, state: str) -> bool:
    if state == "outside":
        return bool(one.outside)
    return state in ("", one.state) or any(
        number and name == state for name, number in one.pods.items()
    )
