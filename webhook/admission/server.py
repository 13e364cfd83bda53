"""The server as a whole: gunicorn as process manager, one worker, the lane in it."""

import os
import socket
from pathlib import Path
from typing import Any, NamedTuple

from gunicorn.app.base import BaseApplication

from webhook.admission import logs, tls
from webhook.admission.app import create_app
from webhook.admission.lane import Lane
from webhook.admission.metrics import Metrics
from webhook.admission.review import Reviewer
from webhook.policy.settings import Settings
from webhook.version import VERSION

#: Connections that may wait to be accepted.
_BACKLOG = 2048


class ListenError(ValueError):
    """An address that can't be listened on; the text says which and why."""


class Options(NamedTuple):
    """How to serve."""

    #: Listens already; `serve` takes it over.
    listener: socket.socket
    cert_file: Path
    key_file: Path
    log_level: str = "info"


def listen(address: str) -> socket.socket:
    """A socket that listens at HOST:PORT; port 0 is any free one. Raises `ListenError`.

    gunicorn would try a taken port for five seconds, and end with a traceback on a bad one.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ListenError(f"{address} is not HOST:PORT, as 0.0.0.0:10250 or [::]:10250 are")
    six = ":" in host
    try:
        return socket.create_server(
            (host, int(port)),
            family=socket.AF_INET6 if six else socket.AF_INET,
            backlog=_BACKLOG,
            dualstack_ipv6=six and socket.has_dualstack_ipv6(),
        )
    except (OSError, UnicodeError) as error:
        why = (getattr(error, "strerror", None) or "no such host").partition(" (while")[0]
        raise ListenError(f"can't listen on {address}: {why}") from None


def serve(options: Options, settings: Settings) -> None:
    """Serve until a signal ends it. Raises `tls.CertificateError` on a pair that can't be served.

    Replaces nothing in the process but its signal handlers; ends by `SystemExit`, as gunicorn does.
    """
    tls.check_pair(options.cert_file, options.key_file)
    _Server(options, settings).run()


class _Server(BaseApplication):  # type: ignore[misc] # gunicorn has no types
    """gunicorn, configured from here and nowhere else: no file, no environment."""

    def __init__(self, options: Options, settings: Settings) -> None:
        self._options = options
        self._settings = settings
        self._descriptor = options.listener.detach()
        super().__init__()

    def load_config(self) -> None:
        values: dict[str, Any] = {
            "bind": f"fd://{self._descriptor}",
            "backlog": _BACKLOG,
            "certfile": str(self._options.cert_file),
            "keyfile": str(self._options.key_file),
            "worker_class": "webhook.admission.worker.Worker",
            "workers": 1,
            # The API server closes idle connections after 90 s; closing first would race with it.
            "keepalive": 120,
            "timeout": 30,
            "graceful_timeout": 20,
            "logconfig_dict": logs.config(self._options.log_level),
            "control_socket_disable": True,
            "proc_name": "mendix-mesh",
        }
        if Path("/dev/shm").is_dir() and os.access("/dev/shm", os.W_OK):  # noqa: S108
            # gunicorn's heartbeat file: the root file system may be read-only.
            values["worker_tmp_dir"] = "/dev/shm"  # noqa: S108
        for key, value in values.items():
            self.cfg.set(key, value)

    def load(self) -> Lane:
        logs.set_up(self._options.log_level)
        metrics = Metrics(VERSION)
        expiry = tls.check_pair(self._options.cert_file, self._options.key_file)
        metrics.certificate_expiry.set(expiry.timestamp())
        reviewer = Reviewer(self._settings, metrics)
        return Lane(reviewer, create_app(reviewer))
