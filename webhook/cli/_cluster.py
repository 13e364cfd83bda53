"""Options and connection of the commands that talk to a cluster."""

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
from webhook.cluster.api.errors import ClusterError, StatusError
from webhook.cluster.namespaces.scope import ScopeError
from webhook.policy.settings import Settings

_CONFIG_MAP, _KEY = "mendix-mesh-settings", "settings.yaml"

_F = TypeVar("_F", bound=Callable[..., Any])


def cluster_options(command: _F) -> _F:
    """Add --kubeconfig and --context, like in kubectl."""
    for option in (
        click.option(
            "--context", metavar="NAME", shell_complete=_complete.contexts,
            help="Context of the kubeconfig. Default: the current context.",
        ),
        click.option(
            "--kubeconfig", metavar="FILE", shell_complete=_complete.files,
            help="Default: $KUBECONFIG, then ~/.kube/config, then the pod's service account.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def namespaces_option(command: _F) -> _F:
    """Add -n, which can be given several times."""
    return click.option(
        "-n", "--namespace", "namespaces", multiple=True, metavar="NAME", callback=_names,
        shell_complete=_complete.namespaces,
        help="Only this namespace. Can be given several times.",
    )(command)  # fmt: skip


def settings_options(command: _F) -> _F:
    """Add --settings and --release-namespace, the parameters of `cluster_settings`."""
    for option in (
        click.option(
            "--release-namespace", default="mendix-mesh", show_default=True, metavar="NAME",
            shell_complete=_complete.namespaces,
            help="Namespace in which mendix-mesh is installed.",
        ),
        click.option(
            "--settings", type=click.Path(dir_okay=False, path_type=Path),
            help="Settings file. Default: the settings of the installed release.",
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
    """Return the settings of a given file, else of the release in a namespace, else the defaults.

    Warns if the defaults are used, naming the options that avoid it, and if exemptions have
    expired. Raises `ClusterError`. Invalid settings end the command with exit code 2.
    """
    found = read_settings(given) if given else _of_release(cluster, namespace, options)
    warn(*found.lapsed(datetime.date.today()))
    return found


def _of_release(cluster: Cluster, namespace: str, options: str) -> Settings:
    why = "it does not exist"
    try:
        found = cluster.find(path("v1", "configmaps", namespace, _CONFIG_MAP))
    except StatusError as error:
        if not error.is_forbidden:
            raise
        found, why = None, str(error)
    text = ((found or {}).get("data") or {}).get(_KEY)
    if text is None:
        warn(
            f"using the default settings, because ConfigMap {namespace}/{_CONFIG_MAP} could not be "
            f"read: {why}. Results may differ from the webhook's; set {options}"
        )
        return Settings()
    return parse_settings(f"ConfigMap {namespace}/{_CONFIG_MAP}", str(text).encode())


def connect(kubeconfig: str | None, context: str | None) -> Cluster:
    """Connect to a cluster. If that fails, the command ends with exit code 2."""
    with cluster_errors():
        return Cluster.connect(kubeconfig, context)


@contextmanager
def cluster_errors() -> Iterator[None]:
    """Turn errors of the cluster, and a selection without namespaces, into exit code 2.

    The error is printed in one line, without a traceback.
    """
    try:
        yield
    except (ClusterError, ScopeError) as error:
        raise BadInputError(str(error)) from None


def interactive() -> bool:
    """Return whether standard input is a terminal, so that the user can confirm."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(question: str) -> None:
    """Ask the user to confirm. The command ends if the answer is no or there is no terminal."""
    if not interactive():
        raise BadInputError(
            "can't ask for confirmation, because standard input is not a terminal; "
            "give --yes or --dry-run"
        )
    click.confirm(question, abort=True, err=True)
