"""`mendix-mesh dashboard`: what runs, and whether it is in the mesh, as pages in a browser."""

import os
import socket
import sys
import webbrowser
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

from webhook.cli._cluster import (
    cluster_options,
    cluster_settings,
    connect,
    namespaces_option,
    settings_options,
    told_in_one_line,
)
from webhook.cli._errors import BadInputError, warn
from webhook.cli._traffic import prometheus_options, reach
from webhook.cluster.api.connection import Cluster
from webhook.policy.labels import MESHES
from webhook.policy.settings import Settings

if TYPE_CHECKING:
    from webhook.cluster.auditor.scan import ScanOptions

_DEFAULT = "127.0.0.1:50760"
#: Hosts to which nobody comes from elsewhere.
_LOOPBACK = ("127.", "[::1]", "localhost:")


@click.command(
    "dashboard",
    epilog="""Examples:

    mendix-mesh dashboard

    mendix-mesh dashboard --mendix --no-open --listen 127.0.0.1:8080

    mendix-mesh dashboard --prometheus http://localhost:9090

    Exit codes: 0 it was ended by Ctrl-C or SIGTERM; 2 no connection, or it can't listen.""",
)
@namespaces_option
@click.option("-A", "--all-namespaces", "everything", is_flag=True, help="Every namespace.")
@click.option("--mendix", is_flag=True, help="Mendix's namespaces, as discover finds them.")
@click.option(
    "--mesh", type=click.Choice(MESHES),
    help="What namespaces that are not enrolled are judged by; else their own marks, else linkerd.",
)  # fmt: skip
@settings_options
@prometheus_options
@click.option(
    "--interval", type=click.FloatRange(min=5), default=60, show_default=True, metavar="SECONDS",
    help="From one look at all namespaces to the next; what changes is looked at at once.",
)  # fmt: skip
@click.option(
    "--listen", "address", metavar="HOST:PORT",
    help=f"Serve here; port 0 is any free one. Default {_DEFAULT}, or a free port if it is taken.",
)  # fmt: skip
@click.option(
    "--allowed-host", "hosts", multiple=True, metavar="NAME",
    help="A name, beside localhost, by which it is reached; can be given again.",
)  # fmt: skip
@click.option(
    "--authenticate", is_flag=True,
    help="Let in whoever sends the token of a user that may get the nonResourceURL /mendix-mesh.",
)  # fmt: skip
@click.option("--no-open", is_flag=True, help="Open no browser.")
@cluster_options
def COMMAND(  # noqa: N802 - the name by which commands are found
    namespaces: tuple[str, ...],
    everything: bool,
    mendix: bool,
    mesh: str | None,
    settings: Path | None,
    release_namespace: str,
    prometheus: str | None,
    token_file: Path | None,
    ca_file: Path | None,
    patience: float,
    window: int,
    interval: float,
    address: str | None,
    hosts: tuple[str, ...],
    authenticate: bool,
    no_open: bool,
    kubeconfig: str | None,
    context: str | None,
) -> None:
    """Show in a browser which pods are in the mesh, which are not, and why.

    It looks at the cluster with your own rights, and changes nothing. Without -n, -A or --mendix:
    at the namespaces that are enrolled.
    """
    if sum((bool(namespaces), everything, mendix)) > 1:
        raise click.UsageError("give one of -n, -A and --mendix")
    metrics = reach(prometheus, token_file, ca_file, patience)
    cluster = connect(kubeconfig, context)
    with told_in_one_line():
        read = cluster_settings(cluster, release_namespace, settings)
    # A server costs as much time to load as an audit takes.
    from webhook.cluster.auditor.scan import ScanOptions  # noqa: PLC0415

    options = ScanOptions(
        interval, namespaces, everything, mendix, mesh, prometheus=metrics, window=window
    )
    with _listening(address) as listener:
        where = url(listener)
        if not authenticate and address and not address.startswith(_LOOPBACK):
            warn(f"whoever reaches {where} sees this cluster's pods; see --authenticate")
        click.echo(f"{where}  (Ctrl-C ends)")
        if not no_open and _has_screen():
            webbrowser.open(where)
        run(cluster, read, options, listener, hosts=hosts, authenticate=authenticate)


def run(
    cluster: Cluster,
    settings: Settings,
    options: "ScanOptions",
    listener: socket.socket,
    *,
    hosts: Collection[str] = (),
    authenticate: bool = False,
) -> None:
    """Look at the cluster, and serve what is seen, until SIGTERM or Ctrl-C."""
    from webhook.admission import logs  # noqa: PLC0415
    from webhook.cli._serving import Port, serve  # noqa: PLC0415
    from webhook.cluster.auditor.history import Seen  # noqa: PLC0415
    from webhook.cluster.auditor.metrics import AuditorMetrics  # noqa: PLC0415
    from webhook.cluster.auditor.scan import Scanner  # noqa: PLC0415
    from webhook.cluster.dashboard import TokenReviewer, create_app  # noqa: PLC0415
    from webhook.cluster.judge import Judge  # noqa: PLC0415

    # What goes wrong is on the pages.
    logs.set_up("error")
    seen = Seen()
    app = create_app(
        seen,
        cluster,
        Judge(settings),
        hosts=hosts,
        interval=options.interval,
        reviewer=TokenReviewer(cluster) if authenticate else None,
    )
    sweeper = Scanner(cluster, settings, seen, AuditorMetrics(seen), options)
    sweeper.start()
    try:
        serve([Port(listener, app)])
    finally:
        sweeper.stop(seconds=1.0)


def _listening(address: str | None) -> socket.socket:
    """The socket to serve on; where it can't be had the command ends with exit code 2."""
    from webhook.admission.server import ListenError, listen  # noqa: PLC0415

    try:
        return listen(address or _DEFAULT)
    except ListenError as error:
        if address:
            raise BadInputError(str(error)) from None
    try:
        return listen("127.0.0.1:0")
    except ListenError as error:
        raise BadInputError(str(error)) from None


def url(listener: socket.socket) -> str:
    """Where a browser finds what is served on a socket."""
    host, port = listener.getsockname()[:2]
    if host in ("127.0.0.1", "0.0.0.0", "::", "::1"):  # noqa: S104 - only told, as what it is
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _has_screen() -> bool:
    """Whether somebody sees a browser open; a text browser would take the terminal over."""
    if not sys.stdout.isatty():
        return False
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(shown) or sys.platform in ("darwin", "win32")
