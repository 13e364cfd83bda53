"""`mendix-mesh dashboard`: show in a browser which pods are in the mesh, and why others are not."""

import os
import socket
import sys
import webbrowser
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

from webhook.cli._cluster import (
    cluster_errors,
    cluster_options,
    cluster_settings,
    connect,
    namespaces_option,
    settings_options,
)
from webhook.cli._errors import BadInputError, warn
from webhook.cli._traffic import connect_prometheus, prometheus_options
from webhook.cluster.api.connection import Cluster
from webhook.cluster.kinds.inventory import Inventory
from webhook.cluster.namespaces.scope import check_exist
from webhook.policy.labels import MESHES
from webhook.policy.settings import Settings

if TYPE_CHECKING:
    from webhook.cluster.auditor.scan import ScanOptions

_DEFAULT = "127.0.0.1:50760"
#: Addresses that only this machine can reach.
_LOOPBACK = ("127.", "[::1]", "localhost:")


@click.command(
    "dashboard",
    epilog="""Examples:

    mendix-mesh dashboard

    mendix-mesh dashboard --mendix --no-open --listen 127.0.0.1:8080

    mendix-mesh dashboard --prometheus http://localhost:9090

    Exit codes: 0 stopped by Ctrl-C or SIGTERM; 2 the cluster can't be reached, a namespace does
    not exist, or the address is in use.""",
)
@namespaces_option
@click.option("-A", "--all-namespaces", "everything", is_flag=True, help="All namespaces.")
@click.option("--mendix", is_flag=True, help="All Mendix namespaces, as discover finds them.")
@click.option(
    "--mesh", type=click.Choice(MESHES),
    help="Mesh to judge namespaces by that are not enrolled. Default: the mesh named by their "
    "labels and annotations, else linkerd.",
)  # fmt: skip
@settings_options
@prometheus_options
@click.option(
    "--interval", type=click.FloatRange(min=5), default=60, show_default=True, metavar="SECONDS",
    help="Time between two scans of all namespaces. Changed namespaces are scanned at once.",
)  # fmt: skip
@click.option(
    "--listen", "address", metavar="HOST:PORT",
    help=f"Address to serve on; port 0 means any free port. Default {_DEFAULT}, or a free port if "
    "that one is in use.",
)  # fmt: skip
@click.option(
    "--allowed-host", "hosts", multiple=True, metavar="NAME",
    help="Host name of the dashboard besides localhost. Can be given several times.",
)  # fmt: skip
@click.option(
    "--authenticate", is_flag=True,
    help="Require the token of a user who is allowed to get the nonResourceURL /mendix-mesh.",
)  # fmt: skip
@click.option("--no-open", is_flag=True, help="Do not open a browser.")
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

    It reads the cluster with your own rights and changes nothing. Without -n, -A or --mendix, it
    shows all enrolled namespaces.
    """
    if sum((bool(namespaces), everything, mendix)) > 1:
        raise click.UsageError("give only one of -n, -A and --mendix")
    metrics = connect_prometheus(prometheus, token_file, ca_file, patience)
    cluster = connect(kubeconfig, context)
    with cluster_errors():
        check_exist(Inventory(cluster), namespaces)
        read = cluster_settings(cluster, release_namespace, settings)
    # A server costs as much time to load as an audit takes.
    from webhook.cluster.auditor.scan import ScanOptions  # noqa: PLC0415

    options = ScanOptions(
        interval, namespaces, everything, mendix, mesh, prometheus=metrics, window=window
    )
    with _listening(address) as listener:
        where = url(listener)
        if not authenticate and address and not address.startswith(_LOOPBACK):
            warn(
                f"everyone who can reach {where} can see this cluster's pods; to require a token "
                "give --authenticate"
            )
        click.echo(f"{where}  (stop with Ctrl-C)")
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
    """Scan the cluster and serve the dashboard until SIGTERM or Ctrl-C."""
    from webhook.cluster.auditor.history import Scans  # noqa: PLC0415
    from webhook.cluster.auditor.metrics import AuditorMetrics  # noqa: PLC0415
    from webhook.cluster.auditor.scan import Scanner  # noqa: PLC0415
    from webhook.cluster.dashboard import create_app, reviewer  # noqa: PLC0415
    from webhook.cluster.judge import Judge  # noqa: PLC0415
    from webhook.serving import logs  # noqa: PLC0415
    from webhook.serving.pages import Port, serve  # noqa: PLC0415

    # The pages show problems with the cluster.
    logs.set_up("error")
    scans = Scans()
    app = create_app(
        scans,
        cluster,
        Judge(settings),
        hosts=hosts,
        interval=options.interval,
        reviewer=reviewer(cluster) if authenticate else None,
    )
    scanner = Scanner(cluster, settings, scans, AuditorMetrics(scans), options)
    scanner.start()
    try:
        serve([Port(listener, app)])
    finally:
        scanner.stop(seconds=1.0)


def _listening(address: str | None) -> socket.socket:
    """Return the socket to serve on. If there is none, the command ends with exit code 2."""
    from webhook.serving.listening import ListenError, listen  # noqa: PLC0415

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
    """Return the URL at which a browser on this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    if host in ("127.0.0.1", "0.0.0.0", "::", "::1"):  # noqa: S104 - only shown
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _has_screen() -> bool:
    """Return whether a graphical browser can open. A text browser would occupy the terminal."""
    if not sys.stdout.isatty():
        return False
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(shown) or sys.platform in ("darwin", "win32")
