"""`mendix-mesh version`: print the versions of this command, the server and the chart."""

import click
import msgspec

from webhook.cli._cluster import cluster_errors, cluster_options, connect
from webhook.cli._errors import warn
from webhook.cli._output import FORMATS, Printer
from webhook.cluster.kinds.release import Release, installed
from webhook.version import VERSION


class Versions(msgspec.Struct, omit_defaults=True):
    """The versions; those of the cluster are missing if nothing is installed or asked for."""

    client: str
    server: str = ""
    chart: str = ""


@click.command(
    "version",
    epilog="""Examples:

    mendix-mesh version

    mendix-mesh version --client -o json""",
)
@click.option("--client", is_flag=True, help="Do not connect to a cluster.")
@cluster_options
@click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True)
def COMMAND(  # noqa: N802 - the name by which commands are found
    client: bool, kubeconfig: str | None, context: str | None, output: str
) -> None:
    """Print the version of this command, and of the server and the chart in the cluster."""
    release: Release | None = None
    if not client:
        cluster = connect(kubeconfig, context)
        with cluster_errors():
            release = installed(cluster)
        if release is None:
            warn("mendix-mesh is not installed in this cluster")
    found = Versions(VERSION, *((release.server, release.chart) if release else ()))
    printer = Printer(output)
    if printer.is_table:
        for part, version in msgspec.structs.asdict(found).items():
            if version:
                click.echo(f"{part:<6}  {version}")
        if release and VERSION not in (release.server, "") and not release.server.startswith("("):
            warn("server and client differ, so they may judge pods differently")
    else:
        printer.data(found)
