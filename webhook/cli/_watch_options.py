"""The options of `mendix-mesh audit --watch`; what serves is loaded with --watch alone."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from webhook.cli._names import LOG_LEVELS

_F = TypeVar("_F", bound=Callable[..., Any])
_FILE = click.Path(dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option("--watch", is_flag=True, help="Go on, and serve /metrics, until SIGTERM or "
                 "Ctrl-C: the auditor. The options below are for it alone."),
    click.option("--interval", type=click.FloatRange(5, 86400), metavar="SECONDS",
                 help="Between two sweeps of all namespaces; changes are looked at at once. "
                 "Default 300."),
    click.option("--listen", metavar="HOST:PORT", help="Serve HTTP here: /metrics, /livez, "
                 "/readyz. Default 127.0.0.1:8080."),
    click.option("--tls-listen", metavar="HOST:PORT",
                 help="Serve HTTPS here, for the API server; off without it."),
    click.option("--tls-cert-file", type=_FILE, help="Certificate to serve HTTPS with, PEM."),
    click.option("--tls-private-key-file", type=_FILE, help="Its private key, PEM."),
    click.option("--tls-server-name", metavar="NAME",
                 help="Take only a certificate for this name, by which the API server calls."),
    click.option("--events/--no-events", default=None,
                 help="Tell workloads that get out of the mesh, or into it, by Kubernetes Events. "
                 "Default: not."),
    click.option("--dashboard", metavar="HOST:PORT",
                 help="Serve the dashboard here, over HTTP; off without it."),
    click.option("--allowed-host", multiple=True, metavar="NAME",
                 help="A name, beside localhost, by which the dashboard is reached; can be given "
                 "again."),
    click.option("--authenticate", is_flag=True,
                 help="The dashboard is for the tokens of users that may get the nonResourceURL "
                 "/mendix-mesh."),
    click.option("--log-level", type=click.Choice(LOG_LEVELS),
                 help="Least level that is logged. Default info; warning on a terminal."),
)  # fmt: skip


class Server(NamedTuple):
    """How the auditor serves, and how often it sweeps."""

    interval: float
    address: str
    tls_address: str
    #: Certificate and key; None where no HTTPS is served.
    tls_files: tuple[Path, Path] | None
    tls_name: str
    events: bool
    #: Where the dashboard is served, empty for nowhere; by which names; and whether to whoever
    #: reaches it, or to users with the right alone.
    dashboard: str
    hosts: tuple[str, ...]
    authenticate: bool
    log_level: str


def watch_options(command: _F) -> _F:
    """Add --watch, and what goes with it."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def server_options(given: Mapping[str, Any]) -> Server | None:
    """What these options say; None without --watch, with which alone they may be given."""
    if not given["watch"]:
        for name, value in given.items():
            if value not in (None, False, ()):
                raise click.UsageError(f"--{name.replace('_', '-')} is for --watch alone")
        return None
    files = [given[name] for name in ("tls_cert_file", "tls_private_key_file") if given[name]]
    if len(files) != (2 if given["tls_listen"] else 0):
        raise click.UsageError(
            "give --tls-listen, --tls-cert-file and --tls-private-key-file, or none of them"
        )
    if not given["dashboard"] and (given["allowed_host"] or given["authenticate"]):
        raise click.UsageError("--allowed-host and --authenticate are for --dashboard")
    return Server(
        interval=given["interval"] or 300.0,
        address=given["listen"] or "127.0.0.1:8080",
        tls_address=given["tls_listen"] or "",
        tls_files=(files[0], files[1]) if files else None,
        tls_name=given["tls_server_name"] or "",
        events=bool(given["events"]),
        dashboard=given["dashboard"] or "",
        hosts=given["allowed_host"],
        authenticate=given["authenticate"],
        log_level=given["log_level"] or ("warning" if sys.stdout.isatty() else "info"),
    )
