"""A review gets the same answer however it is declared, cut, or mixed with others."""

import json

import pytest

from tests.unit.admission.reviews import Json, meshed, pod, review
from tests.unit.serving.clients import JSON_HEADERS, Connection, Reply, ServerClient, request

PATHS = ("/validate/linkerd/enforce?timeout=5s", "/validate/linkerd/warn", "/mutate/linkerd")
#: Another way to declare the same body.
OTHERWISE = {**JSON_HEADERS, "Content-Type": "application/json; charset=utf-8"}


def padded(obj: Json, size: int) -> bytes:
    """Return a review of an object, made larger by an annotation until it has a size in bytes."""
    obj["metadata"].setdefault("annotations", {})["x"] = ""
    missing = size - len(json.dumps(review(obj)).encode())
    obj["metadata"]["annotations"]["x"] = "x" * missing
    made = json.dumps(review(obj)).encode()
    assert len(made) == size
    return made


def ask(connection: Connection, path: str, body: bytes, *, plainly: bool) -> Reply:
    headers = JSON_HEADERS if plainly else OTHERWISE
    return connection.send(request(path, body, headers=headers)).reply()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("obj", [pod(), meshed()], ids=["plain", "meshed"])
def test_both_ways_give_the_same_response(server: ServerClient, path: str, obj: Json) -> None:
    body = json.dumps(review(obj)).encode()
    with server.connect() as connection:
        replies = [ask(connection, path, body, plainly=way) for way in (True, False, True)]
    first = replies[0]
    assert first.status == 200
    for reply in replies[1:]:
        assert reply.body == first.body
        assert reply.headers.keys() == first.headers.keys()


@pytest.mark.parametrize("size", [16383, 16384, 16385, 65537, 1 << 18])
def test_sizes_about_those_of_tls_records_and_reads_are_read(
    server: ServerClient, size: int
) -> None:
    body = padded(meshed(), size)
    with server.connect() as connection:
        for _ in range(2):
            reply = ask(connection, PATHS[0], body, plainly=True)
            assert json.loads(reply.body)["response"]["allowed"]


def test_answers_come_in_the_order_of_their_requests_whichever_way_each_takes(
    server: ServerClient,
) -> None:
    ways = [True, False, False, True, True, False, True] * 5
    with server.connect() as connection:
        for i, plainly in enumerate(ways):
            body = json.dumps(review(pod(), uid=f"uid-{i}")).encode()
            headers = JSON_HEADERS if plainly else OTHERWISE
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
