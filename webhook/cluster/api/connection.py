"""A connection to a cluster that returns objects as raw JSON.

The models of the official client decode each field of each object, which takes hundreds of bytes
per field. Here, lists arrive in pages of JSON, and each reader decodes only the fields it needs.
The official client is used only to find the cluster and the credentials: `cluster.login`.
"""

import random
import re
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self
from urllib.parse import quote, urlencode

import msgspec
import urllib3

from webhook.cluster.api.errors import ClusterError, StatusError, failure, status_error
from webhook.version import VERSION

if TYPE_CHECKING:
    from webhook.cluster.api.login import Login

#: Objects per page. For pods with a sidecar this is two megabytes, which take seven while they are
#: decoded.
PAGE = 100
#: Seconds in which the API server must accept a connection, and in which it must respond.
_CONNECT, _ANSWER = 5.0, 30.0
#: The maximum number of bytes that are read at once from an endless response. It arrives event by
#: event.
_CHUNK = 1 << 16
#: The maximum number of attempts of a failed call; the first pause and the longest, in seconds.
_TRIES, _WAIT, _LONGEST_WAIT = 6, 0.25, 8.0
#: The maximum number of attempts if the API server has never responded. The address may be wrong.
_FIRST_TRIES = 2
_FOR_NOW = frozenset({429, 500, 502, 503, 504})
#: Methods that are idempotent. Patches are idempotent too, except JSON Patch.
_SAFE_TWICE = frozenset({"GET", "PUT", "DELETE"})
_PARTIAL = "application/json;as={};g=meta.k8s.io;v=v1"
_WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')

Json = dict[str, Any]
How = Literal["merge", "json", "strategic", "apply"]
_PATCHES: Mapping[How, str] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


class Answer(NamedTuple):
    """The result of a call: the JSON, and the API server's warnings."""

    body: bytes
    warnings: list[str]


class Page(NamedTuple):
    """Some objects of a list, each as JSON; and the number of remaining objects if it is known."""

    items: list[msgspec.Raw]
    remaining: int


class _ListMeta(msgspec.Struct, rename="camel"):
    continue_: str = msgspec.field(name="continue", default="")
    remaining_item_count: int | None = None


class _List(msgspec.Struct):
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[msgspec.Raw] | None = None


class _Named(msgspec.Struct):
    class Meta(msgspec.Struct):
        """The fields by which the API server orders a list."""

        name: str = ""
        namespace: str = ""

    metadata: Meta


_lists = msgspec.json.Decoder(_List)
_names = msgspec.json.Decoder(_Named)


def path(version: str, plural: str, namespace: str = "", name: str = "", sub: str = "") -> str:
    """Return the path of a collection, of one object in it, or of a subresource.

    `version` is an apiVersion like `v1` or `apps/v1`. Without a namespace, the path covers all
    namespaces.
    """
    parts = ["apis" if "/" in version else "api", *version.split("/")]
    parts += ["namespaces", namespace] if namespace else []
    parts += [part for part in (plural, name, sub) if part]
    # Names can come from users. A slash in a name must not lead to another path.
    return "/" + "/".join(quote(part, safe=":") for part in parts)


class Cluster:
    """A cluster, with the rights of the current user. Each call may raise `ClusterError`.

    Calls wait and try again if the API server is busy (429, with its Retry-After), fails (5xx), or
    the connection breaks. Calls that change something are repeated only if they can't take effect
    twice. Threads may share a cluster.
    """

    def __init__(self, login: "Login") -> None:
        self._login = login
        self._answered = False
        #: The name of the kubeconfig's context; empty in a pod.
        self.context = login.context
        #: The default namespace of commands.
        self.namespace = login.namespace
        #: The URL of the API server.
        self.server = login.server

    @classmethod
    def connect(cls, kubeconfig: str | None = None, context: str | None = None) -> Self:
        """Find the cluster as kubectl does: kubeconfig, KUBECONFIG, ~/.kube/config, else as a pod.

        Nothing is sent yet. Raise `ClusterError` if no cluster is configured.
        """
        # Importing the official client takes a third of a second. Other commands must not pay for
        # it.
        from webhook.cluster.api.login import log_in  # noqa: PLC0415

        return cls(log_in(kubeconfig, context))

    def pages(
        self,
        where: str,
        *,
        labels: str = "",
        fields: str = "",
        partial: bool = False,
        size: int = PAGE,
    ) -> Iterator[Page]:
        """Yield the pages of a list, ordered by namespace and name.

        With `partial`, objects have only metadata. If the list has expired (410 Gone), it continues
        with the current state. No object is repeated.
        """
        query = {"limit": str(size), "labelSelector": labels, "fieldSelector": fields}
        accept = _PARTIAL.format("PartialObjectMetadataList") if partial else ""
        token, last, skip = "", b"", False
        while True:
            try:
                answer = self.call("GET", where, query={**query, "continue": token}, accept=accept)
            except StatusError as error:
                if error.code != 410 or not token:
                    raise
                token, skip = error.token, not error.token
                continue
            try:
                found = _lists.decode(answer.body)
                items = found.items or []
                if skip:
                    items = [raw for raw in items if _key(raw) > last]
                if items:
                    last = _key(items[-1])
            except msgspec.MsgspecError as error:
                raise ClusterError(f"{self.server}{where} gives no list: {error}") from None
            token = found.metadata.continue_
            yield Page(items, found.metadata.remaining_item_count or 0)
            if not token:
                return

    def items(
        self,
        where: str,
        *,
        labels: str = "",
        fields: str = "",
        partial: bool = False,
        size: int = PAGE,
    ) -> Iterator[msgspec.Raw]:
        """Yield the objects of a list as JSON, from its `pages`."""
        for page in self.pages(where, labels=labels, fields=fields, partial=partial, size=size):
            yield from page.items

    def lines(self, where: str, *, query: Mapping[str, str], silence: float) -> Iterator[bytes]:
        """Yield the lines of an endless response as they arrive. Objects have only metadata.

        The response ends when the API server ends it, or after `silence` seconds without data.
        Nothing is tried again, because the caller knows where to continue.
        """
        accept = _PARTIAL.format("PartialObjectMetadata")
        rest = b""
        try:
            got = self._once("GET", where, query, None, "", accept, silence=silence)
            try:
                if got.status >= 300:
                    raise status_error(got, where)
                self._answered = True
                while chunk := got.read1(_CHUNK):
                    *whole, rest = (rest + chunk).split(b"\n")
                    yield from whole
            finally:
                # If the caller stops early, unread data remains, so the connection can't be used
                # again.
                got.close()
        except urllib3.exceptions.ReadTimeoutError:
            return
        except urllib3.exceptions.HTTPError as error:
            raise ClusterError(f"{self.server} does not answer: {failure(error)}") from None

    def get(self, where: str, *, partial: bool = False) -> Json:
        """Return an object, or only its metadata. Raise `StatusError` 404 if there is none."""
        accept = _PARTIAL.format("PartialObjectMetadata") if partial else ""
        return self._json(self.call("GET", where, accept=accept).body)

    def find(self, where: str, *, partial: bool = False) -> Json | None:
        """Return one object; None if the object or its kind does not exist."""
        try:
            return self.get(where, partial=partial)
        except StatusError as error:
            if error.code == 404:
                return None
            raise

    def create(
        self, where: str, obj: Mapping[str, Any], *, dry_run: bool = False
    ) -> tuple[Json, list[str]]:
        """Create an object in a collection, or post to a subresource like `…/pods/x/eviction`.

        Return the stored object and the API server's warnings.
        """
        answer = self.call("POST", where, query=_dry(dry_run), body=obj)
        return self._json(answer.body), answer.warnings

    def patch(
        self, where: str, change: Any, *, how: How = "merge", dry_run: bool = False
    ) -> tuple[Json, list[str]]:
        """Change an object. Return the stored object and the API server's warnings.

        `apply` is a server-side apply that takes over the fields it names.
        """
        query = {"fieldManager": "mendix-mesh", "force": "true" if how == "apply" else ""}
        answer = self.call(
            "PATCH", where, query={**query, **_dry(dry_run)}, body=change, content=_PATCHES[how]
        )
        return self._json(answer.body), answer.warnings

    def delete(self, where: str, *, uid: str = "", dry_run: bool = False) -> bool:
        """Delete an object, only with this uid if given. Return False if it is already gone."""
        options = {"preconditions": {"uid": uid}} if uid else {}
        try:
            self.call("DELETE", where, query=_dry(dry_run), body=options)
        except StatusError as error:
            if error.code == 404 or (uid and error.code == 409):
                return False
            raise
        return True

    def call(
        self,
        method: str,
        where: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = "application/json",
        accept: str = "",
    ) -> Answer:
        """Make one call to a path. Empty values in `query` are left out."""
        twice = method in _SAFE_TWICE or (method == "PATCH" and content != _PATCHES["json"])
        data = None if body is None else msgspec.json.encode(body)
        fields = {key: value for key, value in (query or {}).items() if value}
        for attempt in range(1, _TRIES + 1):
            wait = _WAIT * 2 ** (attempt - 1)
            try:
                got = self._once(method, where, fields, data, content, accept)
            except urllib3.exceptions.HTTPError as error:
                self._cut(error, attempt, safe=twice or _never_sent(error))
            else:
                self._answered = True
                if got.status < 300:
                    return Answer(got.data, _warnings(got.headers.getlist("Warning")))
                failed = status_error(got, where)
                again = got.status == 429 or (got.status in _FOR_NOW and twice)
                if attempt == _TRIES or not again or failed.is_budget:
                    raise failed
                wait = _seconds(got.headers.get("Retry-After", "")) or wait
            # Vary the pause, so that clients that were rejected together do not all return at the
            # same time.
            time.sleep(min(_LONGEST_WAIT, wait) * random.uniform(0.8, 1.2))  # noqa: S311
        raise AssertionError("the last try returns or raises")

    def _cut(self, error: urllib3.exceptions.HTTPError, attempt: int, *, safe: bool) -> None:
        """Raise `ClusterError` if a call without a response must not be tried again."""
        silent = isinstance(error, urllib3.exceptions.TimeoutError) or _never_sent(error)
        tries = _FIRST_TRIES if silent and not self._answered else _TRIES
        if isinstance(error, urllib3.exceptions.SSLError):
            raise ClusterError(
                f"can't trust {self.server}: {failure(error)}; "
                "see certificate-authority and client-certificate in the kubeconfig"
            ) from None
        if attempt >= tries or not safe:
            hint = "" if self._answered else "; is the context the right one, and the cluster up?"
            raise ClusterError(f"{self.server} does not answer: {failure(error)}{hint}") from None

    def _once(
        self,
        method: str,
        where: str,
        query: Mapping[str, str],
        data: bytes | None,
        content: str,
        accept: str,
        *,
        silence: float = 0,
    ) -> urllib3.BaseHTTPResponse:
        """Make one attempt. With `silence` (seconds), the caller reads the response itself."""
        headers = {
            **self._login.headers(),
            "Accept": accept or "application/json",
            "Accept-Encoding": "identity" if silence else "gzip",
            "User-Agent": f"mendix-mesh/{VERSION}",
        }
        if data is not None:
            headers["Content-Type"] = content
        return self._login.pool.request(
            method,
            f"{self.server}{where}{f'?{urlencode(query)}' if query else ''}",
            body=data,
            headers=headers,
            timeout=urllib3.Timeout(connect=_CONNECT, read=silence or _ANSWER),
            retries=False,
            redirect=False,
            preload_content=not silence,
        )

    def _json(self, body: bytes) -> Json:
        try:
            found = msgspec.json.decode(body)
        except msgspec.MsgspecError as error:
            raise ClusterError(f"{self.server} gives no JSON: {error}") from None
        if not isinstance(found, dict):
            raise ClusterError(f"{self.server} gives no object")
        return found


def _key(raw: msgspec.Raw) -> bytes:
    """Return the key of an object in the API server's store. Lists are ordered by it."""
    meta = _names.decode(raw).metadata
    return (f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name).encode()


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


def _never_sent(error: Exception) -> bool:
    """Return whether a call was never sent, because no connection was made."""
    return isinstance(
        error, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
    )


def _warnings(headers: list[str]) -> list[str]:
    """Return the texts of Warning headers. One header may contain several."""
    texts = [text for header in headers for text in _WARNING.findall(header)]
    return [re.sub(r"\\(.)", r"\1", text) for text in texts]


def _seconds(header: str) -> float:
    return float(header) if header.isdigit() else 0.0
