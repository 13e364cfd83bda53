"""HTTP itself: paths, methods, framing, connections; no client can break or confuse the server."""

import contextlib
import json
import socket
import ssl
import time
import warnings
from collections.abc import Callable

import pytest

from tests.unit.admission.reviews import accepted, meshed, pod, review
from tests.unit.serving.clients import JSON_HEADERS, Client, ServerClient, request
from tests.unit.serving.loops import looping
from tests.unit.serving.server import Server
from webhook.serving.connection import Connection

ENFORCE = "/validate/linkerd/enforce"
MUTATE = "/mutate/linkerd"
UID = "705ab4f5-6393-11e8-b7cc-42010a800002"
GOOD = json.dumps(review(meshed())).encode()
LENGTH = f"Content-Length: {len(GOOD)}\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n" % len(GOOD) + GOOD + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("query", ["?timeout=5s", "?timeout=30s", "?", "?a=%ff&b=../../", "?/x"])
@pytest.mark.parametrize("path", [ENFORCE, f"{ENFORCE}/ingress", MUTATE, f"{MUTATE}/ingress"])
def test_a_query_changes_nothing(client: Client, path: str, query: str) -> None:
    assert client.answer(path + query, GOOD, UID)["allowed"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//",
        "/validate",
        "/validate/linkerd",
        "/validate/linkerd/",
        f"{ENFORCE}/",
        "/validate//linkerd/enforce",
        "/validate/linkerd//enforce",
        f"{ENFORCE}//ingress",
        f"{ENFORCE}/ingress/",
        f"{ENFORCE}/ingress/ingress",
        f"{ENFORCE}/egress",
        "/Validate/linkerd/enforce",
        "/validate/Linkerd/enforce",
        "/validate/linkerd/ENFORCE",
        "/validate/linkerd/deny",
        "/validate/kuma/enforce",
        "/validate/linkerd/enforce.json",
        "/validate/./linkerd/enforce",
        "/validate/linkerd/../linkerd/enforce",
        f"/x/..{ENFORCE}",
        f"{ENFORCE}/..",
        f"{ENFORCE}%00",
        f"{ENFORCE}%20",
        f"{ENFORCE}%0d%0aX-A:b",
        f"{ENFORCE};a=b",
        "/validate/linkerd%252fenforce",
        "/validate\\linkerd\\enforce",
        "/mutate",
        "/mutate/",
        "/mutate/linkerd/",
        "/mutate/linkerd/enforce",
        "/mutate/linkerd/ingress/",
        "/livez/",
        "/metrics/",
        "/static/../metrics",
        "/%ff%fe",
        "/%ed%a0%80",
        "/" + "a" * 10_000,
    ],
)
def test_no_other_path_is_served(client: Client, path: str) -> None:
    reply = client.send(path, GOOD)
    assert reply.status == 404
    assert reply.headers["content-type"].startswith("text/plain")
    assert reply.body == b"404 Not Found\n"


def test_slashes_at_the_start_count_as_one(client: Client) -> None:
    """Werkzeug gets it unchanged. There is no redirect, which the API server would not follow."""
    assert client.answer(f"//{ENFORCE}", GOOD, UID)["allowed"]
    assert client.get("//livez").status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", [ENFORCE, MUTATE])
def test_reviews_are_posted(client: Client, path: str, method: str) -> None:
    reply = client.send(path, method=method)
    assert reply.status == 405
    assert reply.headers["allow"] == "POST"
    assert reply.body == (b"" if method == "HEAD" else b"405 Method Not Allowed\n")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/version"])
def test_pages_are_got(client: Client, path: str) -> None:
    reply = client.send(path, GOOD)
    assert reply.status == 405
    assert set(reply.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert client.send(path, method="HEAD", headers={}).status == 200
    assert client.get(path).status == 200


def raw(
    fields: str = LENGTH,
    body: bytes = GOOD,
    *,
    line: str = f"POST {ENFORCE} HTTP/1.1",
    common: str = "Host: mendix-mesh\r\nContent-Type: application/json\r\n",
) -> bytes:
    """Return a request of any shape."""
    return f"{line}\r\n{common}{fields}\r\n".encode("latin-1") + body


REJECTED = {
    "negative length": raw("Content-Length: -1\r\n"),
    "length in words": raw("Content-Length: many\r\n"),
    "length with a sign": raw(f"Content-Length: +{len(GOOD)}\r\n"),
    "length in hexadecimal": raw("Content-Length: 0x10\r\n"),
    "length with a point": raw("Content-Length: 10.0\r\n"),
    "length with an underscore": raw("Content-Length: 1_0\r\n"),
    "empty length": raw("Content-Length: \r\n"),
    "length beyond 64 bits": raw(f"Content-Length: {'9' * 30}\r\n"),
    "list of lengths": raw(f"Content-Length: {len(GOOD)}, {len(GOOD)}\r\n"),
    "two equal lengths": raw(LENGTH + LENGTH),
    "two lengths": raw(f"{LENGTH}Content-Length: 0\r\n"),
    "length and chunks": raw(LENGTH + CHUNKED, CHUNKS),
    "chunks and length": raw(CHUNKED + LENGTH, CHUNKS),
    "chunked twice": raw(CHUNKED + CHUNKED, CHUNKS),
    "identity": raw("Transfer-Encoding: identity\r\n"),
    "chunked before the end": raw("Transfer-Encoding: chunked, gzip\r\n", CHUNKS),
    "nearly chunked": raw("Transfer-Encoding: xchunked\r\n", CHUNKS),
    "space before the colon": raw("Transfer-Encoding : chunked\r\n", CHUNKS),
    "folded line": raw("Transfer-Encoding:\r\n chunked\r\n", CHUNKS),
    "vertical tab": raw("Transfer-Encoding: \x0bchunked\r\n", CHUNKS),
    "negative chunk": raw(CHUNKED, b"-1\r\n"),
    "chunk with a prefix": raw(CHUNKED, b"0x5\r\nabcde\r\n0\r\n\r\n"),
    "chunk beyond 64 bits": raw(CHUNKED, b"f" * 17 + b"\r\n"),
    "chunk without an end": raw(CHUNKED, b"5\r\nabcdeXX0\r\n\r\n"),
    "chunks with line feeds": raw(CHUNKED, b"5\nabcde\n0\n\n"),
    "length in a trailer": raw(CHUNKED, CHUNKS[:-2] + LENGTH.encode() + b"\r\n"),
    "line feeds alone": raw().replace(b"\r\n", b"\n"),
    "carriage return alone": raw(f"X: a\rY: b\r\n{LENGTH}"),
    "null in a field": raw(f"X: a\x00b\r\n{LENGTH}"),
    "space in a name": raw(f"X y: a\r\n{LENGTH}"),
    "no colon": raw(f"Xy\r\n{LENGTH}"),
    "no name": raw(f": a\r\n{LENGTH}"),
    "first line folded": raw(common=" X: a\r\n"),
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another version": raw(line=f"POST {ENFORCE} HTTP/1.2"),
    "no version at all": raw(line=f"POST {ENFORCE} HTTP"),
    "version in lower case": raw(line=f"POST {ENFORCE} http/1.1"),
    "method in lower case": raw(line=f"post {ENFORCE} HTTP/1.1"),
    "unknown method": raw(line=f"REVIEW {ENFORCE} HTTP/1.1"),
    "proxy request": raw("", b"", line="CONNECT localhost:443 HTTP/1.1"),
    "URL without a path": raw(line="POST https://mendix-mesh HTTP/1.1"),
    "path without a slash": raw(line="POST validate/linkerd/enforce HTTP/1.1"),
    "path that is no ASCII": raw(line="POST /\xff HTTP/1.1"),
    "query that is no ASCII": raw(line=f"POST {ENFORCE}?\xff HTTP/1.1"),
    "space in the path": raw(line="POST /validate/linkerd/en force HTTP/1.1"),
    "tabs in the line": raw(line=f"POST\t{ENFORCE}\tHTTP/1.1"),
    "offer of WebSocket": raw(
        f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n{LENGTH}"
    ),
    "offer of HTTP/2": raw(f"Connection: Upgrade\r\nUpgrade: h2c\r\n{LENGTH}"),
    "another hello within": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" * 50,
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_is_no_plain_http_is_rejected_and_the_connection_ended(
    server: ServerClient, name: str
) -> None:
    """They include all that two servers in a row read differently (request smuggling)."""
    smuggled = request(ENFORCE, GOOD)
    with server.connect() as connection:
        reply = connection.send(REJECTED[name], smuggled).reply()
        assert reply.status == 400
        assert reply.headers["connection"] == "close"
        assert connection.ended(), "what followed was taken for a request"


ANSWERED = {
    "chunks": raw(CHUNKED, CHUNKS),
    "chunks in capitals": raw("TRANSFER-ENCODING: CHUNKED\r\n", CHUNKS),
    "chunks after a tab": raw("Transfer-Encoding:\tchunked\r\n", CHUNKS),
    "chunk extensions": raw(CHUNKED, CHUNKS.replace(b"\r\n", b";a=b\r\n", 1)),
    "trailers": raw(CHUNKED, CHUNKS[:-2] + b"X: y\r\n\r\n"),
    "no host": raw(common="Content-Type: application/json\r\n"),
    "two hosts": raw(f"Host: other\r\n{LENGTH}"),
    "invalid host": raw(common="Host: [::\r\nContent-Type: application/json\r\n"),
    "field that is no ASCII": raw(f"X: \xff\xfe\r\n{LENGTH}"),
    "whole URL": raw(line=f"POST https://mendix-mesh{ENFORCE} HTTP/1.1"),
    "empty lines before it": b"\r\n\r\n" + raw(),
    "unknown expectation": raw(f"Expect: 42\r\n{LENGTH}"),
    "fields of a proxy": raw(
        f"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: http\r\nScript-Name: /x\r\n{LENGTH}"
    ),
    "a token": raw(f"Authorization: Bearer {'x' * 4000}\r\n{LENGTH}"),
    "an old version": raw(line=f"POST {ENFORCE} HTTP/1.0"),
    "many fields": raw("".join(f"X-{i}: {i}\r\n" for i in range(1000)) + LENGTH),
}


@pytest.mark.parametrize("name", ANSWERED)
def test_unusual_but_clear_reviews_are_answered(server: ServerClient, name: str) -> None:
    with server.connect() as connection:
        reply = connection.send(ANSWERED[name]).reply()
        assert accepted(reply.body, UID, validating=True)["allowed"]


def test_leave_to_send_the_body_is_given(server: ServerClient) -> None:
    head, body = raw(f"Expect: 100-continue\r\n{LENGTH}", b""), GOOD
    with server.connect() as connection:
        assert connection.send(head).reply().status == 100
        assert connection.send(body).reply().status == 200


class TestConnections:
    """The API server keeps its connections, and uses them again and again."""

    def test_requests_in_a_row_are_answered_in_order(self, server: ServerClient) -> None:
        count = 200
        bodies = [json.dumps(review(pod(), uid=f"uid-{i}")).encode() for i in range(count)]
        with server.connect() as connection:
            connection.send(*(request(ENFORCE, body) for body in bodies))
            for i in range(count):
                accepted(connection.reply().body, f"uid-{i}", validating=True)

    def test_pages_and_reviews_in_a_row_are_answered_in_order(self, server: ServerClient) -> None:
        page, bad = request("/version", method="GET", headers={}), request("/nowhere", GOOD)
        with server.connect() as connection:
            connection.send(*[page, request(ENFORCE, GOOD), bad, request(MUTATE, b"")] * 20)
            for _ in range(20):
                assert b"version" in connection.reply().body
                assert accepted(connection.reply().body, UID, validating=True)["allowed"]
                assert connection.reply().status == 404
                assert accepted(connection.reply().body, "", validating=False)["allowed"]

    def test_a_request_may_come_byte_by_byte(self, server: ServerClient) -> None:
        with server.connect() as connection:
            for byte in request(ENFORCE, GOOD):
                connection.send(bytes((byte,)))
            assert accepted(connection.reply().body, UID, validating=True)["allowed"]

    def test_a_rejected_body_is_skipped_and_the_next_review_answered(
        self, server: ServerClient
    ) -> None:
        with server.connect() as connection:
            large = b"x" * 5_000_000
            for path, headers, status in (
                (ENFORCE, {"Content-Type": "text/plain"}, 415),
                ("/nowhere", JSON_HEADERS, 404),
                ("/livez", JSON_HEADERS, 405),
            ):
                assert (
                    connection.send(request(path, large, headers=headers)).reply().status == status
                )
                assert connection.send(request(ENFORCE, GOOD)).reply().status == 200

    def test_a_client_may_ask_to_close(self, server: ServerClient) -> None:
        with server.connect() as connection:
            headers = {**JSON_HEADERS, "Connection": "close"}
            reply = connection.send(request(ENFORCE, GOOD, headers=headers)).reply()
            assert reply.headers["connection"] == "close"
            assert connection.ended()

    @pytest.mark.parametrize("sent", [0, 1, 30, 200, 2_000, 9_000])
    @pytest.mark.parametrize("path", [ENFORCE, MUTATE, "/livez", "/nowhere"])
    def test_a_client_that_goes_away_does_no_harm(
        self, server: ServerClient, server_process: Server, path: str, sent: int
    ) -> None:
        before = len(server_process.text)
        for _ in range(3):
            with server.connect() as connection:
                connection.send(request(path, GOOD)[:sent])
        assert server.answer(ENFORCE, GOOD, UID)["allowed"]
        assert "unanswerable review" not in server_process.text[before:], "half a body was judged"

    def test_a_client_that_does_not_read_does_no_harm(self, server: ServerClient) -> None:
        with server.connect() as silent:
            silent.send(*[request(MUTATE, GOOD)] * 50)
            assert server.answer(ENFORCE, GOOD, UID)["allowed"]

    def test_only_http_1_is_negotiated(self, server: ServerClient) -> None:

        context = ssl.create_default_context(cadata=server.ca)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", server.port), 5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            assert tls.selected_alpn_protocol() == "http/1.1"

    @pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
    def test_old_tls_is_rejected(self, server: ServerClient, version: str) -> None:

        context = ssl.create_default_context(cadata=server.ca)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
        with (
            socket.create_connection(("127.0.0.1", server.port), 5) as plain,
            pytest.raises(ssl.SSLError),
        ):
            context.wrap_socket(plain, server_hostname="localhost")


START = f"POST {ENFORCE} HTTP/1.1\r\nContent-Type: application/json\r\n".encode()
ENDLESS = {
    "fields": (START, b"X: " + b"y" * 1000 + b"\r\n"),
    "one field": (START + b"X: ", b"y" * 1000),
    "path": (b"POST /", b"y" * 1000),
    "chunk extension": (START + CHUNKED.encode() + b"\r\n5;", b"y" * 1000),
    "trailers": (START + CHUNKED.encode() + b"\r\n0\r\n", b"X: " + b"y" * 1000 + b"\r\n"),
    "empty lines": (b"", b"\r\n" * 500),
}


class TestBounds:
    """The parts besides the body, and their time, are limited."""

    @pytest.mark.parametrize("name", ENDLESS)
    def test_endless_heads_fill_no_memory(
        self, server: ServerClient, resident: Callable[[], int], name: str
    ) -> None:
        start, part = ENDLESS[name]
        before = resident()
        with server.connect() as connection:
            try:
                connection.send(start)
                for _ in range(30):
                    connection.send(part * 1000)
            except OSError:
                pass  # the server has ended the connection
        assert resident() - before < 8 * 1024

    def test_too_large_a_head_is_rejected(self, server: ServerClient) -> None:
        with server.connect() as connection:
            reply = connection.send(START, b"X: " + b"y" * 100_000).reply()
            assert reply.status == 400
            assert reply.headers["connection"] == "close"
            assert connection.ended()

    def test_small_chunks_are_no_attack(self, server: ServerClient) -> None:
        chunks = b"".join(b"a\r\n" + GOOD[i : i + 10] + b"\r\n" for i in range(0, len(GOOD), 10))
        last = len(GOOD) % 10
        if last:
            chunks = chunks[: -(last + 5)] + b"%x\r\n" % last + GOOD[-last:] + b"\r\n"
        with server.connect() as connection:
            connection.send(raw(CHUNKED, chunks + b"0\r\n\r\n"))
            assert connection.reply().status == 200


@pytest.mark.parametrize(
    ("sent", "idle", "least"),
    [
        (b"POST", 60.0, 0.2),
        (b"POST / HTTP/1.1\r\nX: y\r\n", 60.0, 0.2),
        (b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nxyz", 60.0, 0.2),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", 60.0, 0.2),
        (b"", 2.0, 2.0),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyz", 2.0, 2.0),
    ],
    ids=["line", "head", "body", "chunk", "silent", "idle"],
)
def test_a_client_may_be_idle_but_not_slow(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, idle: float, least: float
) -> None:
    monkeypatch.setattr(Connection, "request_seconds", 0.2)
    monkeypatch.setattr(Connection, "handshake_seconds", idle)
    monkeypatch.setattr(Connection, "idle_seconds", idle)
    start = time.monotonic()
    with looping() as loop, loop.dial() as client:
        client.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            while client.recv(1 << 16):
                pass
        assert least <= time.monotonic() - start < least + 5
