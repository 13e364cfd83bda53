"""Reviews of namespaces, as Flask and as the lane answer them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.admission.reviews import accepted, changed, namespace, review
from tests.unit.admission.test_hostile_bodies import JSON_VALUES, places, put_at
from tests.unit.logs import capture_logs
from tests.unit.serving.clients import Client, FlaskClient
from webhook.admission.app import create_app
from webhook.admission.metrics import Metrics
from webhook.admission.review import Reviewer
from webhook.policy.settings import LeaveEnforcement, Settings
from webhook.serving.health import Health

PATH, EXCLUDED = "/namespace/enforce", "/namespace/excluded"


@pytest.fixture
def restricted() -> FlaskClient:
    """A server whose settings allow only one group to leave enforcement."""
    may = LeaveEnforcement(groups=["platform"])
    reviewer = Reviewer(Settings(leave_enforcement=may), Metrics("test"))
    return FlaskClient(create_app(reviewer, Health()))


def test_a_namespace_may_be_enrolled(client: Client) -> None:
    for payload in (review(namespace(mesh="linkerd", mode="warn")),
                  changed(namespace(), namespace(mesh="linkerd"))):  # fmt: skip
        answer = client.review(PATH, payload)
        assert answer["allowed"]
        assert "warnings" not in answer
        assert answer["auditAnnotations"] == {"verdict": "admitted"}


def test_a_misspelled_mesh_is_denied(client: Client) -> None:
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
    payload = changed(namespace(mesh="linkerd"), namespace(mesh="linkerd", mode="warn"))
    with capture_logs() as logs:
        answer = client.review(PATH, payload)
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


def test_a_denied_exit_from_enforcement_names_who_is_allowed(restricted: FlaskClient) -> None:
    payload = changed(namespace(mesh="linkerd"), namespace())
    with capture_logs() as logs:
        answer = restricted.review(PATH, payload)
    assert answer["status"]["message"] == (
        "namespace shop: the namespace would leave enforcement (mesh and mode now: linkerd, "
        "enforce; after the change: not enrolled); settings.leaveEnforcement allows this only for "
        "group platform"
    )
    assert [entry["event"] for entry in logs] == ["denied leaving enforcement"]
    payload["request"]["userInfo"] = {"username": "carol", "groups": ["platform"]}
    assert restricted.review(PATH, payload)["allowed"]


def test_a_request_without_a_user_is_allowed_nothing(restricted: FlaskClient) -> None:
    for info in (None, {}, {"username": "x", "groups": None}):
        payload = changed(namespace(mesh="linkerd"), namespace(), userInfo=info)
        assert not restricted.review(PATH, payload)["allowed"]


def test_the_path_says_what_the_charts_values_do(client: Client) -> None:
    payload = changed(namespace(mesh="linkerd"), namespace())
    assert "left" in client.review(PATH, payload)["auditAnnotations"]
    assert "left" not in client.review("/namespace/warn", payload)["auditAnnotations"]
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
def test_an_unreadable_object_is_not_a_way_to_leave_enforcement(
    client: Client, broken: str
) -> None:
    for value in (None, 1, {"metadata": {"labels": [1]}}):
        payload = changed(namespace(mesh="linkerd"), namespace())
        payload["request"][broken] = value
        assert not client.review(PATH, payload)["allowed"]
        assert client.review(EXCLUDED, payload)["allowed"]


@given(data=st.data())
def test_any_json_anywhere_in_a_review_of_a_namespace_gets_an_answer(
    reviewer: Reviewer, flask: FlaskClient, data: st.DataObject
) -> None:
    paths = [path for path in sorted(reviewer.routes) if path.startswith("/namespace")]
    payload = changed(namespace(mesh="linkerd"), namespace(mesh="istio", mode="warn"))
    field = data.draw(st.sampled_from(sorted(places(payload), key=str)))
    put_at(payload, field, data.draw(JSON_VALUES))
    body = json.dumps(payload).encode()
    with capture_logs() as logs:
        reply = flask.send(data.draw(st.sampled_from(paths)), body)
    assert not [entry for entry in logs if entry["event"] == "review failed"]
    accepted(reply.body, json.loads(reply.body)["response"]["uid"], validating=True)
