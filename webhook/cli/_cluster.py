"""What the commands that talk to a cluster share: their options, and the connection."""

import datetime
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from webhook.cli import _complete
from webhook.cli._errors import BadInputError, warn
from webhook.cli._names import namespace_name
from webhook.cli._settings import parse_settings, read_settings
from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import ClusterError, RefusedError
from webhook.cluster.namespaces.scope import ScopeError
from webhook.policy.settings import Settings

_CONFIG_MAP, _KEY = "mendix-mesh-settings", "settings.yaml"

_F = TypeVar("_F", bound=Callable[..., Any])


def cluster_options(command: _F) -> _F:
    """Add --kubeconfig and --context, as kubectl has them."""
    for option in (
        click.option(
            "--context", metavar="NAME", shell_complete=_complete.contexts,
            help="Context of the kubeconfig to use.",
        ),
        click.option(
            "--kubeconfig", metavar="FILE", shell_complete=_complete.files,
            help="Default: KUBECONFIG, then ~/.kube/config, then the pod's own account.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def namespaces_option(command: _F) -> _F:
    """Add -n, which can be given again; the command says what happens without."""
    return click.option(
        "-n", "--namespace", "namespaces", multiple=True, metavar="NAME", callback=_names,
        shell_complete=_complete.namespaces, help="This namespace; can be given again.",
    )(command)  # fmt: skip


def settings_options(command: _F) -> _F:
    """Add --settings and --release-namespace; `cluster_settings` takes what they say."""
    for option in (
        click.option(
            "--release-namespace", default="mendix-mesh", show_default=True, metavar="NAME",
            shell_complete=_complete.namespaces, help="Where mendix-mesh is installed.",
        ),
        click.option(
            "--settings", type=click.Path(dir_okay=False, path_type=Path),
            help="Settings file; else those of the release.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def _names(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(namespace_name(ctx, param, name) for name in given))


def cluster_settings(
    cluster: Cluster,
    namespace: str,
    given: Path | None = None,
    *,
    options: str = "--settings, or --release-namespace",
) -> Settings:
    """The settings in a given file, else of the release in a namespace, else the defaults.

    Warns of the defaults, with the options that the command has against it, and of exemptions that
    ran out. Raises `ClusterError`; what can't be used ends the command with exit code 2.
    """
    found = read_settings(given) if given else _of_release(cluster, namespace, options)
    warn(*found.lapsed(datetime.date.today()))
    return found


def _of_release(cluster: Cluster, namespace: str, options: str) -> Settings:
    why = "there is none"
    try:
        found = cluster.find(path("v1", "configmaps", namespace, _CONFIG_MAP))
    except RefusedError as error:
        if not error.is_forbidden:
            raise
        found, why = None, str(error)
    text = ((found or {}).get("data") or {}).get(_KEY)
    if text is None:
        warn(
            f"default settings are gone by, not those of ConfigMap {namespace}/{_CONFIG_MAP}: "
            f"{why}; give {options}"
        )
        return Settings()
    return parse_settings(f"ConfigMap {namespace}/{_CONFIG_MAP}", str(text).encode())


def connect(kubeconfig: str | None, context: str | None) -> Cluster:
    """Connect to a cluster; where there is no way to one the command ends with exit code 2."""
    with told_in_one_line():
        return Cluster.connect(kubeconfig, context)


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """End the command with exit code 2 and one line.

    Where the cluster refuses or is not there, and where there is nothing to look at.
    """
    try:
        yield
    except (ClusterError, ScopeError) as error:
        raise BadInputError(str(error)) from None


def interactive() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(question: str) -> None:
    """Ask whether to go on; the command ends where the answer is no, or nobody is there."""
    if not interactive():
        raise BadInputError("nobody is there to be asked: give --yes, or --dry-run")
    click.confirm(question, abort=True, err=True)
