"""Bodies that no API server would send: each gets an answer, and the next good review as well."""

import contextlib
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.admission.reviews import Json, accepted, controller, meshed, pod, review
from tests.unit.logs import capture_logs
from tests.unit.serving.clients import (
    JSON_HEADERS,
    Client,
    FlaskClient,
    ServerClient,
    request,
)
from webhook.admission.review import Reviewer
from webhook.serving.http import BODY_LIMIT

ENFORCE, WARN, AUDIT = (f"/validate/linkerd/{mode}" for mode in ("enforce", "warn", "audit"))
MUTATE = "/mutate/linkerd"
UID = "705ab4f5-6393-11e8-b7cc-42010a800002"
GOOD = json.dumps(review(meshed())).encode()
MARK = "<<here>>"


def assert_unanswerable(client: Client, body: bytes, uid: str = "") -> None:
    """Assert that an unreadable body admits nothing and breaks nothing."""
    denied = client.answer(ENFORCE, body, uid)
    assert not denied["allowed"]
    assert denied["status"]["message"].startswith("can't read the review: ")
    for path in (WARN, AUDIT):
        admitted = client.answer(path, body, uid)
        assert admitted["allowed"]
        assert admitted["warnings"][0].startswith("mendix-mesh: can't read the review: ")
    mutated = client.answer(MUTATE, body, uid)
    assert mutated["allowed"]
    assert "patch" not in mutated
    assert client.answer(ENFORCE, GOOD, UID)["allowed"]


def with_text(payload: Json, text: str) -> bytes:
    """Return a review with the raw text in place of its mark."""
    return json.dumps(payload).replace(json.dumps(MARK), text).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"{}",
        b"0",
        b'"AdmissionReview"',
        b"true",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"{",
        b'{"request":',
        GOOD[:-1],
        GOOD[: len(GOOD) // 2],
        GOOD + b"}",
        GOOD + GOOD,
        GOOD + b"\x00",
        b"\xef\xbb\xbf" + GOOD,
        GOOD.decode().encode("utf-16"),
        GOOD.decode().encode("utf-32"),
        gzip.compress(GOOD),
        b"\x00" * 1000,
        bytes(range(256)),
        b"apiVersion: admission.k8s.io/v1\nkind: AdmissionReview\n",
        b"k8s\x00\n\x15\n\x02v1",
        b"<AdmissionReview/>",
        GOOD.replace(b"{", b"{,", 1),
        GOOD.replace(b'"', b"'"),
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_invalid_reviews_are_rejected_if_they_must_be(client: Client, body: bytes) -> None:
    assert_unanswerable(client, body)


@pytest.mark.parametrize("uid", ["null", "1", "1e5", "{}", "[]", "true", '""'])
def test_a_uid_that_is_no_text_cannot_be_echoed(client: Client, uid: str) -> None:
    payload = review(pod())
    payload["request"]["uid"] = MARK
    assert_unanswerable(client, with_text(payload, uid))


WRONG_TYPES = ["0", "-1.5", '"text"', "[]", "{}", "true", "[null]", '{"a":null}']


@pytest.mark.parametrize("field", ["kind", "operation", "namespace", "name", "subResource"])
@pytest.mark.parametrize("text", WRONG_TYPES)
def test_a_wrong_type_in_the_request_breaks_nothing(client: Client, field: str, text: str) -> None:
    payload = review(pod())
    payload["request"][field] = MARK
    body = with_text(payload, text)
    for path in (ENFORCE, WARN, AUDIT, MUTATE):
        reply = client.send(path, body)
        assert reply.status == 200
        answer = json.loads(reply.body)["response"]
        accepted(reply.body, answer["uid"], validating=path != MUTATE)
        assert answer["uid"] in ("", UID)
        assert answer["allowed"] == (path != ENFORCE)


Place = tuple[str | int, ...]


def test_the_field_of_a_wrong_type_is_named(client: Client) -> None:
    payload = review(pod(hostNetwork="yes"))
    assert client.review(ENFORCE, payload)["status"]["message"] == (
        "can't read the review: Expected `bool | null`, got `str` - at `$.spec.hostNetwork`"
    )
    assert_unanswerable(client, json.dumps(payload).encode(), UID)


def test_a_wrong_type_in_an_update_of_a_template_breaks_nothing(client: Client) -> None:
    for broken in ("old", "obj"):
        objects = {"old": controller("Deployment"), "obj": controller("Deployment")}
        objects[broken]["spec"] = "none"
        payload = review(objects["obj"], operation="UPDATE", old=objects["old"])
        assert_unanswerable(client, json.dumps(payload).encode(), UID)


def test_a_fault_of_our_own_is_a_denial_without_secrets(
    flask: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("secret")

    for name in ("validate", "mutate"):
        monkeypatch.setattr(f"webhook.admission.review.{name}", fail)
    with capture_logs() as logs:
        denied = flask.review(ENFORCE, review(pod()))
        others = [flask.review(path, review(pod())) for path in (WARN, AUDIT, MUTATE)]
    assert denied["status"]["message"] == "an error in mendix-mesh; see its log"
    assert all(answer["allowed"] and "patch" not in answer for answer in others)
    failures = [entry for entry in logs if entry["event"] == "review failed"]
    assert [entry["uid"] for entry in failures] == [UID] * 4
    assert all(entry["exc_info"] for entry in failures)


NUMBERS = ["1e309", "-1e309", "9" * 400, "9" * 5000, "-" + "9" * 5000, "1e-400", "0.1", "1e2", "-0"]


@pytest.mark.parametrize("number", NUMBERS)
def test_huge_numbers_break_nothing(client: Client, number: str) -> None:
    for place in ("runAsUser", "of-tomorrow"):
        payload = review(pod(securityContext={place: MARK}))
        body = with_text(payload, number)
        assert not client.answer(ENFORCE, body, UID)["allowed"]
        client.answer(MUTATE, body, UID)


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity", "undefined", "01", "+1", "0x1F"])
def test_what_json_does_not_know_is_not_read(client: Client, bad: str) -> None:
    payload = review(pod(ofTomorrow=MARK))
    answer = client.answer(ENFORCE, with_text(payload, bad), "")
    assert not answer["allowed"]


@pytest.mark.parametrize(
    "text", [b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\x41"',
             b'"\x00"', b'"\n"']
)  # fmt: skip
@pytest.mark.parametrize("field", ["name", "nodeName"])
def test_text_that_is_no_unicode_breaks_nothing(client: Client, text: bytes, field: str) -> None:
    obj = pod(nodeName="n")
    (obj["spec"] if field == "nodeName" else obj["metadata"])[field] = MARK
    body = json.dumps(review(obj)).encode().replace(json.dumps(MARK).encode(), text)
    for path in (ENFORCE, WARN, AUDIT, MUTATE):
        reply = client.send(path, body)
        answer = json.loads(reply.body)["response"]
        accepted(reply.body, answer["uid"], validating=path != MUTATE)
        assert answer["allowed"] == (path != ENFORCE)
    assert client.answer(ENFORCE, GOOD, UID)["allowed"]


def test_the_last_of_duplicate_keys_counts_as_it_does_for_the_api_server(client: Client) -> None:
    body = json.dumps(review(meshed())).encode()
    twice = body.replace(b'"object": {', b'"object": {"spec": {"hostNetwork": true}, ', 1)
    assert client.answer(ENFORCE, twice, UID)["allowed"]
    twice = body.replace(b'"oldObject": null', b'"oldObject": null, "object": {"kind": "Pod"}', 1)
    assert not client.answer(ENFORCE, twice, UID)["allowed"]
    twice = body.replace(b'"dryRun"', b'"uid": "second", "dryRun"', 1)
    assert client.answer(ENFORCE, twice, "second")["allowed"]


DEPTHS = [10_000, 200_000]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("start", "end"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize(
    "place",
    ["envelope", "request", "options", "object", "metadata", "annotations", "spec", "containers"],
)
def test_no_nesting_is_too_deep(
    client: Client, place: str, start: str, end: str, depth: int
) -> None:
    payload = review(pod())
    obj = payload["request"]["object"]
    holder = {
        "envelope": payload,
        "request": payload["request"],
        "options": payload["request"]["options"],
        "object": obj,
        "metadata": obj["metadata"],
        "annotations": obj["metadata"].setdefault("annotations", {}),
        "spec": obj["spec"],
        "containers": obj["spec"]["containers"][0],
    }[place]
    holder["ofTomorrow"] = MARK
    body = with_text(payload, start * depth + "1" + end * depth)
    assert_unanswerable(client, body)


@pytest.mark.parametrize("kind", ["Deployment", "CronJob"])
def test_templates_nested_just_not_too_deep_are_compared(flask: FlaskClient, kind: str) -> None:
    """Somewhere between shallow and too deep, decoding still works and comparing does not."""
    old, new = controller(kind, pod(ofTomorrow=MARK)), controller(kind, pod(ofTomorrow=MARK))
    new["spec"]["paused"] = True
    new["metadata"]["name"] = "other"
    payload = review(new, operation="UPDATE", old=old)
    text = json.dumps(payload)
    for depth in range(100, 1100, 7):
        deep = "[" * depth + "%d" + "]" * depth
        first, mark, rest = text.partition(json.dumps(MARK))
        body = (first + deep % 1 + rest.replace(mark, deep % 2)).encode()
        with capture_logs() as logs:
            reply = flask.send(ENFORCE, body)
        assert reply.status == 200
        assert not [entry for entry in logs if entry["event"] == "review failed"], depth


def large(size: int) -> bytes:
    """Return a valid review of this many bytes."""
    payload = review(meshed())
    main = payload["request"]["object"]["spec"]["containers"][0]
    main["workingDir"] = ""
    missing = size - len(json.dumps(payload).encode())
    main["workingDir"] = "x" * missing
    body = json.dumps(payload).encode()
    assert len(body) == size
    return body


class TestSize:
    """7 MiB and not a byte more, however the length is declared."""

    @pytest.mark.parametrize("size", [BODY_LIMIT - 1, BODY_LIMIT])
    def test_a_body_up_to_the_limit_is_read(self, client: Client, size: int) -> None:
        assert client.answer(ENFORCE, large(size), UID)["allowed"]

    @pytest.mark.parametrize("size", [BODY_LIMIT + 1, 2 * BODY_LIMIT])
    def test_a_larger_one_is_denied(self, client: Client, size: int) -> None:
        for path in (ENFORCE, MUTATE):
            reply = client.send(path, large(size))
            assert reply.status == 413
            assert reply.body == b"413 Content Too Large: 7 MiB at most\n"

    @pytest.mark.parametrize(
        ("size", "status"), [(BODY_LIMIT - 1, 200), (BODY_LIMIT, 200), (BODY_LIMIT + 1, 413)]
    )
    def test_chunks_are_counted(self, server: ServerClient, size: int, status: int) -> None:
        with server.connect() as connection:
            connection.send(
                request(ENFORCE, headers={**JSON_HEADERS, "Transfer-Encoding": "chunked"})
            )
            body = large(size)
            for start in range(0, size, 100_000):
                chunk = body[start : start + 100_000]
                connection.send(b"%x\r\n" % len(chunk), chunk, b"\r\n")
            connection.send(b"0\r\n\r\n")
            reply = connection.reply()
            assert reply.status == status
            if status == 413:
                assert reply.headers["connection"] == "close"
                assert connection.ended()

    def test_it_is_rejected_before_it_is_sent(self, server: ServerClient) -> None:
        headers = {**JSON_HEADERS, "Content-Length": str(10 * BODY_LIMIT)}
        with server.connect() as connection:
            reply = connection.send(request(ENFORCE, headers=headers)).reply()
            assert reply.status == 413
            assert reply.headers["connection"] == "close"
            assert connection.ended()

    def test_a_client_that_keeps_sending_sees_why_it_is_rejected(
        self, server: ServerClient
    ) -> None:
        with server.connect() as connection:
            connection.send(request(ENFORCE, large(3 * BODY_LIMIT)))
            assert connection.reply().status == 413
            assert connection.ended()

    def test_a_client_that_waits_for_100_continue_is_rejected_at_once(
        self, server: ServerClient
    ) -> None:
        headers = {"Content-Length": str(BODY_LIMIT + 1), "Expect": "100-continue"}
        with server.connect() as connection:
            connection.send(request(ENFORCE, headers={**JSON_HEADERS, **headers}))
            assert connection.reply().status == 413

    def test_many_bodies_that_do_not_end_fill_no_memory(
        self, server: ServerClient, resident: Callable[[], int]
    ) -> None:
        """The chart gives the server 256 MiB."""
        before = resident()
        unfinished = request(ENFORCE, b"x" * BODY_LIMIT)[:-10]
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(server.connect()).send(unfinished)
            assert server.answer(ENFORCE, GOOD, UID)["allowed"]
            assert resident() - before < 100 * 1024
            assert server.answer(ENFORCE, large(BODY_LIMIT), UID)["allowed"], "there is room"
            assert resident() - before < 100 * 1024

    def test_endless_chunks_fill_no_memory(
        self, server: ServerClient, resident: Callable[[], int]
    ) -> None:
        before = resident()
        with server.connect() as connection:
            connection.send(
                request(ENFORCE, headers={**JSON_HEADERS, "Transfer-Encoding": "chunked"})
            )
            chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
            try:
                for _ in range(100):
                    connection.send(chunk)
            except OSError:
                pass
            else:
                assert connection.reply().status == 413
        assert resident() - before < 40 * 1024


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/yaml", "application/jsonx", "application/json2",
     "application/json, text/plain", "application/vnd.kubernetes.protobuf", "multipart/form-data",
     "application/x-www-form-urlencoded", "\xff"],
)  # fmt: skip
def test_another_content_type_is_not_read(client: Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    reply = client.send(ENFORCE, GOOD, headers=headers)
    assert reply.status == 415
    assert reply.body == (b"415 Unsupported Media Type: the API server sends application/json\n")


@pytest.mark.parametrize(
    "content_type", ["application/json", "APPLICATION/JSON", "application/json; charset=utf-8"]
)
def test_json_is_read_however_it_is_declared(client: Client, content_type: str) -> None:
    reply = client.send(ENFORCE, GOOD, headers={"Content-Type": content_type})
    assert accepted(reply.body, UID, validating=True)["allowed"]


# The costliest shapes of a pod: if one costs the square of its size, it takes minutes.
COSTLY: dict[str, Json] = {
    "containers": {"containers": [{}] * 1_500_000},
    "proxies": {"containers": [{"name": "linkerd-proxy"}] * 100_000},
    "inits": {"initContainers": [{"name": "linkerd-init"}] * 100_000},
    "names": {"containers": [{"name": f"c{i}"} for i in range(100_000)]},
    "environment": {
        "initContainers": [{"name": "linkerd-proxy", "env": [{"name": "LD_A"}] * 100_000}]
    },
    "arguments": {"initContainers": [{"name": "linkerd-init", "args": ["-p"] * 500_000}]},
    "ports": {"containers": [{"name": "c", "ports": [{"protocol": "UDP"}] * 100_000}]},
    "volumes": {"volumes": [{}] * 1_500_000},
}


@pytest.mark.parametrize("shape", COSTLY)
def test_no_object_stops_the_server(server: ServerClient, shape: str) -> None:
    body = json.dumps(review(pod(**COSTLY[shape])), separators=(",", ":")).encode()
    assert len(body) <= BODY_LIMIT
    for path in (ENFORCE, WARN, MUTATE):
        reply = server.send(path, body)
        accepted(reply.body, UID, validating=path != MUTATE)
        assert len(reply.body) < 16 * 1024


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class TestAnything:
    """Every route answers any body with an AdmissionReview, and without an error."""

    @given(body=st.binary() | st.text().map(str.encode), data=st.data())
    def test_any_bytes_get_an_answer(
        self, reviewer: Reviewer, flask: FlaskClient, body: bytes, data: st.DataObject
    ) -> None:
        path = data.draw(st.sampled_from(sorted(reviewer.routes)))
        with capture_logs() as logs:
            flask.answer(path, body)
        assert [entry["event"] for entry in logs] == ["unanswerable review"]

    @given(data=st.data())
    def test_any_json_anywhere_in_a_review_gets_an_answer(
        self, reviewer: Reviewer, flask: FlaskClient, data: st.DataObject
    ) -> None:
        path = data.draw(st.sampled_from(sorted(reviewer.routes)))
        payload = review(data.draw(st.sampled_from([pod(), meshed(), controller("CronJob")])))
        field = data.draw(st.sampled_from(sorted(places(payload), key=str)))
        put_at(payload, field, data.draw(JSON_VALUES))
        body = json.dumps(payload).encode()
        with capture_logs() as logs:
            reply = flask.send(path, body)
        assert not [entry for entry in logs if entry["event"] == "review failed"]
        uid = json.loads(reply.body)["response"]["uid"]
        accepted(reply.body, uid, validating="/mutate/" not in path)

    @settings(max_examples=150)
    @given(cut=st.integers(0, len(GOOD)), put=st.binary(max_size=3), data=st.data())
    def test_a_damaged_review_gets_an_answer(
        self, reviewer: Reviewer, flask: FlaskClient, cut: int, put: bytes, data: st.DataObject
    ) -> None:
        path = data.draw(st.sampled_from(sorted(reviewer.routes)))
        body = GOOD[:cut] + put + GOOD[cut + data.draw(st.integers(0, 3)) :]
        with capture_logs() as logs:
            reply = flask.send(path, body)
        assert not [entry for entry in logs if entry["event"] == "review failed"]
        uid = json.loads(reply.body)["response"]["uid"]
        accepted(reply.body, uid, validating="/mutate/" not in path)


def places(value: object, here: Place = ()) -> set[Place]:
    """Return the paths of everything in a document but the document itself."""
    found = {here} if here else set()
    if isinstance(value, dict):
        for key, inner in value.items():
            found |= places(inner, (*here, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found |= places(inner, (*here, index))
    return found


def put_at(document: Json, place: Place, value: object) -> None:
    """Put a value into a document. Missing parents are created."""
    *way, last = place
    holder: Any = document
    for step in way:
        if isinstance(holder, dict):
            holder.setdefault(step, {})
        holder = holder[step]
    holder[last] = value
