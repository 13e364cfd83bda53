"""The client of Prometheus, with servers that fail or are something else."""

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.unit.cluster.apiserver import HttpRequest, Reply, ScriptedServer, serving
from webhook.cluster.traffic import Prometheus, PrometheusError, look, prometheus

ONE = {"metric": {"a": "b"}, "value": [1.5, "2"]}


def vector(*series: object) -> dict[str, object]:
    return {"status": "success", "data": {"resultType": "vector", "result": list(series)}}


class Answers:
    """A server with a given answer."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.reply = Reply(200, vector(ONE))

    @property
    def url(self) -> str:
        return self.server.url


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    found: list[Answers] = []
    with serving(lambda _: found[0].reply, tmp_path) as server:
        found.append(Answers(server))
        yield found[0]


def error_of(url: str, **how: object) -> str:
    """The one line with which a query fails."""
    with pytest.raises(PrometheusError) as failed:
        Prometheus(url, **how).query("up")  # type: ignore[arg-type]
    text = str(failed.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


def test_a_query_is_posted_and_its_series_are_read(answers: Answers) -> None:
    assert Prometheus(f"{answers.url}/").query("up{a='b'}") == [({"a": "b"}, 2.0)]
    (request,) = answers.server.requests
    assert (request.method, request.target) == ("POST", "/api/v1/query")
    assert parse_qs(request.body.decode()) == {"query": ["up{a='b'}"], "timeout": ["10s"]}
    assert "Authorization" not in request.headers


def test_the_api_may_be_under_a_path(answers: Answers) -> None:
    Prometheus(f"{answers.url}/prometheus/").query("up")
    assert answers.server.targets == ["/prometheus/api/v1/query"]


def test_invalid_numbers_are_left_out(answers: Answers) -> None:
    odd = [{"metric": {}, "value": [1, value]} for value in ("NaN", "+Inf", "-Inf")]
    answers.reply = Reply(200, vector(*odd, ONE))
    assert len(Prometheus(answers.url).query("up")) == 1


def test_the_token_is_read_again_for_each_query(answers: Answers, tmp_path: Path) -> None:
    token = tmp_path / "token"
    client = Prometheus(answers.url, token_file=token)
    for text in ("first\n", "second\n"):
        token.write_text(text)
        client.query("up")
    sent = [request.headers["Authorization"] for request in answers.server.requests]
    assert sent == ["Bearer first", "Bearer second"]


def test_a_server_that_does_not_answer_is_reported() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert error_of(url) == f"{url} does not answer: [Errno 111] Connection refused"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(400, {"status": "error", "errorType": "bad_data", "error": "parse\nerror\x1b[0m"}),
         "can't answer: bad_data: parse"),
        (Reply(401, b"no"), "denies access: HTTP 401; give the file of a token that may query"),
        (Reply(403, b"no"), "denies access: HTTP 403; give the file of a token that may query"),
        (Reply(404, b"<html>"), "has no API of Prometheus: HTTP 404"),
        (Reply(302, b"", {"Location": "http://127.0.0.1:1/"}), "redirects: HTTP 302"),
        (Reply(422, {"status": "error", "errorType": "execution", "error": "too many samples"}),
         "can't answer: execution: too many samples"),
        (Reply(500, b"x" * 10_000), "can't answer: HTTP 500"),
        (Reply(503, {"status": "error", "errorType": "timeout", "error": "y" * 10_000}),
         "can't answer: timeout: yyy"),
        (Reply(200, b"<html>sign in"), "gives no answer of Prometheus' API"),
        (Reply(200, b"[" * 100_000), "gives no answer of Prometheus' API"),
        (Reply(200, {"status": "success"}), "can't answer: it does not say why"),
        (Reply(200, {"status": "success", "data": {"resultType": "matrix", "result": []}}),
         "gives no vector, but matrix"),
        (Reply(200, vector({"metric": {}, "value": [1, "many"]})), "gives no answer"),
        (Reply(200, vector({"metric": {"a": 1}, "value": [1, "1"]})), "gives no answer"),
        (Reply(200, vector(ONE), cut=20), "does not answer: "),
    ],
)  # fmt: skip
def test_a_bad_answer_is_one_line(answers: Answers, reply: Reply, words: str) -> None:
    answers.reply = reply
    assert error_of(answers.url).startswith(f"{answers.url} {words}")


def test_a_redirection_is_not_followed_and_gets_no_token(answers: Answers, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    answers.reply = Reply(307, b"", {"Location": f"{answers.url}/elsewhere"})
    error_of(answers.url, token_file=tmp_path / "token")
    assert answers.server.targets == ["/api/v1/query"]


def test_an_answer_that_is_too_large_is_left(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus, "_LARGEST", 1 << 20)
    answers.reply = Reply(200, vector(*[ONE] * 24_000))
    assert error_of(answers.url) == (
        f"{answers.url} answers with more than 1 MiB: ask for fewer namespaces"
    )


def test_an_answer_that_is_packed_is_not_unfolded(answers: Answers) -> None:
    answers.reply = Reply(200, b"\x1f\x8b", {"Content-Encoding": "gzip"})
    assert "gives no answer of Prometheus' API" in error_of(answers.url)
    assert answers.server.requests[0].headers["Accept-Encoding"] == "identity"


def test_an_answer_that_drips_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                try:
                    while True:
                        connection.sendall(b"1\r\n \r\n")
                        time.sleep(0.02)
                except OSError:
                    return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert error_of(url, timeout=2) == (
            f"{url} takes longer than 2 s: ask for fewer namespaces or a shorter time"
        )
        thread.join()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("prometheus:9090", "use http(s)://host"),
        ("ftp://prometheus", "use http(s)://host"),
        ("http://", "use http(s)://host"),
        ("http://[::1", "use http(s)://host"),
        ("https://me:secret@prometheus", "has a password in it"),
        ("https://prometheus/graph?g0=1", "ends in a query"),
        ("https://prometheus/#top", "ends in a query"),
    ],
)
def test_an_invalid_address_is_reported(url: str, words: str) -> None:
    with pytest.raises(PrometheusError) as failed:
        Prometheus(url)
    assert words in str(failed.value)
    assert "secret" not in str(failed.value)


def test_a_token_does_not_go_in_plaintext(tmp_path: Path) -> None:
    with pytest.raises(PrometheusError, match="give an https address"):
        Prometheus("http://prometheus.example.com", token_file=tmp_path / "token")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file or directory"),
        (b"\xff", "it is no text"),
        (b"", "holds no token"),
        (b"a\nb", "holds no token"),
    ],
)
def test_a_token_that_cannot_be_used_is_reported(
    answers: Answers, tmp_path: Path, content: bytes | None, words: str
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_bytes(content)
    assert words in error_of(answers.url, token_file=token)
    assert not answers.server.requests


def test_a_ca_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(PrometheusError, match="there is no file"):
        Prometheus("https://prometheus", ca_file=tmp_path / "ca.crt")


def test_if_prometheus_fails_midway_no_partial_result_is_reported(tmp_path: Path) -> None:
    request: list[HttpRequest] = []

    def script(one: HttpRequest) -> Reply:
        request.append(one)
        return Reply(200, vector()) if len(request) < 3 else Reply(503, b"")

    meshes: Mapping[str, str] = {"mendix": "linkerd"}
    with serving(script, tmp_path) as server:
        seen = look(Prometheus(server.url), meshes, window=60)
        assert seen.error == f"{server.url} can't answer: HTTP 503"
    assert (seen.namespaces, seen.notes) == ({}, [])
