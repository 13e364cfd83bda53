"""The warnings when a namespace is labelled. tests/cluster/ uses a real API server."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.cluster.apiserver import HttpRequest, Reply, ScriptedServer
from tests.unit.cluster.world import Json, World, meshed, unmeshed
from webhook.cluster.auditor import labels
from webhook.cluster.auditor.labels import Labelling, blueprint
from webhook.cluster.judge import Judge
from webhook.policy.settings import Settings
from webhook.serving.pages import TRUSTED

MESH, MODE = "mendix-mesh.io/mesh", "mendix-mesh.io/mode"
PODS = "/api/v1/namespaces/mendix/pods"


def review(before: Json | None = None, after: Json | None = None, **request: Any) -> Json:
    """Return a review of a namespace whose labels change."""
    made = [
        {"metadata": {"name": "mendix", "labels": {"kubernetes.io/metadata.name": "mendix", **own}}}
        for own in (after if after is not None else {MESH: "linkerd"}, before or {})
    ]
    fields = {
        "uid": "u1",
        "operation": "UPDATE",
        "kind": {"group": "", "version": "v1", "kind": "Namespace"},
        "object": made[0],
        "oldObject": made[1],
        **request,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": fields}


@pytest.fixture
def world() -> World:
    made = World()
    made.install()
    made.namespace("mendix")
    return made


@pytest.fixture
def server(world: World, tmp_path: Path) -> Iterator[ScriptedServer]:
    with world.serving(tmp_path) as running:
        yield running


def warnings_for(
    server: ScriptedServer, body: Json, timeout: float = 10.0, *, believes: bool = True
) -> list[str]:
    """Return the warnings of the response."""
    labelling = Labelling(server.cluster, Judge(Settings()), believes=believes)
    return warnings_of(labelling.answer(json.dumps(body).encode(), timeout))


def warnings_of(answer: bytes) -> list[str]:
    read = json.loads(answer)
    assert (read["apiVersion"], read["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert read["response"]["allowed"] is True
    found: list[str] = read["response"].get("warnings", [])
    assert all(0 < len(text) < 120 and text.isprintable() for text in found)
    assert len(found) <= 10
    return found


def hosted() -> Json:
    made = unmeshed()
    made["spec"]["hostNetwork"] = True
    return made


def test_the_pods_that_lack_the_mesh_are_summed_up_by_what_is_wrong(
    world: World, server: ScriptedServer
) -> None:
    for number in range(3):
        world.pod("mendix", f"shop-{number}", unmeshed())
    world.pod("mendix", "debug", hosted())
    world.pod("mendix", "crm", meshed())
    assert warnings_for(server, review()) == [
        "4 of 5 pods in mendix are outside the linkerd mesh; mendix-mesh restart -n mendix",
        "shop-0 and 2 more: proxy-missing",
        "debug: host-network",
    ]


def test_if_all_are_in_the_mesh_there_is_no_finding(world: World, server: ScriptedServer) -> None:
    world.pod("mendix", "crm", meshed())
    assert warnings_for(server, review()) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {MESH: "linkerd", MODE: "audit"}),
        ({}, {MODE: "warn"}),
        ({MESH: "linkerd"}, {}),
        ({MESH: "linkerd", MODE: "enforce"}, {MESH: "linkerd", MODE: "warn"}),
        ({MESH: "linkerd"}, {MESH: "linkerd", MODE: "enforce"}),
        ({}, {MESH: "linkred"}),
    ],
)
def test_a_mode_that_is_not_raised_is_not_reviewed(
    world: World, server: ScriptedServer, before: Json, after: Json
) -> None:
    world.pod("mendix", "shop", unmeshed())
    assert warnings_for(server, review(before, after)) == []
    assert not [target for target in server.targets if target.startswith(PODS)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {MESH: "linkerd", MODE: "warn"}),
        ({MESH: "linkerd", MODE: "audit"}, {MESH: "linkerd", MODE: "warn"}),
        ({MESH: "linkerd", MODE: "warn"}, {MESH: "linkerd"}),
        ({MESH: "istio"}, {MESH: "linkerd"}),
    ],
)
def test_a_more_restrictive_mode_returns_warnings(
    world: World, server: ScriptedServer, before: Json, after: Json
) -> None:
    world.pod("mendix", "shop", unmeshed())
    assert len(warnings_for(server, review(before, after))) == 2


def test_a_new_namespace_without_an_old_one_is_looked_at(
    world: World, server: ScriptedServer
) -> None:
    world.pod("mendix", "shop", unmeshed())
    assert len(warnings_for(server, review(oldObject=None))) == 2
    assert warnings_for(server, review(object=None)) == []


def test_pods_that_have_ended_or_leave_do_not_count(world: World, server: ScriptedServer) -> None:
    world.pod("mendix", "done", unmeshed())["status"]["phase"] = "Succeeded"
    leaving = world.pod("mendix", "leaving", unmeshed())
    leaving["metadata"]["deletionTimestamp"] = "2026-03-02T00:00:00Z"
    assert warnings_for(server, review()) == []


def test_a_pod_that_cannot_be_read_counts(world: World, server: ScriptedServer) -> None:
    world.pod("mendix", "odd", unmeshed())["spec"]["hostNetwork"] = "yes"
    assert warnings_for(server, review())[1] == "odd: unreadable"


def test_only_so_many_kinds_are_listed(
    world: World, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "_MOST_KINDS", 3)
    for number in range(10):
        made = hosted()
        made["metadata"].setdefault("annotations", {})
        if number & 1:
            made["metadata"]["annotations"]["config.linkerd.io/skip-outbound-ports"] = "5432"
        if number & 2:
            made["metadata"]["annotations"]["linkerd.io/inject"] = "disabled"
        if number & 4:
            made["spec"]["securityContext"] = {"runAsUser": 2102}
        if number & 8:
            made["spec"]["containers"][0]["securityContext"] = {"privileged": True}
        world.pod("mendix", f"pod-{number}-{'x' * 200}", made)
    found = warnings_for(server, review())
    assert len(found) == 5
    assert "xx… and " in found[1]
    assert found[-1] == "and 3 more kinds; see mendix-mesh audit -n mendix"


def test_a_long_name_takes_a_line_of_its_own(world: World, server: ScriptedServer) -> None:
    name = "m" * 63
    world.namespace(name)
    world.pod(name, "shop", unmeshed())
    body = review()
    for which in ("object", "oldObject"):
        meta = body["request"][which]["metadata"]
        meta["name"] = meta["labels"]["kubernetes.io/metadata.name"] = name
    assert warnings_for(server, body)[:2] == [
        f"1 of 1 pods in {name} are outside the linkerd mesh",
        f"mendix-mesh restart -n {name}",
    ]


def test_only_so_many_pods_are_looked_at(
    world: World, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "MOST_PODS", 2)
    for number in range(3):
        world.pod("mendix", f"shop-{number}", unmeshed())
    found = warnings_for(server, review())
    assert found[0].startswith("2 of 2 pods in mendix are outside")
    assert found[-1] == "only 2 pods were judged in time; see mendix-mesh audit -n mendix"


def test_an_api_server_that_does_not_answer_in_time_is_not_waited_for(
    world: World, tmp_path: Path
) -> None:
    answered = threading.Event()

    class Slow(World):
        def answer(self, request: HttpRequest) -> Reply:
            if request.target.startswith(PODS):
                answered.wait(20)
            return super().answer(request)

    slow = Slow()
    slow.objects = world.objects
    with slow.serving(tmp_path) as server:
        try:
            begun = time.monotonic()
            found = warnings_for(server, review(), timeout=4.0)
            assert time.monotonic() - begun < 4.0
        finally:
            answered.set()
    assert found == ["only 0 pods were judged in time; see mendix-mesh audit -n mendix"]


def test_what_is_forbidden_is_reported(world: World, server: ScriptedServer) -> None:
    world.forbidden.append(PODS)
    (found,) = warnings_for(server, review())
    assert found.startswith("the pods of mendix could not be judged: User")


def test_a_fault_of_our_own_is_reported_without_its_text(
    world: World, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.pod("mendix", "shop", unmeshed())
    monkeypatch.setattr(Judge, "judge", lambda *_: 1 // 0)
    (found,) = warnings_for(server, review())
    assert "an error in mendix-mesh; see the auditor's log" in found
    assert "division" not in found


def test_so_many_at_once_are_looked_at_and_no_more(
    world: World, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "_AT_ONCE", 0)
    assert warnings_for(server, review()) == [
        "mendix-mesh is too busy to look; see mendix-mesh audit -n mendix"
    ]


def test_a_finished_request_makes_room_for_the_next(
    world: World, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "_AT_ONCE", 1)
    world.pod("mendix", "shop", unmeshed())
    one = Labelling(server.cluster, Judge(Settings()), believes=True)
    for _ in range(3):
        assert len(warnings_of(one.answer(json.dumps(review()).encode()))) == 2


@pytest.fixture
def client(server: ScriptedServer) -> FlaskClient:
    app = Flask("test")
    labelling = Labelling(server.cluster, Judge(Settings()), believes=True)
    app.register_blueprint(blueprint(labelling))
    return app.test_client()


# Callers without authentication.


def test_a_caller_who_is_not_believed_gets_numbers_and_no_names(
    world: World, server: ScriptedServer
) -> None:
    world.namespace("mendix", "linkerd", "audit")
    for number in range(3):
        world.pod("mendix", f"shop-{number}", unmeshed())
    world.pod("mendix", "debug", hosted())
    assert warnings_for(server, review(), believes=False) == [
        "4 of 4 pods in mendix are outside the linkerd mesh; mendix-mesh restart -n mendix",
        "3 pods: proxy-missing",
        "1 pod: host-network",
    ]


@pytest.mark.parametrize("exists", [True, False])
def test_a_caller_who_is_not_believed_gets_nothing_about_other_namespaces(
    world: World, server: ScriptedServer, exists: bool
) -> None:
    if exists:
        world.pod("mendix", "shop", unmeshed())
    else:
        del world.objects["/api/v1/namespaces/mendix"]
    # The caller claims that the namespace is enrolled.
    claimed = review({MESH: "linkerd", MODE: "audit"}, {MESH: "linkerd"})
    assert warnings_for(server, claimed, believes=False) == [
        "mendix-mesh audit -n mendix shows which pods are outside the mesh"
    ]
    assert not [target for target in server.targets if target.startswith(PODS)]


def test_a_caller_who_is_not_believed_gets_no_message_of_the_api_server(
    world: World, server: ScriptedServer
) -> None:
    world.namespace("mendix", "linkerd", "audit")
    world.forbidden.append(PODS)
    (found,) = warnings_for(server, review(), believes=False)
    assert "someone" not in found
    assert "see the auditor's log" in found


def test_without_its_certificate_a_caller_gets_no_answer(server: ScriptedServer) -> None:
    app = Flask("test")
    labelling = Labelling(server.cluster, Judge(Settings()), believes=True)
    app.register_blueprint(blueprint(labelling, authenticates=True))
    body = json.dumps(review())
    assert app.test_client().post("/labelled", data=body).status_code == 403
    trusted = {TRUSTED: True}
    answer = app.test_client().post("/labelled", data=body, environ_overrides=trusted)
    assert answer.status_code == 200


def test_it_is_posted_to_labelled(world: World, client: FlaskClient) -> None:
    world.pod("mendix", "shop", unmeshed())
    reply = client.post("/labelled?timeout=5s", json=review())
    assert reply.status_code == 200
    assert reply.content_type == "application/json"
    assert len(warnings_of(reply.data)) == 2
    assert client.post("/labelled", data=b"x" * (7 * 1024 * 1024 + 1)).status_code == 413


PLACES: list[tuple[str, ...]] = [
    (),
    ("request",),
    ("request", "uid"),
    ("request", "object"),
    ("request", "oldObject"),
    ("request", "object", "metadata"),
    ("request", "object", "metadata", "name"),
    ("request", "object", "metadata", "labels"),
]


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    at=st.sampled_from(PLACES),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
)
def test_any_json_gets_an_answer(client: FlaskClient, at: tuple[str, ...], value: object) -> None:
    body: Any = review()
    if at:
        *way, last = at
        holder = body
        for step in way:
            holder = holder[step]
        holder[last] = value
    else:
        body = value
    reply = client.post("/labelled", data=json.dumps(body).encode())
    assert reply.status_code == 200
    warnings_of(reply.data)
