"""Computes the layout of the picture, in units of the drawing.

There are three columns. The namespace is in the middle one.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from webhook.cluster.dashboard.picture import Edge, Group, Node, Scene, is_large
from webhook.cluster.dashboard.wires import How

_WIDTH = 1000
_LEFT, _MIDDLE, _RIGHT = 0, 290, 800
_SIDE, _CENTRE = 200, 420
_TOP, _GAP, _PAD, _HEAD = 34, 16, 12, 32
_NODE, _CHIP = 52, 44


class Box(NamedTuple):
    """A node or a group, with its position and size."""

    x: int
    y: int
    width: int
    height: int
    title: str
    node: Node | None

    @property
    def room(self) -> int:
        """Return how many letters fit into the box."""
        return (self.width - (50 if self.node and self.node.state else 22)) * 10 // 82


class Line(NamedTuple):
    """An edge, drawn as a curve with a marker on it and an arrowhead."""

    path: str
    tip: str
    x: float
    y: float
    edge: Edge


class Drawing(NamedTuple):
    """All shapes of a picture."""

    width: int
    height: int
    groups: list[Box]
    boxes: list[Box]
    lines: list[Line]
    #: The frame of the namespace.
    frame: Box


def draw(made: Scene) -> Drawing:
    """Return the layout of a scene."""
    groups: list[Box] = []
    boxes: list[Box] = []
    y = _TOP
    for group in [*made.apps, *filter(None, (made.platform, made.others))]:
        height = _group(group, y, boxes)
        groups.append(Box(_MIDDLE, y, _CENTRE, height, group.title, None))
        y += height + _GAP
    bottom = max(y, _TOP + 150)
    app_boxes = groups[: len(made.apps)]
    middle = _centre(app_boxes) if app_boxes else _TOP + 60
    if made.entrance:
        boxes.append(Box(_LEFT, round(middle) - 32, _SIDE, 64, "", made.entrance))
    boxes += _outside(made, groups, middle)
    bottom = max([bottom, *(box.y + box.height + 2 for box in boxes)])
    frame = Box(_MIDDLE - 14, 0, _CENTRE + 28, bottom, "", None)
    places = {box.node.id: box for box in boxes if box.node}
    holders = {
        node.id: box
        for group, box in zip(
            [*made.apps, *filter(None, (made.platform, made.others))], groups, strict=True
        )
        for node in group.nodes
    }
    lines = list(_lines(made, places, holders))
    return Drawing(_WIDTH, bottom, groups, boxes, lines, frame)


def _centre(boxes: Sequence[Box]) -> float:
    return (boxes[0].y + boxes[-1].y + boxes[-1].height) / 2


def _group(group: Group, top: int, boxes: list[Box]) -> int:
    """Place the nodes of a group: two per row, or three small tasks. Return the group's height."""
    inner = _CENTRE - 2 * _PAD
    tasks = [node for node in group.nodes if node.row and not is_large(node.row)]
    large = [node for node in group.nodes if node not in tasks]
    y = top + _HEAD
    for nodes, columns, height in ((large, 2, _NODE), (tasks, 3, _CHIP)):
        for start in range(0, len(nodes), columns):
            row = nodes[start : start + columns]
            across = columns if len(nodes) > 1 or nodes is tasks else 1
            width = (inner - (across - 1) * _PAD) // across
            for number, node in enumerate(row):
                x = _MIDDLE + _PAD + number * (width + _PAD)
                boxes.append(Box(x, y, width, height, "", node))
            y += height + _PAD
    return y - top


def _outside(made: Scene, groups: Sequence[Box], middle: float) -> list[Box]:
    """Place the nodes outside the namespace, beside the apps and beside Mendix's components."""
    found: list[Box] = []
    beside = {"stores": middle - 60, "registry": middle + 20}
    if made.platform:
        own = groups[len(made.apps)]
        beside |= {"api": own.y, "portal": own.y + _CHIP + 8}
    lowest = 0.0
    for node in made.outside:
        y = max(beside.get(node.id, 0.0), lowest, float(_TOP))
        found.append(Box(_RIGHT, round(y), _SIDE, _CHIP, "", node))
        lowest = y + _CHIP + 8
    return found


def _lines(made: Scene, places: Mapping[str, Box], holders: Mapping[str, Box]) -> "list[Line]":
    """Return one curve for all edges of a group with the same other end: the worst edge."""
    order: dict[How, int] = {"plaintext": 0, "mixed": 1, "unknown": 2, "mtls": 3, "leaves": 4}
    merged: dict[tuple[str, str], Edge] = {}
    ends: dict[tuple[str, str], tuple[Box, Box]] = {}
    for edge in made.edges:
        source = holders.get(edge.source.id) or places[edge.source.id]
        target = holders.get(edge.target.id) or places[edge.target.id]
        key = (f"{source.x}/{source.y}", f"{target.x}/{target.y}")
        if key not in merged or order[edge.how] < order[merged[key].how]:
            merged[key] = edge
            ends[key] = (source, target)
    return [_line(*ends[key], edge) for key, edge in merged.items()]


def _line(source: Box, target: Box, edge: Edge) -> Line:
    if source.x == target.x:
        # An edge between two apps runs around their left side.
        x, start, end = source.x, source.y + source.height / 2, target.y + target.height / 2
        path = f"M{x} {start:.0f} C{x - 40} {start:.0f} {x - 40} {end:.0f} {x} {end:.0f}"
        return Line(path, "", x - 30, (start + end) / 2, edge)
    x1, y1 = source.x + source.width, source.y + min(source.height / 2, 58)
    x2, y2 = target.x, target.y + min(target.height / 2, 58)
    bend = (x2 - x1) / 2
    path = f"M{x1} {y1:.0f} C{x1 + bend:.0f} {y1:.0f} {x2 - bend:.0f} {y2:.0f} {x2} {y2:.0f}"
    # Put the marker close to the end where the curves spread.
    t = 0.7
    s = 1 - t
    across = s**3 * x1 + 3 * s * s * t * (x1 + bend) + 3 * s * t * t * (x2 - bend) + t**3 * x2
    down = s * s * (s + 3 * t) * y1 + t * t * (t + 3 * s) * y2
    tip = f"m{x2} {y2:.0f}-8-4v8z"
    return Line(path, tip, round(across, 1), round(down, 1), edge)
