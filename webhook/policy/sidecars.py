"""What holds for every mesh that puts a proxy container into the pod."""

from collections.abc import Collection, Iterator

from webhook.policy.meshes import Spot
from webhook.policy.workload import Pod

_JOINS = "makes containers members of the proxy's group, whose traffic is not captured"


def before_proxy(pod: Pod) -> Iterator[Spot]:
    """Init containers before a native proxy, all of them beside a classic one."""
    proxy = pod.proxy
    if proxy is None:
        return
    for placed in pod.workload_containers:
        if placed.kind == "initContainers" and (
            proxy.kind == "containers" or placed.index < proxy.index
        ):
            yield Spot(placed.field(), (placed.name,))


def mounts(pod: Pod, volumes: Collection[str], reason: str = "") -> Iterator[Spot]:
    """Workload containers that mount one of the proxy's own volumes."""
    if pod.proxy is None:
        return
    for placed in pod.workload_containers:
        for index, mount in enumerate(placed.container.volume_mounts or ()):
            if mount.name in volumes:
                yield Spot(placed.field(f"volumeMounts[{index}]"), (mount.name,), reason)


def clashes(pod: Pod, uids: set[int], gids: set[int]) -> Iterator[Spot]:
    """Workload containers that run as one of the users or groups which are not captured.

    A member of a group can make a program of its own that runs as the group (chmod g+s).
    """
    whole = pod.spec.security_context
    if whole and whole.fs_group in gids:
        yield Spot("spec.securityContext.fsGroup", (str(whole.fs_group),), _JOINS)
    if whole and (joined := gids.intersection(whole.supplemental_groups or ())):
        yield Spot("spec.securityContext.supplementalGroups",
                   tuple(map(str, sorted(joined))), _JOINS)  # fmt: skip
    for placed in pod.workload_containers:
        own = placed.container.security_context
        for name, key, taken in (
            ("runAsUser", "run_as_user", uids),
            ("runAsGroup", "run_as_group", gids),
        ):
            mine = getattr(own, key) if own else None
            if mine is not None:
                if mine in taken:
                    yield Spot(placed.field(f"securityContext.{name}"), (str(mine),))
            elif whole and getattr(whole, key) in taken:
                yield Spot(
                    f"spec.securityContext.{name}", (str(getattr(whole, key)),),
                    f"makes container {placed.name} run as the proxy",
                )  # fmt: skip


def is_service_in(address: str, namespace: str) -> bool:
    """Whether an address, as `istiod.istio-system.svc:15012`, is a Service of the namespace."""
    parts = address.split(".")
    return len(parts) > 2 and parts[1] == namespace and parts[2].split(":")[0] == "svc"
