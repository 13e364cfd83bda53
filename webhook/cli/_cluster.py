"""What the commands that talk to a cluster share: their options, and the connection."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from webhook.cli._errors import BadInputError
from webhook.cluster.connection import Cluster, ClusterError

_F = TypeVar("_F", bound=Callable[..., Any])


def cluster_options(command: _F) -> _F:
    """Add --kubeconfig and --context, as kubectl has them."""
    for option in (
        click.option("--context", metavar="NAME", help="Context of the kubeconfig to use."),
        click.option(
            "--kubeconfig", metavar="FILE", help="Default: KUBECONFIG, then ~/.kube/config, then "
            "the pod's own account.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def namespace_options(command: _F) -> _F:
    """Add -n (many), -A and -l; the command says what happens without."""
    for option in (
        click.option("-l", "--selector", metavar="LABELS", default="", help="Pods with these "
                     "labels alone, as kubectl's -l."),
        click.option("-A", "--all-namespaces", is_flag=True, help="Every namespace."),
        click.option("-n", "--namespace", "namespaces", multiple=True, metavar="NAME",
                     help="This namespace; can be given again."),
    ):  # fmt: skip
        command = option(command)
    return command


def connect(kubeconfig: str | None, context: str | None) -> Cluster:
    """Connect to a cluster; where there is no way to one the command ends with exit code 2."""
    try:
        return Cluster.connect(kubeconfig, context)
    except ClusterError as error:
        raise BadInputError(str(error)) from None
