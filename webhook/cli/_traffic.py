"""Options of the commands that ask Prometheus, and how traffic is printed."""

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
#: Plaintext workloads that are listed; -o json has all.
_LISTED = 20
_STYLES: dict[Verdict, str] = {
    "mtls": "green", "mixed": "bold red", "plaintext": "bold red", "unknown": "yellow",
    "no-data": "dim",
}  # fmt: skip


def _seconds(ctx: click.Context, param: click.Parameter, given: str) -> int:
    """A time as Prometheus writes it, `30m`, `1h`, `7d`; exit code 2 where it is none."""
    match = re.fullmatch(r"([1-9]\d{0,5})([smhd])", given)
    if not match:
        raise click.BadParameter("give a number and s, m, h or d, as 1h", ctx, param)
    return int(match[1]) * _UNITS[match[2]]


def prometheus_options(command: _F) -> _F:
    """Add --prometheus and what belongs to it."""
    file = click.Path(dir_okay=False, path_type=Path)
    for option in (
        click.option(
            "--prometheus-window", "window", callback=_seconds, default="1h", show_default=True,
            metavar="TIME",
            help="How far the traffic is looked back over.",
        ),
        click.option("--prometheus-timeout", "patience", type=click.FloatRange(1, 300), default=10,
                     show_default=True, metavar="SECONDS", help="How long an answer may take."),
        click.option("--prometheus-ca-file", "ca_file", type=file, metavar="FILE",
                     help="The CA of Prometheus; else the system's."),
        click.option("--prometheus-token-file", "token_file", type=file, metavar="FILE",
                     help="A bearer token for Prometheus."),
        click.option("--prometheus", "prometheus", metavar="URL",
                     help="Also tell how much of the traffic was mutual TLS, by the meshes' "
                     "metrics there."),
    ):  # fmt: skip
        command = option(command)
    return command


def reach(
    url: str | None, token_file: Path | None, ca_file: Path | None, patience: float
) -> Prometheus | None:
    """The Prometheus of these options, if there is one; exit code 2 where they can't be used."""
    if not url:
        if token_file or ca_file:
            raise click.UsageError("a token or CA of Prometheus needs --prometheus URL")
        return None
    try:
        return Prometheus(url, token_file=token_file, ca_file=ca_file, timeout=patience)
    except PrometheusError as error:
        raise BadInputError(str(error)) from None


def cell(traffic: Traffic, namespace: str) -> Styled:
    """The MTLS cell of a namespace."""
    seen = traffic.namespaces.get(namespace)
    if seen is None:
        return Styled("?" if traffic.error else "-", "yellow" if traffic.error else "dim")
    text = "no data" if seen.verdict == "no-data" else f"{seen.share}%"
    return Styled(text, _STYLES[seen.verdict])


def show(printer: Printer, traffic: Traffic) -> None:
    """The workloads that took plaintext, and from whom; what leaves the namespaces in plaintext."""
    lines = [line for seen in traffic.namespaces.values() for line in _lines(seen)]
    if lines:
        printer.parts()
        title = f"without mutual TLS, in the last {span(traffic.window)}:"
        printer.parts((title, "bold"), (" docs/traffic.md says how it is mended", "dim"))
    for parts in lines[:_LISTED]:
        printer.parts(*parts)
    if len(lines) > _LISTED:
        printer.parts((f"      and {len(lines) - _LISTED} more: -o json has all", "dim"))


def _lines(seen: NamespaceTraffic) -> list[list[tuple[str, str]]]:
    """A line for each workload that took plaintext, and each to which plaintext went."""
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
