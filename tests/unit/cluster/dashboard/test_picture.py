"""The picture of a namespace: its clients and connections."""

import pytest

from tests.unit.cluster.dashboard.reports import app, namespace, platform, row
from webhook.cluster.dashboard import picture
from webhook.cluster.dashboard.picture import Entry, Scene, scene
from webhook.cluster.dashboard.wires import Wire
from webhook.cluster.judge import State

MESHED = Entry(1, "meshed", ["ingress-nginx"])


def edges(made: Scene) -> dict[tuple[str, str], str]:
    return {
        (
            edge.source.row.name if edge.source.row else edge.source.id,
            edge.target.row.name if edge.target.row else edge.target.id,
        ): edge.how
        for edge in made.edges
    }


def test_an_environment_is_one_group_of_leader_workers_and_tasks() -> None:
    made = scene(namespace("mendix", *app(), *platform(), row("tool")), MESHED, None)
    assert [(group.title, len(group.nodes)) for group in made.apps] == [("shop", 5)]
    assert [node.title for node in made.apps[0].nodes] == [
        "app leader", "app worker", "build", "database", "file",
    ]  # fmt: skip
    assert made.platform is not None
    assert made.others is not None
    assert [node.row.name for node in made.others.nodes if node.row] == ["tool"]


def test_everyone_is_joined_to_whom_they_talk_to() -> None:
    made = scene(namespace("mendix", *app(), *platform()), MESHED, None)
    assert edges(made) == {
        ("entrance", "shop-master"): "unknown",
        ("entrance", "shop-worker"): "unknown",
        ("shop-master", "stores"): "leaves",
        ("shop-worker", "stores"): "leaves",
        ("shop-build", "registry"): "leaves",
        ("shop-database", "stores"): "leaves",
        ("shop-file", "stores"): "leaves",
        ("mendix-operator", "api"): "leaves",
        ("mendix-agent", "portal"): "leaves",
    }


@pytest.mark.parametrize(
    ("entry", "pods", "how", "words"),
    [
        ("meshed", {"meshed": 1}, "unknown", "traffic is not observed without Prometheus"),
        ("unmeshed", {"meshed": 1}, "plaintext", "the ingress controller is outside the mesh"),
        ("meshed", {"unmeshed": 1}, "plaintext", "shop-master is outside the mesh"),
        (
            "meshed",
            {"meshed": 1, "unmeshed": 1},
            "mixed",
            "shop-master is only partly in the mesh",
        ),
        (None, {"meshed": 1}, "unknown", "whether the ingress controller is in the mesh"),
        ("meshed", {"unknown": 1}, "unknown", "it is unknown whether shop-master is in the mesh"),
    ],
)
def test_without_traffic_both_ends_say_what_must_be(
    entry: State | None, pods: dict[str, int], how: str, words: str
) -> None:
    leader = row("shop-master", role="app leader", counts=pods)
    made = scene(namespace("mendix", leader), Entry(1, entry, []), None)
    assert made.edges[0].how == how
    assert words in made.edges[0].because


def wire(
    mutual: int = 0, plaintext: int = 0, unknown: int = 0, *, arrived: bool = True, **more: str
) -> Wire:
    given = {"source_namespace": "ingress-nginx", "source": "ingress-nginx-controller",
             "namespace": "mendix", "workload": "shop-master", **more}  # fmt: skip
    return Wire(**given, mutual=mutual, plaintext=plaintext, unknown=unknown, arrived=arrived)


@pytest.mark.parametrize(
    ("wires", "how"),
    [
        ([wire(mutual=9)], "mtls"),
        ([wire(plaintext=9)], "plaintext"),
        ([wire(mutual=9), wire(plaintext=1, source="", source_namespace="")], "mixed"),
        ([wire(mutual=9, unknown=1)], "unknown"),
        ([], "unknown"),
        ([wire(mutual=9, source_namespace="elsewhere")], "unknown"),
        ([wire(mutual=9), wire(plaintext=9, arrived=False)], "mtls"),
    ],
)
def test_what_was_seen_on_the_wire_counts_more(wires: list[Wire], how: str) -> None:
    leader = row("shop-master", role="app leader")
    made = scene(namespace("mendix", leader), MESHED, wires)
    assert made.edges[0].how == how


def test_apps_that_were_seen_to_talk_to_each_other_are_joined() -> None:
    rows = [row("shop-master", role="app leader"), row("crm-master", role="app leader")]
    seen = [wire(mutual=3, source_namespace="mendix", source="crm-master")]
    made = scene(namespace("mendix", *rows), MESHED, seen)
    assert edges(made)["crm-master", "shop-master"] == "mtls"


def test_the_worst_environments_are_drawn_and_the_rest_is_counted() -> None:
    rows = [row(f"e{n:03}-master", role="app leader") for n in range(40)]
    rows.append(row("zz-master", role="app leader", unmeshed=1))
    made = scene(namespace("mendix", *rows), MESHED, None)
    assert made.apps[0].title == "zz"
    assert len(made.apps) == picture.MOST_APPS
    assert made.left_out == 41 - picture.MOST_APPS


def test_if_no_app_runs_there_are_no_callers() -> None:
    made = scene(namespace("mendix", row("tool")), MESHED, None)
    assert (made.entrance, made.edges) == (None, [])
