"""Everything in the picture has its place."""

import itertools

import pytest

from tests.unit.cluster.dashboard.reports import app, namespace, platform, row
from webhook.cluster.dashboard.drawing import Box, draw
from webhook.cluster.dashboard.picture import Entry, scene

MESHED = Entry(1, "meshed", ["ingress-nginx"])


@pytest.mark.parametrize("apps", [0, 1, 3, 12])
def test_nothing_lies_on_anything_else_or_outside(apps: int) -> None:
    rows = [one for number in range(apps) for one in app(f"env{number}")]
    rows += [*platform(), *(row(f"tool{n}") for n in range(9))]
    drawing = draw(scene(namespace("mendix", *rows), MESHED, None))
    for box in (*drawing.boxes, *drawing.groups):
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= drawing.width
        assert box.y + box.height <= drawing.height
    for some in (drawing.boxes, drawing.groups):
        assert not any(overlap(a, b) for a, b in itertools.combinations(some, 2))


def overlap(a: Box, b: Box) -> bool:
    return (
        a.x < b.x + b.width and b.x < a.x + a.width
        and a.y < b.y + b.height and b.y < a.y + a.height
    )  # fmt: skip


def test_a_bundle_of_edges_shows_the_worst_of_them() -> None:
    rows = [
        row("shop-master", role="app leader"),
        row("shop-worker", role="app worker", unmeshed=1),
    ]
    drawing = draw(scene(namespace("mendix", *rows), MESHED, None))
    hows = [line.edge.how for line in drawing.lines]
    assert hows == ["plaintext", "leaves"]
