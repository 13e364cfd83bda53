"""Options of the commands that query Prometheus, and the output of traffic."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from webhook.cli._errors import BadInputError
from webhook.cli._output import Printer, Styled
from webhook.cluster.audit.traffic import amount, senders, span
from webhook.cluster.traffic import (
    NamespaceTraffic,
    Prometheus,
    PrometheusError,
    Traffic,
    Verdict,
)

_F = TypeVar("_F", bound=Callable[..., Any])
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
#: Workloads with plaintext that the table lists; -o json lists all.
_LISTED = 20
_STYLES: dict[Verdict, str] = {
    "mtls": "green", "mixed": "bold red", "plaintext": "bold red", "unknown": "yellow",
    "no-data": "dim",
}  # fmt: skip


def _seconds(ctx: click.Context, param: click.Parameter, given: str) -> int:
    """Return the seconds of a duration like `30m`, `1h`, `7d`. Raises `BadParameter`."""
    match = re.fullmatch(r"([1-9]\d{0,5})([smhd])", given)
    if not match:
        raise click.BadParameter("give a number with s, m, h or d, for example 1h", ctx, param)
    return int(match[1]) * _UNITS[match[2]]


def prometheus_options(command: _F) -> _F:
    """Add --prometheus and its options."""
    file = click.Path(dir_okay=False, path_type=Path)
    for option in (
        click.option(
            "--prometheus-window", "window", callback=_seconds, default="1h", show_default=True,
            metavar="TIME",
            help="Period of the traffic to report.",
        ),
        click.option("--prometheus-timeout", "patience", type=click.FloatRange(1, 300), default=10,
                     show_default=True, metavar="SECONDS", help="Timeout of a query."),
        click.option("--prometheus-ca-file", "ca_file", type=file, metavar="FILE",
                     help="CA certificate of Prometheus. Default: the system's CAs."),
        click.option("--prometheus-token-file", "token_file", type=file, metavar="FILE",
                     help="Bearer token for Prometheus."),
        click.option("--prometheus", "prometheus", metavar="URL",
                     help="Also report how much of the traffic was mutual TLS, from the "
                     "meshes' metrics in this Prometheus."),
    ):  # fmt: skip
        command = option(command)
    return command


def connect_prometheus(
    url: str | None, token_file: Path | None, ca_file: Path | None, patience: float
) -> Prometheus | None:
    """Return the Prometheus of these options; None without a URL.

    Invalid options end the command with exit code 2.
    """
    if not url:
        if token_file or ca_file:
            raise click.UsageError(
                "--prometheus-token-file and --prometheus-ca-file need --prometheus"
            )
        return None
    try:
        return Prometheus(url, token_file=token_file, ca_file=ca_file, timeout=patience)
    except PrometheusError as error:
        raise BadInputError(str(error)) from None


def cell(traffic: Traffic, namespace: str) -> Styled:
    """Return the cell in the MTLS column of a namespace."""
    seen = traffic.namespaces.get(namespace)
    if seen is None:
        return Styled("?" if traffic.error else "-", "yellow" if traffic.error else "dim")
    text = "no data" if seen.verdict == "no-data" else f"{seen.share}%"
    return Styled(text, _STYLES[seen.verdict])


def show(printer: Printer, traffic: Traffic) -> None:
    """Print the workloads that received plaintext, with the senders, and outgoing plaintext."""
    lines = [line for seen in traffic.namespaces.values() for line in _lines(seen)]
    if lines:
        printer.parts()
        title = f"traffic without mutual TLS in the last {span(traffic.window)}:"
        printer.parts((title, "bold"), (" mendix-mesh explain traffic shows how to fix it", "dim"))
    for parts in lines[:_LISTED]:
        printer.parts(*parts)
    if len(lines) > _LISTED:
        printer.parts((f"      and {len(lines) - _LISTED} more; -o json lists all", "dim"))


def _lines(seen: NamespaceTraffic) -> list[list[tuple[str, str]]]:
    """Return a line for each workload that received plaintext, or to which plaintext was sent."""
    lines = [
        [
            (f"    {seen.namespace}/{one.workload or '(unknown)'}", "red"),
            (f"  {amount(one)}", ""),
            (f"  from {senders(seen, one.workload, one.kind)}", ""),
        ]
        for one in seen.workloads
        if one.verdict in ("mixed", "plaintext")
    ]
    return lines + [
        [
            (f"    {edge.namespace}/{edge.workload or '(unknown)'}", "yellow"),
            (f"  {amount(edge)}", ""),
            (f"  from {edge.sender or seen.namespace}", ""),
        ]
        for edge in seen.leaving
        if edge.plaintext
    ]
