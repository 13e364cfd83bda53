"""The stand-in injector as a server: reviews over HTTPS, as Linkerd's own binary answers them.

It runs in the test's process, on a loopback address that the API server calls by URL. It behaves
like linkerd2's controller/webhook and controller/proxy-injector: its own errors deny the object,
skipped objects are admitted, and it never denies by policy. It creates no events and has no cache.
It reads the namespace and the pod's owner for each review.
"""

import base64
import contextlib
import json
import socket
import ssl
import sys
import tempfile
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.cluster.api import Api, StatusError, wait_for
from tests.cluster.certificates import Authority
from tests.cluster.part import Part
from tests.standins.linkerd import (
    CONFIGURATION,
    InjectionError,
    InjectorConfig,
    inject,
    webhook_configuration,
)

Json = dict[str, Any]

_HOST = "127.0.0.1"
_PROBE = "linkerd-injector-probe"
_MOST = 10 * 1024 * 1024  # the maximum size of a review in bytes, as in Linkerd


class LinkerdInjector(Part):
    """The injector, installed and running from `start` (or `with`) to `uninstall` (or its end).

    `stop` simulates an outage: the webhook configuration stays, and because of its failure policy
    pods start without a proxy. `restart` ends the outage on the same port. `config` may be replaced
    at any time and applies from the next review. Give it its own Api, because other threads use it,
    and it would overwrite the warnings that a test reads from a shared one.
    """

    def __init__(self, api: Api, config: InjectorConfig | None = None) -> None:
        self.config = config or InjectorConfig()
        self._api = api
        self._port = 0
        self._probed = threading.Event()
        self._server: _Server | None = None
        authority = Authority("linkerd-proxy-injector")
        self.ca = authority.pem.decode()
        """The CA of its server, as PEM."""
        self._context = _context(authority)

    def _begin(self) -> None:
        self.start()

    def _end(self) -> None:
        self.stop()
        self.uninstall()

    @property
    def url(self) -> str:
        """Return the URL that the API server calls. It is known from the first start on."""
        return f"https://{_HOST}:{self._port}/"

    def start(self) -> None:
        """Serve, install the webhook configuration, and wait until the API server calls it."""
        self.restart()
        bundle = base64.b64encode(self.ca.encode()).decode()
        configuration = webhook_configuration(self.url, bundle)
        self.uninstall()
        self._api.create(configuration)
        self._probed.clear()
        wait_for(self._is_called, why="the API server to call the injector")

    def stop(self) -> None:
        """Stop serving: reject connections and close those that the API server keeps open."""
        if self._server:
            self._server.stop()
            self._server = None

    def restart(self) -> None:
        """Serve again on the same port, after `stop` or while running."""
        self.stop()
        self._server = _Server((_HOST, self._port), self._context, self._answer)
        self._port = self._server.server_address[1]
        self._server.start()

    def uninstall(self) -> None:
        """Remove the webhook configuration if it exists."""
        with contextlib.suppress(StatusError):
            self._api.delete("MutatingWebhookConfiguration", CONFIGURATION)

    def _is_called(self) -> bool:
        # A dry run of a Service needs nothing in its namespace. A dry run of a pod does.
        probe = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": _PROBE, "namespace": "default"},
            "spec": {"type": "ExternalName", "externalName": "probe.example.com"},
        }
        self._api.create(probe, dry_run=True)
        return self._probed.is_set()

    def _answer(self, request: Json) -> Json:
        """Return the response to one request of a review."""
        obj = request["object"]
        where = request.get("namespace", "")
        if request.get("name") == _PROBE:
            self._probed.set()
            return {"uid": request["uid"], "allowed": True}
        try:
            # Linkerd reads everything that it needs before it decides.
            namespace = self._api.get("Namespace", where)
            injection = inject(obj, namespace, self.config, owner=self._owner(obj, where))
        except (StatusError, InjectionError) as error:
            return {"uid": request["uid"], "allowed": False, "status": {"message": str(error)}}
        response: Json = {"uid": request["uid"], "allowed": True}
        if injection.text:  # also if it is not JSON, because Linkerd does not check this
            patch = base64.b64encode(injection.text.encode()).decode()
            response |= {"patchType": "JSONPatch", "patch": patch}
        return response

    def _owner(self, obj: Json, namespace: str) -> Json | None:
        """Return the owner of the pod's owner, if any. A failed look-up is no error."""
        references = obj["metadata"].get("ownerReferences") or []
        if len(references) != 1 or references[0]["kind"] not in ("ReplicaSet", "Job"):
            return None
        (parent,) = references
        with contextlib.suppress(StatusError):
            owner = self._api.get(parent["kind"], parent["name"], namespace)
            grandparents = owner["metadata"].get("ownerReferences") or []
            if len(grandparents) == 1:
                return dict(grandparents[0])
        return None


class _Server(ThreadingHTTPServer):
    """An HTTPS server that can be cut off. After `stop`, none of its connections answers."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # the number of queued connections; a burst of pods must not be cut

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, answer: Any) -> None:
        super().__init__(address, _Handler)
        self.answer = answer
        self._context = context
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                # Do not call the method of SSLSocket. It first discards the TLS state, while a
                # reader uses it.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        # Each connection's own thread makes the handshake at its first read. So a slow client does
        # not delay the others.
        secured = self._context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )
        self._open.add(secured)
        return secured, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore broken connections, because `stop` breaks them."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(min(size, _MOST + 1))
        if len(body) > _MOST:
            self.close_connection = True
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        if not body:
            self._send(HTTPStatus.OK)
            return
        try:
            review = json.loads(body)
            complete = bool(review["request"]["uid"])
        except (ValueError, KeyError, TypeError):
            complete = False
        if not complete:
            self._send(HTTPStatus.BAD_REQUEST)
            return
        review["response"] = self.server.answer(review["request"])
        # Linkerd sends the whole review back, in the same version.
        self._send(HTTPStatus.OK, json.dumps(review).encode())

    def _send(self, status: HTTPStatus, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is called there
        """Log nothing."""


def _context(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with tempfile.TemporaryDirectory() as folder:
        pair = authority.issue("linkerd-proxy-injector.linkerd.svc", hosts=[_HOST])
        context.load_cert_chain(*pair.write(Path(folder), "tls"))
    return context
