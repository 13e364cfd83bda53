"""Parses names that the user gives."""

import re

import click

#: Log levels of the servers, lowest first.
LOG_LEVELS = ("debug", "info", "warning", "error")
#: kubectl's short names of kinds.
_SHORT = {"po": "pod", "deploy": "deployment", "sts": "statefulset", "ds": "daemonset",
          "rs": "replicaset"}  # fmt: skip


def namespace_name(_ctx: click.Context, _param: click.Parameter, given: str) -> str:
    """Return the name of a namespace. Raises `BadParameter` if Kubernetes does not allow it."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", given):
        raise click.BadParameter(
            f"invalid namespace {given!r}: a name has at most 63 characters a-z, 0-9 and -, and "
            "starts and ends with a letter or digit."
        )
    return given


def workload_names(
    _ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]
) -> frozenset[tuple[str, str]]:
    """Return kinds, in lower case and perhaps plural, and names. Raises `BadParameter`."""
    return frozenset(map(_workload_name, given))


def _workload_name(given: str) -> tuple[str, str]:
    parts = re.fullmatch(r"([A-Za-z][-A-Za-z0-9]*)/([a-z0-9]([-.a-z0-9]*[a-z0-9])?)", given)
    if not parts:
        raise click.BadParameter(f"{given!r} is not KIND/NAME; example: deployment/shop.")
    kind = parts[1].lower()
    return _SHORT.get(kind, kind), parts[2]
