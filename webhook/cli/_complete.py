"""Shell completion for values of options: names in a cluster, contexts and files.

The cluster is chosen by the options that are already typed. If it does not answer within a second,
or denies the request, nothing is completed and no error is shown.
"""

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from webhook.cluster.kinds.inventory import Inventory

Items = list[CompletionItem[str]]
Complete = Callable[[click.Context, click.Parameter, str], Items]

#: Environment variable with the timeout in seconds, for a slow cluster or login. Default 1.
SECONDS = "MENDIX_MESH_COMPLETION_SECONDS"
#: Objects of a page. The shell waits for the whole list, so few large pages are better.
_PAGE = 500


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Let the shell complete file names."""
    return [CompletionItem(incomplete, type="file")]


def _names(ask: Callable[[click.Context], Iterable[str]]) -> Complete:
    """Return a completion function for the names that `ask` returns within the timeout."""

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
        # Loaded before the timeout starts, because loading the official client takes long.
        import webhook.cluster.api.login  # noqa: F401, PLC0415

        found: list[str] = []

        def read() -> None:
            # An error message would disturb the command line that is being typed.
            with suppress(Exception):
                found.extend(sorted(set(ask(ctx))))

        # The timeout of a call covers neither DNS nor a login program. After the timeout the thread
        # continues, and ends with the process.
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        thread.join(_timeout())
        names = [] if thread.is_alive() else found
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

    return complete


def _timeout() -> float:
    with suppress(ValueError):
        return max(0.0, float(os.environ.get(SECONDS, "1")))
    return 1.0


def _inventory(ctx: click.Context) -> "Inventory":
    """Return the inventory of the cluster that the options name."""
    from webhook.cluster.api.connection import Cluster  # noqa: PLC0415
    from webhook.cluster.kinds.inventory import Inventory  # noqa: PLC0415

    cluster = Cluster.connect(ctx.params.get("kubeconfig"), ctx.params.get("context"))
    return Inventory(cluster, page=_PAGE)


@_names
def contexts(ctx: click.Context) -> Iterable[str]:
    """Return the contexts of the kubeconfig."""
    from webhook.cluster.api.login import contexts as found  # noqa: PLC0415

    return found(ctx.params.get("kubeconfig"))


@_names
def namespaces(ctx: click.Context) -> Iterable[str]:
    """Return the namespaces of the cluster."""
    return [one.name for one in _inventory(ctx).namespaces()]


@_names
def workloads(ctx: click.Context) -> Iterable[str]:
    """Return the workloads of the namespaces that are already typed, like `deployment/shop`."""
    from webhook.cluster.kinds.inventory import LivePod  # noqa: PLC0415

    inventory = _inventory(ctx)
    names = ctx.params.get("namespaces") or ()
    pods = (pod for name in names for pod in inventory.pods(name))
    owners = (inventory.workload(pod) for pod in pods if isinstance(pod, LivePod))
    return [f"{owner.kind.lower()}/{owner.name}" for owner in owners]
