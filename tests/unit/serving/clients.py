"""Two clients for the same requests: Flask's test client, and a raw TLS client of the server."""

import abc
import contextlib
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote

from flask import Flask

from tests.unit.admission.reviews import Json, accepted

JSON_HEADERS: Mapping[str, str] = {"Content-Type": "application/json"}
#: The maximum seconds of each wait for an answer.
PATIENCE = 30.0


@dataclass(frozen=True)
class Reply:
    """An HTTP response; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client(abc.ABC):
    """A client of the admission server, with or without a network."""

    @abc.abstractmethod
    def send(
        self,
        path: str,
        body: bytes = b"",
        *,
        method: str = "POST",
        headers: Mapping[str, str] = JSON_HEADERS,
    ) -> Reply:
        """Send one request on its own connection. Content-Length is added."""

    def get(self, path: str) -> Reply:
        """Get a page."""
        return self.send(path, method="GET", headers={})

    def review(self, path: str, review: Json) -> Json:
        """Return the response to a review, which the API server must accept."""
        return self.answer(path, json.dumps(review).encode(), review["request"]["uid"])

    def answer(self, path: str, body: bytes, uid: str = "") -> Json:
        """Return the response to any body, which must be an answer to a request of this uid."""
        reply = self.send(path, body)
        assert reply.status == 200, reply
        assert reply.headers["content-type"] == "application/json"
        return accepted(reply.body, uid, validating="/mutate/" not in path)


class FlaskClient(Client):
    """Flask's own test client: no socket, no lane."""

    def __init__(self, app: Flask) -> None:
        self._client = app.test_client()

    def send(
        self,
        path: str,
        body: bytes = b"",
        *,
        method: str = "POST",
        headers: Mapping[str, str] = JSON_HEADERS,
    ) -> Reply:
        path, _, query = path.partition("?")
        # The path goes in as a server would put it there: the client itself would tidy it.
        place = {"PATH_INFO": unquote(path).encode().decode("latin-1")}
        with self._client.open(
            "/",
            method=method,
            query_string=query,
            data=body,
            headers=dict(headers),
            environ_overrides=place,
        ) as answer:
            found = {name.lower(): value for name, value in answer.headers}
            return Reply(answer.status_code, found, answer.data)


class ServerClient(Client):
    """A client of a server that runs: one new connection a request."""

    def __init__(self, port: int, ca: str) -> None:
        self.port = port
        self.ca = ca
        self.context = ssl.create_default_context(cadata=ca)

    def send(
        self,
        path: str,
        body: bytes = b"",
        *,
        method: str = "POST",
        headers: Mapping[str, str] = JSON_HEADERS,
    ) -> Reply:
        with self.connect() as connection:
            connection.send(request(path, body, method=method, headers=headers))
            return connection.reply(head=method == "HEAD")

    @contextlib.contextmanager
    def connect(self) -> Iterator["Connection"]:
        """Open a connection; it is closed at the end, by whichever side."""
        with (
            socket.create_connection(("127.0.0.1", self.port), PATIENCE) as plain,
            self.context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            yield Connection(tls)


class Connection:
    """A TLS connection on which anything can be sent."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self._socket = tls
        self._buffer = b""

    def send(self, *parts: bytes) -> Self:
        """Send bytes as they are."""
        self._socket.sendall(b"".join(parts))
        return self

    def reply(self, *, head: bool = False) -> Reply:
        """Read one response; one to HEAD has no body."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        top, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status_line, *lines = top.decode("latin-1").split("\r\n")
        version, status, _ = status_line.split(" ", 2)
        assert version == "HTTP/1.1"
        pairs = (line.split(": ", 1) for line in lines)
        headers = {name.lower(): value for name, value in pairs}
        length = 0 if head or int(status) < 200 else int(headers["content-length"])
        while len(self._buffer) < length:
            self._more()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Reply(int(status), headers, body)

    def ended(self) -> bool:
        """Wait until the server closes the connection. Return False if it sends more instead."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            return not self._buffer and not self._socket.recv(1)
        return True

    def expiry(self) -> int:
        """When the server's certificate expires, in seconds since 1970."""
        shown = self._socket.getpeercert()
        assert shown
        return ssl.cert_time_to_seconds(str(shown["notAfter"]))

    def serial(self) -> str:
        """The serial number of the server's certificate, in hex."""
        shown = self._socket.getpeercert()
        assert shown
        return str(shown["serialNumber"])

    def _more(self) -> None:
        data = self._socket.recv(1 << 16)
        if not data:
            raise ConnectionError(f"the connection ended within a response: {self._buffer!r}")
        self._buffer += data


def request(
    path: str,
    body: bytes = b"",
    *,
    method: str = "POST",
    headers: Mapping[str, Any] = JSON_HEADERS,
) -> bytes:
    """Return a request in HTTP/1.1, with the length of its body unless `headers` have it."""
    names = {name.lower() for name in headers}
    fields = {"Host": "mendix-mesh.mendix-mesh.svc", **headers}
    if not names & {"content-length", "transfer-encoding"} and (body or method == "POST"):
        fields["Content-Length"] = str(len(body))
    top = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{top}\r\n".encode("latin-1") + body
