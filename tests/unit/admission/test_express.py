"""The express lane answers as the lane does, whatever the way that a review takes."""

import json

import pytest

from tests.unit.admission.clients import JSON_HEADERS, Connection, Reply, ServerClient, request
from tests.unit.admission.reviews import Json, meshed, pod, review
from webhook.admission.lane import SMALL

PATHS = ("/validate/linkerd/enforce?timeout=5s", "/validate/linkerd/warn", "/mutate/linkerd")
#: Headers that make a request take the lane.
BY_LANE = {**JSON_HEADERS, "Content-Type": "application/json; charset=utf-8"}


def padded(obj: Json, size: int) -> bytes:
    """Return a review of an object, made larger by an annotation until it has a size in bytes."""
    obj["metadata"].setdefault("annotations", {})["x"] = ""
    missing = size - len(json.dumps(review(obj)).encode())
    obj["metadata"]["annotations"]["x"] = "x" * missing
    made = json.dumps(review(obj)).encode()
    assert len(made) == size
    return made


def ask(connection: Connection, path: str, body: bytes, *, express: bool) -> Reply:
    headers = JSON_HEADERS if express else BY_LANE
    return connection.send(request(path, body, headers=headers)).reply()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("obj", [pod(), meshed()], ids=["plain", "meshed"])
def test_both_ways_give_the_same_response(server: ServerClient, path: str, obj: Json) -> None:
    body = json.dumps(review(obj)).encode()
    with server.connect() as connection:
        replies = [ask(connection, path, body, express=way) for way in (True, False, True)]
    first = replies[0]
    assert first.status == 200
    for reply in replies[1:]:
        assert reply.body == first.body
        assert reply.headers.keys() == first.headers.keys()


@pytest.mark.parametrize("size", [SMALL - 1, SMALL, SMALL + 1])
def test_the_size_at_which_the_way_changes_is_not_seen(server: ServerClient, size: int) -> None:
    body = padded(meshed(), size)
    with server.connect() as connection:
        for _ in range(2):
            reply = ask(connection, PATHS[0], body, express=True)
            assert json.loads(reply.body)["response"]["allowed"]


def test_answers_come_in_the_order_of_their_requests_whichever_way_each_takes(
    server: ServerClient,
) -> None:
    ways = [True, False, False, True, True, False, True] * 5
    with server.connect() as connection:
        for i, express in enumerate(ways):
            body = json.dumps(review(pod(), uid=f"uid-{i}")).encode()
            headers = JSON_HEADERS if express else BY_LANE
            connection.send(request(PATHS[0], body, headers=headers))
        uids = [json.loads(connection.reply().body)["response"]["uid"] for _ in ways]
    assert uids == [f"uid-{i}" for i in range(len(ways))]


def test_a_client_that_asks_to_close_is_answered_and_closed(server: ServerClient) -> None:
    body = json.dumps(review(meshed())).encode()
    with server.connect() as connection:
        connection.send(request(PATHS[0], body, headers={**JSON_HEADERS, "Connection": "close"}))
        reply = connection.reply()
        assert json.loads(reply.body)["response"]["allowed"]
        assert reply.headers["connection"] == "close"
        assert connection.ended()


def test_a_body_in_two_parts_is_one_body(server: ServerClient) -> None:
    whole = request(PATHS[0], json.dumps(review(meshed())).encode())
    with server.connect() as connection:
        for cut in (len(whole) - 1, len(whole) // 2, 20):
            connection.send(whole[:cut])
            reply = connection.send(whole[cut:]).reply()
            assert json.loads(reply.body)["response"]["allowed"]
