"""The options of `mendix-mesh audit --watch`. The server is loaded only with --watch."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import click

from webhook.cli._names import LOG_LEVELS
from webhook.cluster.namespaces.automatic import AutoMode

_F = TypeVar("_F", bound=Callable[..., Any])
AUTO_MODES: Sequence[AutoMode] = get_args(AutoMode)
_FILE = click.Path(dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option("--watch", is_flag=True, help="Run as the auditor: keep auditing and serve "
                 "/metrics, until SIGTERM or Ctrl-C. The options below need --watch."),
    click.option("--interval", type=click.FloatRange(5, 86400), metavar="SECONDS",
                 help="Time between two scans of all namespaces. Changed namespaces are scanned "
                 "at once. Default 300."),
    click.option("--listen", metavar="HOST:PORT", help="Address for HTTP: /metrics, /livez, "
                 "/readyz. Default 127.0.0.1:8080."),
    click.option("--tls-listen", metavar="HOST:PORT",
                 help="Address for HTTPS, for the API server. Default: no HTTPS."),
    click.option("--tls-cert-file", type=_FILE, help="Certificate for HTTPS, PEM."),
    click.option("--tls-private-key-file", type=_FILE, help="Private key for HTTPS, PEM."),
    click.option("--tls-server-name", metavar="NAME",
                 help="Name under which the API server calls. Other certificates are not used."),
    click.option("--client-ca-file", type=_FILE,
                 help="Accept reviews of namespaces only from clients with a certificate of this "
                 "CA, PEM."),
    click.option("--client-name", multiple=True,
                 help="Name that such a certificate must have. Can be given several times."),
    click.option("--callers-limited", is_flag=True,
                 help="A network policy lets only the API server and known peers reach the HTTPS "
                 "address. Only then, or with --client-ca-file, warnings name pods."),
    click.option("--authenticate-metrics", is_flag=True,
                 help="Serve /metrics only by HTTPS, to users who are allowed to get the "
                 "nonResourceURL /metrics."),
    click.option("--events/--no-events", default=None,
                 help="Create a Kubernetes Event on a workload that leaves or joins the mesh. "
                 "Default: --no-events."),
    click.option("--auto-enroll", type=click.Choice(AUTO_MODES),
                 help="Enroll each namespace with Mendix custom resources in this mode, and in the "
                 "mesh that is installed. Not if an admin has labelled or removed it."),
    click.option("--dashboard", metavar="HOST:PORT",
                 help="Address for the dashboard, over HTTP. Default: no dashboard."),
    click.option("--allowed-host", multiple=True, metavar="NAME",
                 help="Host name of the dashboard besides localhost. Can be given several times."),
    click.option("--authenticate", is_flag=True,
                 help="The dashboard requires the token of a user who is allowed to get the "
                 "nonResourceURL /mendix-mesh."),
    click.option("--log-level", type=click.Choice(LOG_LEVELS),
                 help="Lowest level to log. Default info; on a terminal warning."),
)  # fmt: skip


class Server(NamedTuple):
    """The auditor's server, and how often it scans."""

    #: Seconds between two scans of all namespaces.
    interval: float
    address: str
    tls_address: str
    #: Certificate and key; None without HTTPS.
    tls_files: tuple[Path, Path] | None
    tls_name: str
    #: The CA of the certificates that clients need for reviews, if they need one, and the allowed
    #: names in them.
    client_ca: Path | None
    client_names: frozenset[str]
    callers_limited: bool
    authenticate_metrics: bool
    events: bool
    #: The mode in which Mendix namespaces are enrolled; None if they are not.
    auto_enroll: AutoMode | None
    #: The dashboard's address, empty if it is not served; its host names; and whether it requires
    #: a token.
    dashboard: str
    hosts: tuple[str, ...]
    authenticate: bool
    log_level: str


def watch_options(command: _F) -> _F:
    """Add --watch and its options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def server_options(given: Mapping[str, Any]) -> Server | None:
    """Return the auditor's server; None without --watch.

    Raises `UsageError` if options are given that do not belong together.
    """
    if not given["watch"]:
        for name, value in given.items():
            if value not in (None, False, ()):
                raise click.UsageError(f"--{name.replace('_', '-')} needs --watch")
        return None
    files = [given[name] for name in ("tls_cert_file", "tls_private_key_file") if given[name]]
    if len(files) != (2 if given["tls_listen"] else 0):
        raise click.UsageError(
            "give all of --tls-listen, --tls-cert-file and --tls-private-key-file, or none of them"
        )
    for name in ("client_ca_file", "callers_limited", "authenticate_metrics"):
        if given[name] and not files:
            raise click.UsageError(f"--{name.replace('_', '-')} needs --tls-listen")
    if given["client_name"] and not given["client_ca_file"]:
        raise click.UsageError("--client-name needs --client-ca-file")
    if not given["dashboard"] and (given["allowed_host"] or given["authenticate"]):
        raise click.UsageError("--allowed-host and --authenticate need --dashboard")
    return Server(
        interval=given["interval"] or 300.0,
        address=given["listen"] or "127.0.0.1:8080",
        tls_address=given["tls_listen"] or "",
        tls_files=(files[0], files[1]) if files else None,
        tls_name=given["tls_server_name"] or "",
        client_ca=given["client_ca_file"],
        client_names=frozenset(given["client_name"]),
        callers_limited=given["callers_limited"],
        authenticate_metrics=given["authenticate_metrics"],
        events=bool(given["events"]),
        auto_enroll=given["auto_enroll"],
        dashboard=given["dashboard"] or "",
        hosts=given["allowed_host"],
        authenticate=given["authenticate"],
        log_level=given["log_level"] or ("warning" if sys.stdout.isatty() else "info"),
    )
