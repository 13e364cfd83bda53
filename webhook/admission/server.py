"""The complete server: gunicorn as process manager, with one worker that serves the lane."""

import datetime
import gc
import math
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from gunicorn.app.base import BaseApplication

from webhook.admission.app import create_app
from webhook.admission.clients import Clients
from webhook.admission.lane import Lane
from webhook.admission.metrics import Metrics
from webhook.admission.review import Reviewer
from webhook.admission.worker import Service, report
from webhook.log import Log
from webhook.policy.settings import Settings
from webhook.serving import logs, tls
from webhook.serving.health import Health
from webhook.serving.listening import BACKLOG
from webhook.serving.rotation import Rotation
from webhook.version import VERSION

log = Log(__name__)


class Options(NamedTuple):
    """The options of the server."""

    #: A listening socket. `serve` takes it over.
    listener: socket.socket
    files: tls.Files
    log_level: str = "info"
    #: Seconds in which the server continues after SIGTERM.
    drain: float = 0.0
    #: A client's certificate must have one of these names. Used only with `files.client_ca`.
    client_names: frozenset[str] = frozenset()


def serve(options: Options, settings: Settings, reread: Callable[[], Settings]) -> None:
    """Serve until a signal. Raise `tls.CertificateError` for a pair that can't be served.

    `reread` returns new settings at SIGHUP. If it raises, the last settings stay. The function
    changes nothing in the process except the signal handlers. It ends with `SystemExit`, as
    gunicorn does.
    """
    logs.set_up(options.log_level)
    server = _Server(options, settings, reread)
    # A worker shares its parent's memory until one of them writes to it. A garbage collection would
    # write to all of it.
    gc.collect()
    gc.freeze()
    server.run()


class _Server(BaseApplication):  # type: ignore[misc] # gunicorn has no types
    """gunicorn, configured only by this program: no file, no environment variables.

    It reads settings and certificate before it starts a worker. So a restarted worker can always
    serve, whatever the files contain by then.
    """

    def __init__(
        self, options: Options, settings: Settings, reread: Callable[[], Settings]
    ) -> None:
        self._options = options
        self._settings = settings
        self._reread = reread
        self._certificate = tls.load(options.files)
        self._descriptor = options.listener.detach()
        super().__init__()

    def reload(self) -> None:
        """Load new settings and a new certificate at SIGHUP, if they are valid."""
        try:
            self._settings = self._reread()
        except Exception as error:
            log.error("kept the last settings", why=str(error))
        try:
            self._certificate = tls.load(self._options.files)
        except Exception as error:
            log.warning("kept the last certificate", why=str(error))
        super().reload()

    def load_config(self) -> None:
        values: dict[str, Any] = {
            "bind": f"fd://{self._descriptor}",
            "backlog": BACKLOG,
            "certfile": str(self._options.files.cert),
            "keyfile": str(self._options.files.key),
            "worker_class": "webhook.admission.worker.Worker",
            "workers": 1,
            # The API server closes idle connections after 90 s. Closing first could break its next
            # request.
            "keepalive": 120,
            "timeout": 30,
            "graceful_timeout": math.ceil(self._options.drain) + 10,
            "logconfig_dict": logs.config(self._options.log_level),
            "child_exit": report,
            "control_socket_disable": True,
            "proc_name": "mendix-mesh",
        }
        if folder := tls.memory_folder():
            # The folder of gunicorn's heartbeat file.
            values["worker_tmp_dir"] = folder
        for key, value in values.items():
            self.cfg.set(key, value)

    def load(self) -> Service:
        """Return the service of a worker. Each worker calls this once."""
        for line in self._settings.lapsed(datetime.date.today()):
            log.warning("lapsed", what=line)
        metrics, health = Metrics(VERSION), Health()
        files = self._options.files
        rotation = Rotation(files, self._certificate, metrics, health)
        reviewer = Reviewer(self._settings, metrics)
        clients = Clients(self._options.client_names) if files.client_ca else None
        flask = create_app(reviewer, health, admits=False)
        return Service(
            Lane(reviewer, flask, clients=clients), rotation, health, self._options.drain
        )
