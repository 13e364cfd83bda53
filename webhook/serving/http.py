"""HTTP/1.1 requests and responses, and the WSGI call that makes a response."""

import http
import io
import sys
import urllib.parse
from collections.abc import Iterable
from typing import Any, NamedTuple
from wsgiref.types import StartResponse, WSGIApplication

import httptools

#: The size limit of a body in bytes. A review has an object and its old version, each at most 3 MiB
#: (the API server's limit), and an envelope.
BODY_LIMIT = 7 * 1024 * 1024
#: The bytes of a request outside its body: head, trailers, framing of chunks. The API server's
#: heads have one or two KiB.
SPARE_BYTES = 64 * 1024

_STATUS_LINES = {
    int(status): f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in http.HTTPStatus
}
CONTINUE = _STATUS_LINES[100] + b"\r\n"
JSON, TEXT = b"content-type: application/json\r\n", b"content-type: text/plain\r\n"


class Request:
    """One request: its head, and the parts of its body that have arrived."""

    __slots__ = ("body", "headers", "held", "keeps_body", "last", "method", "parts", "rejection",
                 "since", "size", "target", "url")  # fmt: skip

    def __init__(self, since: float) -> None:
        #: The argument of `Lag.too_late`.
        self.since = since
        self.url = self.method = b""
        #: The headers by lower-case name.
        self.headers: dict[bytes, bytes] = {}
        self.parts: list[bytes] = []
        #: The size of the body in bytes, whether its parts are kept or not.
        self.size = 0
        self.keeps_body = True
        #: The memory that it holds in bytes. A request without headers and body needs 700.
        self.held = 700
        #: The response, if the head of the request decides it.
        self.rejection: Response | None = None
        #: Whether this is the last request of the connection.
        self.last = False
        #: What the application found out from the head of the request.
        self.target: Any = None
        self.body = b""


class Response(NamedTuple):
    """A response without what the connection adds: date, length and the `Connection` header."""

    status: int
    #: Header lines, each with its line ending.
    fields: bytes
    body: bytes
    #: The length of a body that is not sent, for example in a response to HEAD.
    length: int | None = None


#: The bodies of error responses, by status. Only clients other than the API server see them.
REJECTIONS = {
    403: "403 Forbidden: reviews are for clients with a certificate of a name that is allowed\n",
    405: "405 Method Not Allowed\n",
    413: "413 Content Too Large: 7 MiB at most\n",
    415: "415 Unsupported Media Type: the API server sends application/json\n",
    503: "503 Service Unavailable: overloaded, so that an answer would come too late\n",
}


def rejection(status: int, fields: bytes = b"") -> Response:
    """Return the response that rejects a request with a status from `REJECTIONS`."""
    return Response(status, TEXT + fields, REJECTIONS[status].encode())


def bad(why: str) -> Response:
    """Return the response to something that is not a valid request (status 400)."""
    return Response(400, TEXT, why.encode())


def encode(response: Response, date: bytes, *, last: bool) -> bytes:
    """Return a response as bytes to send. `date` is a complete header line."""
    status, fields, body, length = response
    return b"%s%s%scontent-length: %d\r\n%s\r\n%s" % (
        _STATUS_LINES[status],
        date,
        fields,
        len(body) if length is None else length,
        b"connection: close\r\n" if last else b"",
        body,
    )


def split(url: bytes) -> tuple[bytes, bytes] | None:
    """Return the path and the query of a request's URL; None if it has no path."""
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError:
        return None
    return (parsed.path, parsed.query or b"") if parsed.path else None


#: Headers without the prefix HTTP_ in WSGI.
_PLAIN = (b"content-type", b"content-length")


def environ(
    request: Request, path: bytes, query: bytes, client: str, *, scheme: str
) -> dict[str, Any]:
    """Return the WSGI environment of a request (PEP 3333)."""
    made: dict[str, Any] = {
        "REQUEST_METHOD": request.method.decode(),
        "SCRIPT_NAME": "",
        "PATH_INFO": urllib.parse.unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        # Used only if the request has no Host header.
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "443" if scheme == "https" else "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": client,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        if name != b"transfer-encoding" and b"_" not in name:
            key = name.decode("latin-1").upper().replace("-", "_")
            made[key if name in _PLAIN else f"HTTP_{key}"] = value.decode("latin-1")
    return made


def call(app: WSGIApplication, given: dict[str, Any]) -> Response:
    """Return the response of a WSGI application. Raise whatever the application raises."""
    status, fields, length = 0, b"", None
    written: list[bytes] = []

    def start(line: str, headers: list[tuple[str, str]], _: Any = None, /) -> Any:
        nonlocal status, fields, length
        status = int(line.partition(" ")[0])
        fields = b""
        for name, value in headers:
            if name.lower() == "content-length":
                length = int(value)
            elif name.lower() not in ("connection", "date", "server"):
                fields += f"{name.lower()}: {value}\r\n".encode("latin-1")
        return written.append

    started: StartResponse = start
    chunks: Iterable[bytes] = app(given, started)
    try:
        body = b"".join([*written, *chunks])
    finally:
        if close := getattr(chunks, "close", None):
            close()
    return Response(status, fields, body, length if given["REQUEST_METHOD"] == "HEAD" else None)
