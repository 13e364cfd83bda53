"""A client for Prometheus' HTTP API, limited to instant queries.

It works with each server that has this API (Thanos, Mimir, VictoriaMetrics), under any path. The
response is not trusted: its size and time are limited, and errors become one line.
"""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec
import urllib3
from urllib3.util import parse_url

from webhook.cluster.api.errors import failure
from webhook.policy.words import printable
from webhook.version import VERSION

#: Seconds in which the server must accept the connection.
_CONNECT = 5.0
#: The maximum size of a response in bytes. This is enough for a few hundred thousand series.
_LARGEST = 32 * 1024 * 1024
_PIECE = 64 * 1024
#: The maximum number of characters that are shown of a server's error text.
_WORDS = 300
#: Hosts to which a token may be sent without TLS, for example through a forwarded port.
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class PrometheusError(Exception):
    """Raised if a query fails. The text is one line: which server, why, and how to fix it."""


class Sample(NamedTuple):
    """One series in a response."""

    labels: dict[str, str]
    value: float


def whole(value: float) -> int:
    """Return a count as an integer. Prometheus returns fractions; a small one becomes 1, not 0."""
    return max(1, round(value)) if value > 0.01 else 0


class _Series(msgspec.Struct):
    #: The time, and the number as a string, because JSON has no NaN or +Inf.
    value: tuple[float, str]
    metric: dict[str, str] = {}


class _Data(msgspec.Struct, rename="camel"):
    result_type: str
    result: msgspec.Raw


class _Answer(msgspec.Struct, rename="camel"):
    status: str = ""
    data: _Data | None = None
    error_type: str = ""
    error: str = ""


_answers = msgspec.json.Decoder(_Answer)
_vectors = msgspec.json.Decoder(list[_Series])


class Prometheus:
    """A Prometheus server. Raise `PrometheusError`, also for an invalid address.

    The token file is read again for each query, because a projected token is replaced every hour.
    """

    def __init__(
        self,
        url: str,
        *,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        timeout: float = 10.0,
    ) -> None:
        parsed = _parsed(url, secret=token_file is not None)
        #: The address without query and fragment.
        self.url = f"{parsed.scheme}://{parsed.netloc}{(parsed.path or '').rstrip('/')}"
        self._token_file = token_file
        self._timeout = timeout
        if ca_file and not ca_file.is_file():
            raise PrometheusError(f"can't read the CA of Prometheus: there is no file {ca_file}")
        self._pool = urllib3.PoolManager(
            ca_certs=str(ca_file) if ca_file else None, retries=False, maxsize=1
        )

    def query(self, promql: str) -> list[Sample]:
        """Return the instant vector of a query, without values that are not finite."""
        body = self._body(promql)
        try:
            answer = _answers.decode(body)
            if answer.status != "success" or answer.data is None:
                raise PrometheusError(f"{self.url} can't answer: {_words(answer, '')}")
            if answer.data.result_type != "vector":
                raise PrometheusError(f"{self.url} gives no vector, but {answer.data.result_type}")
            series = _vectors.decode(answer.data.result)
            return list(_finite(series))
        except (msgspec.MsgspecError, ValueError) as error:
            raise PrometheusError(
                f"{self.url} gives no answer of Prometheus' API: {printable(str(error))[:_WORDS]}; "
                "is the address the one of its start page?"
            ) from None

    def _body(self, promql: str) -> bytes:
        until = time.monotonic() + self._timeout
        try:
            reply = self._pool.request(
                "POST",
                f"{self.url}/api/v1/query",
                body=urlencode({"query": promql, "timeout": f"{self._timeout:g}s"}),
                headers=self._headers(),
                timeout=urllib3.Timeout(connect=_CONNECT, read=self._timeout),
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            try:
                body = self._read(reply, until)
            finally:
                reply.close()
        except urllib3.exceptions.SSLError as error:
            raise PrometheusError(f"can't trust {self.url}: {failure(error)}") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise PrometheusError(f"{self.url} does not answer: {failure(error)}") from None
        if reply.status != 200:
            raise PrometheusError(self._error_text(reply.status, body))
        return body

    def _read(self, reply: urllib3.BaseHTTPResponse, until: float) -> bytes:
        """Return the body. Raise an error if it is too large or arrives too slowly."""
        pieces, size = [], 0
        for piece in reply.stream(_PIECE, decode_content=False):
            pieces.append(piece)
            size += len(piece)
            if size > _LARGEST:
                raise PrometheusError(
                    f"{self.url} answers with more than {_LARGEST >> 20} MiB: ask for fewer "
                    "namespaces"
                )
            if time.monotonic() > until:
                raise PrometheusError(
                    f"{self.url} takes longer than {self._timeout:g} s: ask for fewer namespaces "
                    "or a shorter time"
                )
        return b"".join(pieces)

    def _headers(self) -> dict[str, str]:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # the size of compressed data could not be limited
            "Content-Type": "application/x-www-form-urlencoded",
            "User-Agent": f"mendix-mesh/{VERSION}",
        }
        if self._token_file:
            headers["Authorization"] = f"Bearer {_token(self._token_file)}"
        return headers

    def _error_text(self, status: int, body: bytes) -> str:
        """Return the text for an error response: the server's own, else the usual fix."""
        try:
            said = _words(_answers.decode(body), f"HTTP {status}")
        except msgspec.MsgspecError:
            said = f"HTTP {status}"
        if status in (401, 403):
            return f"{self.url} denies access: {said}; give the file of a token that may query"
        if 300 <= status < 400:
            return f"{self.url} redirects: {said}; give the address that it redirects to"
        if status == 404:
            return f"{self.url} has no API of Prometheus: {said}; give the one of its start page"
        return f"{self.url} can't answer: {said}"


def _parsed(url: str, *, secret: bool) -> urllib3.util.Url:
    """Return the parsed address if it is valid."""
    try:
        parsed = parse_url(url)
    except urllib3.exceptions.HTTPError:
        raise PrometheusError("the address of Prometheus is invalid: use http(s)://host") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise PrometheusError("the address of Prometheus is invalid: use http(s)://host")
    if parsed.auth:
        raise PrometheusError(
            "the address of Prometheus has a password in it, which others could read: give a token "
            "in a file"
        )
    if parsed.query or parsed.fragment:
        raise PrometheusError("the address of Prometheus ends in a query: leave out ? and #")
    if secret and parsed.scheme == "http" and parsed.host not in _LOOPBACK:
        raise PrometheusError(
            f"a token would go to {parsed.host} in plaintext: give an https address"
        )
    return parsed


def _token(file: Path) -> str:
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise PrometheusError(f"can't read the token of Prometheus, {file}: {why}") from None
    if not token.isascii() or not token.isprintable() or not token:
        raise PrometheusError(f"{file} holds no token")
    return token


def _words(answer: _Answer, otherwise: str) -> str:
    """Return the server's own error text, shortened, on one line."""
    said = ": ".join(part for part in (answer.error_type, answer.error) if part)
    return printable(said)[:_WORDS] or otherwise or "it does not say why"


def _finite(series: list[_Series]) -> Iterator[Sample]:
    for one in series:
        value = float(one.value[1])
        if math.isfinite(value):
            yield Sample(one.metric, value)
