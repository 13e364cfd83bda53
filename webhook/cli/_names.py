"""Names that a user gives."""

import re

import click

#: Severities of what a server logs, the least first.
LOG_LEVELS = ("debug", "info", "warning", "error")


def namespace_name(_ctx: click.Context, _param: click.Parameter, given: str) -> str:
    """The name of a namespace as Kubernetes allows it; raises `BadParameter` on any other."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", given):
        raise click.BadParameter(
            f"{given!r} is no namespace: a-z, 0-9 and - make one, 63 of them at most."
        )
    return given
