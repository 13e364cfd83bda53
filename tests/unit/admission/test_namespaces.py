"""Reviews of namespaces, as Flask and as the lane answer them."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.admission.clients import Client, FlaskClient
from tests.unit.admission.reviews import accepted, changed, namespace, review
from tests.unit.admission.test_hostile_bodies import JSON_VALUES, places, put_at
from tests.unit.logs import capture_logs
from webhook.admission.app import create_app
from webhook.admission.metrics import Metrics
from webhook.admission.review import Reviewer
from webhook.policy.settings import LeaveEnforcement, Settings
from webhook.serving.health import Health

PATH, EXCLUDED = "/namespace/enforce", "/namespace/excluded"


@pytest.fixture
def restricted() -> FlaskClient:
    """A server by whose settings only one group may leave enforcement."""
    may = LeaveEnforcement(groups=["platform"])
    reviewer = Reviewer(Settings(leave_enforcement=may), Metrics("test"))
    return FlaskClient(create_app(reviewer, Health()))


def test_a_namespace_may_be_enrolled(client: Client) -> None:
    for asked in (review(namespace(mesh="linkerd", mode="warn")),
                  changed(namespace(), namespace(mesh="linkerd"))):  # fmt: skip
        answer = client.review(PATH, asked)
        assert answer["allowed"]
        assert "warnings" not in answer
        assert answer["auditAnnotations"] == {"verdict": "admitted"}


def test_a_misspelt_mesh_is_refused(client: Client) -> None:
    answer = client.review(PATH, review(namespace(mesh="linkred")))
    assert not answer["allowed"]
    assert answer["status"]["message"] == (
        "namespace shop: unknown mesh `linkred` - at `metadata.labels[mendix-mesh.io/mesh]`; "
        "did you mean `linkerd`? Allowed: ambient, istio, linkerd"
    )
    assert answer["auditAnnotations"] == {"verdict": "denied"}


def test_leaving_enforcement_is_in_the_audit_log_our_log_and_the_metrics() -> None:
    metrics = Metrics("test")
    client = FlaskClient(create_app(Reviewer(Settings(), metrics), Health()))
    asked = changed(namespace(mesh="linkerd"), namespace(mesh="linkerd", mode="warn"))
    with capture_logs() as logs:
        answer = client.review(PATH, asked)
    assert answer["allowed"]
    assert answer["auditAnnotations"] == {
        "verdict": "warned",
        "left": "linkerd, enforce",
        "for": "linkerd, warn",
    }
    (entry,) = logs
    assert entry == {
        "event": "left enforcement",
        "log_level": "warning",
        "uid": answer["uid"],
        "namespace": "shop",
        "user": "system:serviceaccount:kube-system:replicaset-controller",
        "was": "linkerd, enforce",
        "will_be": "linkerd, warn",
        "dry_run": False,
    }
    counted = 'mendix_mesh_enforcement_left_total{mesh="linkerd",to="warn"} 1.0'
    assert counted in metrics.expose().decode()
    client.review(PATH, changed(namespace(mesh="linkerd"), namespace(), dryRun=True))
    assert 'to="none"' not in metrics.expose().decode()
    client.review(PATH, changed(namespace(mesh="linkerd"), namespace()))
    client.review(PATH, changed(namespace(mesh="linkerd"), namespace(mesh="istio")))
    assert 'left_total{mesh="linkerd",to="none"} 1.0' in metrics.expose().decode()
    assert 'left_total{mesh="linkerd",to="istio"} 1.0' in metrics.expose().decode()


def test_who_may_not_leave_enforcement_is_told_who_may(restricted: FlaskClient) -> None:
    asked = changed(namespace(mesh="linkerd"), namespace())
    with capture_logs() as logs:
        answer = restricted.review(PATH, asked)
    assert answer["status"]["message"] == (
        "namespace shop: the namespace would leave enforcement (mesh and mode now: linkerd, "
        "enforce; after the change: not enrolled); settings.leaveEnforcement allows this only for "
        "group platform"
    )
    assert [entry["event"] for entry in logs] == ["refused to let a namespace leave enforcement"]
    asked["request"]["userInfo"] = {"username": "carol", "groups": ["platform"]}
    assert restricted.review(PATH, asked)["allowed"]


def test_who_asks_without_saying_who_may_nothing(restricted: FlaskClient) -> None:
    for info in (None, {}, {"username": "x", "groups": None}):
        asked = changed(namespace(mesh="linkerd"), namespace(), userInfo=info)
        assert not restricted.review(PATH, asked)["allowed"]


def test_the_path_says_what_the_charts_values_do(client: Client) -> None:
    asked = changed(namespace(mesh="linkerd"), namespace())
    assert "left" in client.review(PATH, asked)["auditAnnotations"]
    assert "left" not in client.review("/namespace/warn", asked)["auditAnnotations"]
    by_name = client.review("/namespace/warn/linkerd/enforce", review(namespace(mode="audit")))
    assert by_name["auditAnnotations"]["left"] == "linkerd, enforce"


def test_labels_of_a_namespace_that_is_never_reviewed_are_warned_of(client: Client) -> None:
    answer = client.review(EXCLUDED, review(namespace(mesh="nonsense")))
    assert answer["allowed"]
    assert answer["warnings"] == [
        "mendix-mesh never reviews this namespace: its mendix-mesh.io labels have no effect"
    ]
    removed = client.review(EXCLUDED, changed(namespace(mesh="linkerd"), namespace()))
    assert "warnings" not in removed


def test_nothing_else_is_judged_there(client: Client) -> None:
    other = namespace(mesh="nonsense") | {"kind": "ConfigMap"}
    assert client.review(PATH, review(other))["allowed"]
    assert client.review(PATH, review(None, operation="DELETE", old=namespace(mesh="linkerd")))[
        "allowed"
    ]


@pytest.mark.parametrize("broken", ["object", "oldObject"])
def test_what_can_not_be_read_is_no_way_out_of_enforcement(client: Client, broken: str) -> None:
    for value in (None, 1, {"metadata": {"labels": [1]}}):
        asked = changed(namespace(mesh="linkerd"), namespace())
        asked["request"][broken] = value
        assert not client.review(PATH, asked)["allowed"]
        assert client.review(EXCLUDED, asked)["allowed"]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_json_anywhere_in_a_review_of_a_namespace_gets_an_answer(
    reviewer: Reviewer, flask: FlaskClient, data: st.DataObject
) -> None:
    paths = [path for path in sorted(reviewer.routes) if path.startswith("/namespace")]
    asked = changed(namespace(mesh="linkerd"), namespace(mesh="istio", mode="warn"))
    field = data.draw(st.sampled_from(sorted(places(asked), key=str)))
    put_at(asked, field, data.draw(JSON_VALUES))
    body = json.dumps(asked).encode()
    with capture_logs() as logs:
        reply = flask.send(data.draw(st.sampled_from(paths)), body)
    assert not [entry for entry in logs if entry["event"] == "review failed"]
    accepted(reply.body, json.loads(reply.body)["response"]["uid"], validating=True)
