"""The overview: how many of Mendix's pods are in the mesh, and how certain this number is."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from webhook.cluster.audit import Audited, Report, together
from webhook.cluster.judge import STATES, State
from webhook.policy.plaintext import Accepts

#: The values by which rows are sorted and filtered: the states of pods, and of namespaces: pods
#: could not be read, not enrolled and so not scanned, left out because -n names others.
RowState = State | Literal["unread", "unlooked", "unselected"]
_ORDER: dict[str, int] = {
    "unread": 0, "unmeshed": 1, "partly": 2, "unlooked": 3, "unknown": 4, "exempt": 5, "meshed": 6,
    "unselected": 7,
}  # fmt: skip


class Line(NamedTuple):
    """The row of a namespace."""

    name: str
    mesh: str
    is_enrolled: bool
    #: Empty if it is not enrolled, or mendix-mesh is not installed.
    mode: str
    #: None if Mendix's namespaces are unknown.
    is_mendix: bool | None
    state: RowState
    coverage: int | None
    pods: dict[State, int]
    #: Whether plaintext is accepted; empty if that was not assessed.
    plaintext: Accepts | Literal[""]
    error: str

    @property
    def counted(self) -> int:
        """Return the number of its pods without exempt ones."""
        return sum(self.pods.values()) - self.pods.get("exempt", 0)

    @property
    def outside(self) -> int:
        """Return the number of its pods that are outside the mesh or only partly in it."""
        return self.pods.get("unmeshed", 0) + self.pods.get("partly", 0)


class Answer(NamedTuple):
    """The result for Mendix's namespaces, or for all if Mendix's are unknown.

    Without namespaces that are not selected.
    """

    of_mendix: bool
    pods: dict[State, int]
    #: Namespaces whose pods could not be read, and Mendix's namespaces that were not scanned.
    unread: list[str]
    unlooked: list[str]

    @property
    def counted(self) -> int:
        """Return the number of pods that count: all except exempt ones."""
        return sum(self.pods.values()) - self.pods["exempt"]

    @property
    def meshed(self) -> int:
        """Return how many of them are in the mesh."""
        return self.pods["meshed"]

    @property
    def state(self) -> State:
        """Return the overall state: meshed only if all pods are, and no namespace was left out."""
        if self.pods["unmeshed"]:
            return "unmeshed"
        if self.pods["partly"]:
            return "partly"
        if self.pods["unknown"] or self.unread or self.unlooked or not self.counted:
            return "unknown"
        return "meshed"


def lines(
    report: Report, mendix: Collection[str] | None, selected: Collection[str] = ()
) -> list[Line]:
    """Return a row for each scanned namespace, and for each of Mendix's that was not scanned.

    `selected` are the names that the user gave; without names, the enrolled ones are scanned.
    """
    found = [
        _line(one, None if mendix is None else one.name in mendix) for one in report.namespaces
    ]
    known = {one.name for one in report.namespaces}
    empty: dict[State, int] = dict.fromkeys(STATES, 0)
    found += [
        Line(
            name=name,
            mesh="",
            is_enrolled=False,
            mode="",
            is_mendix=True,
            state="unselected" if selected and name not in selected else "unlooked",
            coverage=None,
            pods=empty,
            plaintext="",
            error="",
        )
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
        is_enrolled=one.enrolled,
        mode=one.mode,
        is_mendix=is_mendix,
        state=state,
        coverage=one.coverage,
        pods=one.pods,
        plaintext=one.plaintext.accepts if one.plaintext else "",
        error=one.error,
    )


def _worst_first(one: Line) -> tuple[int, int, str]:
    coverage = 101 if one.coverage is None else one.coverage
    return _ORDER[one.state], coverage, one.name


def answer(found: Sequence[Line]) -> Answer:
    """Return the total of the rows: Mendix's namespaces if any are known, else all."""
    found = [one for one in found if one.state != "unselected"]
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
    """Return the rows that match all filters; an empty filter matches each row.

    `state` selects namespaces with pods in this state. `outside` means unmeshed or partly.
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
