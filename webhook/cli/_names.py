"""Names that a user gives."""

import re

import click

#: Severities of what a server logs, the least first.
LOG_LEVELS = ("debug", "info", "warning", "error")
#: How kubectl lets people write kinds.
_SHORT = {"po": "pod", "deploy": "deployment", "sts": "statefulset", "ds": "daemonset",
          "rs": "replicaset"}  # fmt: skip


def namespace_name(_ctx: click.Context, _param: click.Parameter, given: str) -> str:
    """The name of a namespace as Kubernetes allows it; raises `BadParameter` on any other."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", given):
        raise click.BadParameter(
            f"{given!r} is no namespace: a-z, 0-9 and - make one, 63 of them at most."
        )
    return given


def workload_names(
    _ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]
) -> frozenset[tuple[str, str]]:
    """Kinds, in lower case and in the singular, and names; raises `BadParameter` on others."""
    return frozenset(map(_workload_name, given))


def _workload_name(given: str) -> tuple[str, str]:
    kind, slash, name = given.partition("/")
    kind = kind.lower()
    if not (slash and re.fullmatch(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?", name) and kind.isalpha()):
        raise click.BadParameter(f"{given!r} is no KIND/NAME, as deployment/shop is one.")
    return _SHORT.get(kind, kind.removesuffix("s")), name
