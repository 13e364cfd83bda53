"""Values of options that the shell completes: names in a cluster, contexts, files.

The cluster is asked with the options that are typed already. It has a second to answer; where it
does not, or says no, nothing is completed and nothing is said.
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

#: The variable that gives a slow cluster, or a slow login to it, more seconds than one.
SECONDS = "MENDIX_MESH_COMPLETION_SECONDS"
#: Objects of a page: a shell waits for the whole list, so fewer calls are better.
_PAGE = 500


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Complete by the shell's own knowledge of files."""
    return [CompletionItem(incomplete, type="file")]


def _names(ask: Callable[[click.Context], Iterable[str]]) -> Complete:
    """Complete by the names that `ask` gives, if it gives all of them in time."""

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
        # What it costs to load the official client is not the cluster's fault.
        import webhook.cluster.api.login  # noqa: F401, PLC0415

        found: list[str] = []

        def look() -> None:
            # Whatever it is that fails: somebody in the middle of a line has no use for it.
            with suppress(Exception):
                found.extend(sorted(set(ask(ctx))))

        # A call's timeout covers neither name servers nor a login's program: the thread is left
        # behind, and ends with the process.
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        thread.join(_patience())
        names = [] if thread.is_alive() else found
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

    return complete


def _patience() -> float:
    with suppress(ValueError):
        return max(0.0, float(os.environ.get(SECONDS, "1")))
    return 1.0


def _inventory(ctx: click.Context) -> "Inventory":
    """The cluster that the options before name. Not every command that completes needs it."""
    from webhook.cluster.api.connection import Cluster  # noqa: PLC0415
    from webhook.cluster.kinds.inventory import Inventory  # noqa: PLC0415

    cluster = Cluster.connect(ctx.params.get("kubeconfig"), ctx.params.get("context"))
    return Inventory(cluster, page=_PAGE)


@_names
def contexts(ctx: click.Context) -> Iterable[str]:
    """The contexts of the kubeconfig."""
    from webhook.cluster.api.login import contexts as found  # noqa: PLC0415

    return found(ctx.params.get("kubeconfig"))


@_names
def namespaces(ctx: click.Context) -> Iterable[str]:
    """The namespaces of the cluster."""
    return [one.name for one in _inventory(ctx).namespaces()]


@_names
def workloads(ctx: click.Context) -> Iterable[str]:
    """What owns the pods of the namespaces that are typed already, as deployment/shop."""
    from webhook.cluster.kinds.inventory import LivePod  # noqa: PLC0415

    inventory = _inventory(ctx)
    names = ctx.params.get("namespaces") or ()
    pods = (pod for name in names for pod in inventory.pods(name))
    owners = (inventory.workload(pod) for pod in pods if isinstance(pod, LivePod))
    return [f"{owner.kind.lower()}/{owner.name}" for owner in owners]
