"""A connection to a cluster: raw JSON for its objects.

The official client's models would decode every field of every object, for hundreds of bytes a
field; here lists come in pages of JSON, of which each reader decodes what it reads. How to reach a
cluster, and with which rights, is the official client's business: `cluster.login`.
"""

import random
import re
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self
from urllib.parse import quote, urlencode

import msgspec
import urllib3

from webhook.cluster.api.errors import ClusterError, RefusedError, failure, refusal
from webhook.version import VERSION

if TYPE_CHECKING:
    from webhook.cluster.api.login import Login

#: Objects of one page: of pods with a sidecar two megabytes, which cost seven while they are read.
PAGE = 100
#: Seconds in which the API server must take a connection, and answer.
_CONNECT, _ANSWER = 5.0, 30.0
#: Bytes of an endless answer that are taken at once, at most: it comes event by event.
_CHUNK = 1 << 16
#: Times that a call is tried which can't be answered now; the first wait, and the longest.
_TRIES, _WAIT, _LONGEST_WAIT = 6, 0.25, 8.0
#: Times that a connection is tried while the API server has never answered: a wrong address.
_FIRST_TRIES = 2
_FOR_NOW = frozenset({429, 500, 502, 503, 504})
#: Methods that do the same when they are done twice; so do patches but for JSON Patch.
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
    """What a call gives: the JSON, and the API server's warnings."""

    body: bytes
    warnings: list[str]


class Page(NamedTuple):
    """Some objects of a list, each as its JSON; and how many are left, where that is known."""

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
        """What the API server orders a list by."""

        name: str = ""
        namespace: str = ""

    metadata: Meta


_lists = msgspec.json.Decoder(_List)
_names = msgspec.json.Decoder(_Named)


def path(version: str, plural: str, namespace: str = "", name: str = "", sub: str = "") -> str:
    """The path of a collection, or of one object in it, or of its subresource.

    `version` is an apiVersion, as `v1` or `apps/v1`; without a namespace it is all of them.
    """
    parts = ["apis" if "/" in version else "api", *version.split("/")]
    parts += ["namespaces", namespace] if namespace else []
    parts += [part for part in (plural, name, sub) if part]
    # Names come from users too: one with a slash in it must not lead elsewhere.
    return "/" + "/".join(quote(part, safe=":") for part in parts)


class Cluster:
    """One cluster, by the rights of anyone who connects. Every call may raise `ClusterError`.

    Calls wait and try again where the API server is busy (429, with its Retry-After), fails (5xx)
    or was cut off; what changes something only where that can't do it twice. Threads may share it.
    """

    def __init__(self, login: "Login") -> None:
        self._login = login
        self._answered = False
        #: Name of the kubeconfig's context; empty in a pod.
        self.context = login.context
        #: The namespace that commands take where none is named.
        self.namespace = login.namespace
        #: The URL of the API server.
        self.server = login.server

    @classmethod
    def connect(cls, kubeconfig: str | None = None, context: str | None = None) -> Self:
        """Find the cluster as kubectl does: kubeconfig, KUBECONFIG, ~/.kube/config, else as a pod.

        Nothing is sent yet. Raises `ClusterError` where there is no way to one.
        """
        # The official client costs a third of a second, which no other command should pay.
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
        """The pages of a list, one at a time, ordered by namespace and name.

        With `partial` the objects have metadata alone. A list that became too old to be gone on
        with (410 Gone) is gone on with at the state of now; no object comes twice.
        """
        query = {"limit": str(size), "labelSelector": labels, "fieldSelector": fields}
        accept = _PARTIAL.format("PartialObjectMetadataList") if partial else ""
        token, last, skip = "", b"", False
        while True:
            try:
                answer = self.call("GET", where, query={**query, "continue": token}, accept=accept)
            except RefusedError as error:
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
        """The objects of a list, each as its JSON: those of its `pages`."""
        for page in self.pages(where, labels=labels, fields=fields, partial=partial, size=size):
            yield from page.items

    def lines(self, where: str, *, query: Mapping[str, str], silence: float) -> Iterator[bytes]:
        """The lines of an answer that has no end, as they come; of objects metadata alone.

        It ends when the API server ends it, or is silent for so many seconds. Nothing is tried
        again: who calls knows where to go on.
        """
        accept = _PARTIAL.format("PartialObjectMetadata")
        rest = b""
        try:
            got = self._once("GET", where, query, None, "", accept, silence=silence)
            try:
                if got.status >= 300:
                    raise refusal(got, where)
                self._answered = True
                while chunk := got.read1(_CHUNK):
                    *whole, rest = (rest + chunk).split(b"\n")
                    yield from whole
            finally:
                # Who reads no further leaves what is still to come: the connection is of no use.
                got.close()
        except urllib3.exceptions.ReadTimeoutError:
            return
        except urllib3.exceptions.HTTPError as error:
            raise ClusterError(f"{self.server} does not answer: {failure(error)}") from None

    def get(self, where: str, *, partial: bool = False) -> Json:
        """One object, or its metadata alone. Raises `RefusedError` 404 where there is none."""
        accept = _PARTIAL.format("PartialObjectMetadata") if partial else ""
        return self._json(self.call("GET", where, accept=accept).body)

    def find(self, where: str, *, partial: bool = False) -> Json | None:
        """One object, or None where there is none, or no such kind."""
        try:
            return self.get(where, partial=partial)
        except RefusedError as error:
            if error.code == 404:
                return None
            raise

    def create(
        self, where: str, obj: Mapping[str, Any], *, dry_run: bool = False
    ) -> tuple[Json, list[str]]:
        """Create an object in a collection, or post to a subresource, as `…/pods/x/eviction`.

        Gives what is stored, and the API server's warnings.
        """
        answer = self.call("POST", where, query=_dry(dry_run), body=obj)
        return self._json(answer.body), answer.warnings

    def patch(
        self, where: str, change: Any, *, how: How = "merge", dry_run: bool = False
    ) -> tuple[Json, list[str]]:
        """Change an object; gives what is stored, and the API server's warnings.

        `apply` is a server-side apply that takes over the fields it names.
        """
        query = {"fieldManager": "mendix-mesh", "force": "true" if how == "apply" else ""}
        answer = self.call(
            "PATCH", where, query={**query, **_dry(dry_run)}, body=change, content=_PATCHES[how]
        )
        return self._json(answer.body), answer.warnings

    def delete(self, where: str, *, uid: str = "", dry_run: bool = False) -> bool:
        """Delete an object, the one with this uid if it is given; False where it is gone."""
        options = {"preconditions": {"uid": uid}} if uid else {}
        try:
            self.call("DELETE", where, query=_dry(dry_run), body=options)
        except RefusedError as error:
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
        """One call to a path; what is empty in `query` is left out."""
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
                refused = refusal(got, where)
                again = got.status == 429 or (got.status in _FOR_NOW and twice)
                if attempt == _TRIES or not again or refused.is_budget:
                    raise refused
                wait = _seconds(got.headers.get("Retry-After", "")) or wait
            # A little less or more: those who were turned away together must not return together.
            time.sleep(min(_LONGEST_WAIT, wait) * random.uniform(0.8, 1.2))  # noqa: S311
        raise AssertionError("the last try returns or raises")

    def _cut(self, error: urllib3.exceptions.HTTPError, attempt: int, *, safe: bool) -> None:
        """Raise `ClusterError` where a call that got no answer is not to be tried again."""
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
        """Ask once; with `silence`, in seconds, the answer is left to be read as it comes."""
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
    """What lists are ordered by: the object's key in the API server's store."""
    meta = _names.decode(raw).metadata
    return (f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name).encode()


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


def _never_sent(error: Exception) -> bool:
    """Whether a call did not reach anyone: nobody took the connection."""
    return isinstance(
        error, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
    )


def _warnings(headers: list[str]) -> list[str]:
    """The texts of Warning headers; one may carry several."""
    texts = [text for header in headers for text in _WARNING.findall(header)]
    return [re.sub(r"\\(.)", r"\1", text) for text in texts]


def _seconds(header: str) -> float:
    return float(header) if header.isdigit() else 0.0
