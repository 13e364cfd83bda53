"""Rules for every mesh that adds a proxy container to the pod."""

from collections.abc import Callable, Collection, Iterator, Set

from webhook.policy.occurrences import Occurrence
from webhook.policy.pod import images
from webhook.policy.pod.containers import LOADER_ENV, unknown_references
from webhook.policy.pod.memo import remembered
from webhook.policy.pod.workload import Placed, Pod

_JOINS = "adds containers to the proxy's group, whose traffic is not captured"
_ANOTHER_GROUP = "author: use another group"
_OTHER_WEBHOOK = (
    "admin of the webhook that adds it (for example Dynatrace or Datadog): exclude the mesh's "
    "containers"
)


def before_proxy(pod: Pod, rules: str, choices: Collection[str] = ()) -> Iterator[Occurrence]:
    """Yield init containers before a native proxy, or all of them with a classic one.

    Without those that `before_rules` yields. `choices` are the annotations with which an author
    chooses between the two.
    """
    proxy = pod.proxy
    if proxy is None or not pod.has_own_inits:
        return
    native = proxy.kind == "initContainers"
    lasting = {occurrence.field for occurrence in before_rules(pod, rules)}
    fix = ""
    if native:
        fix = f"author, or admin of the webhook that adds it: place it after {proxy.name}"
    elif chosen := next(iter(pod.annotations.keys() & set(choices)), ""):
        fix = f"author: remove the annotation {chosen}, so that the proxy can start first"
    for placed in pod.workload_containers:
        if placed.kind != "initContainers" or (native and placed.index > proxy.index):
            continue
        if placed.field() not in lasting:
            yield Occurrence(placed.field(), (placed.name,), "", fix)


def before_rules(pod: Pod, rules: str) -> Iterator[Occurrence]:
    """Yield init containers that start before the firewall's rules are set, and stay.

    `rules` is the name of the init container that sets them.
    """
    if not pod.has_own_inits:
        return
    first = next((one.index for one in pod.mesh_containers if one.name == rules), -1)
    for placed in pod.workload_containers:
        if (
            placed.kind == "initContainers"
            and placed.index < first
            and placed.container.restart_policy == "Always"
        ):
            yield Occurrence(placed.field(), (placed.name,))


def mounts(pod: Pod, volumes: Collection[str], reason: str = "") -> Iterator[Occurrence]:
    """Yield mounts of the proxy's own volumes in workload containers."""
    for placed in pod.workload_containers:
        for mount in placed.container.volume_mounts or ():
            if mount.name in volumes:
                yield Occurrence(placed.field(f"volumeMounts[{mount.name}]"), (mount.name,), reason)


def clashes(pod: Pod, uids: Set[int], gids: Set[int]) -> Iterator[Occurrence]:
    """Yield workload containers that run as one of the users or groups that are not captured.

    A member of a group can create a program that runs as the group (chmod g+s).
    """
    whole = pod.spec.security_context
    if whole is None:
        contexts = [placed.container.security_context for placed in pod.workload_containers]
        if not any(own and not (own.run_as_user is own.run_as_group is None) for own in contexts):
            return  # the common case
    if whole and whole.fs_group in gids:
        yield Occurrence(
            "spec.securityContext.fsGroup", (str(whole.fs_group),), _JOINS, _ANOTHER_GROUP
        )
    if whole and (joined := gids & set(whole.supplemental_groups or ())):
        yield Occurrence("spec.securityContext.supplementalGroups",
                         tuple(map(str, sorted(joined))), _JOINS, _ANOTHER_GROUP)  # fmt: skip
    for placed in pod.workload_containers:
        own = placed.container.security_context
        for name, key, taken in (
            ("runAsUser", "run_as_user", uids),
            ("runAsGroup", "run_as_group", gids),
        ):
            mine = getattr(own, key) if own else None
            if mine is not None:
                if mine in taken:
                    yield Occurrence(placed.field(f"securityContext.{name}"), (str(mine),))
            elif whole and getattr(whole, key) in taken:
                yield Occurrence(
                    f"spec.securityContext.{name}", (str(getattr(whole, key)),),
                    f"makes container {placed.name} run as the proxy's user or group",
                )  # fmt: skip


def unproven(pod: Pod, key: str, number: int, setting: str) -> Iterator[Occurrence]:
    """Yield containers that may run as the proxy's user or group, because they don't set another.

    `key` is runAsUser or runAsGroup. The proxy of this pod has its own number, as on OpenShift: no
    image was built for that number, but its author may have chosen both.
    """
    field = "run_as_user" if key == "runAsUser" else "run_as_group"
    whole = pod.spec.security_context
    if whole and getattr(whole, field) is not None:
        return
    for placed in pod.workload_containers:
        own = placed.container.security_context
        if own is None or getattr(own, field) is None:
            yield Occurrence(
                placed.field(f"securityContext.{key}"),
                (),
                f"is not set, so the container can run as {number}, the proxy's {key} here",
                f"author: set it; mesh's admin: if the whole mesh uses {number}, set {setting}",
            )


def foreign_changes(placed: Placed, known: frozenset[str]) -> Iterator[Occurrence]:
    """Yield changes to a mesh's container by other webhooks, or by values that are expanded later.

    `known` are the variables that the injector itself refers to.
    """
    container = placed.container
    if container.env_from:
        yield Occurrence(placed.field("envFrom"), fix=_OTHER_WEBHOOK)
    if loads := placed.variables.starting(LOADER_ENV):
        yield Occurrence(placed.field("env"), tuple(sorted(loads)),
                         "makes the proxy load programs that are not its own",
                         _OTHER_WEBHOOK)  # fmt: skip
    args = container.args or ()
    for field, names in (
        ("env", placed.variables.unknown_references(known)),
        ("args", unknown_references(args, known) if "$(" in "".join(args) else ()),
    ):
        if names:
            yield Occurrence(
                placed.field(field),
                tuple(f"$({name})" for name in sorted(names)),
                "refers to variables that are expanded after admission",
                "author: remove $( from the values that the injector copies",
            )


def untrusted_images(
    pod: Pod, is_ours: Callable[[Placed], bool], fix: str = ""
) -> Iterator[Occurrence]:
    """Yield the mesh's containers whose image an update changes, or is not the mesh's.

    Also those with another tag than the proxy's, of the same repository. `fix` is for images of
    other repositories.
    """
    # An update moves no container; two of one name are a mistake, and no change.
    old = pod.old.mesh_containers if pod.old else ()
    before = {(one.kind, one.index): one.container.image or "" for one in old}
    proxy = (pod.proxy and pod.proxy.container.image) or ""
    for placed in pod.mesh_containers:
        image = placed.container.image or ""
        was = before.get((placed.kind, placed.index), image)
        if was != image:
            yield Occurrence(placed.field("image"), (f"{was} -> {image}",),
                             "replaces the image of a mesh container in a running pod",
                             "user or controller that updates it: keep the image; with Tekton: use "
                             "native "
                             "sidecars, which Tekton does not have to stop")  # fmt: skip
        elif not is_ours(placed):
            yield Occurrence(placed.field("image"), (image or "none",), fix=fix)
        elif image != proxy and not before and images.differ(image, proxy):
            yield Occurrence(
                placed.field("image"),
                (image,),
                f"differs from the proxy's image, {proxy}",
                "mesh's admin, or admin of the webhook that changed it: use one version",
            )


def moved_names(pod: Pod, hosts: Collection[str], namespace: str) -> Iterator[Occurrence]:
    """Yield hosts entries and DNS settings that move the names of the control plane.

    They are those of Services in its namespace, and further `hosts`. The hosts file also has the
    pod's own host name, with the pod's own address (kubelet_pods.go managedHostsFileContent).
    """
    entries = [
        ("spec.hostAliases", written)
        for alias in pod.spec.host_aliases or ()
        for written in alias.hostnames or ()
    ]
    if pod.spec.hostname_override:
        entries.append(("spec.hostnameOverride", pod.spec.hostname_override))
    elif not pod.spec.hostname and not pod.template and pod.meta.name and "." in pod.meta.name:
        entries.append(("metadata.name", pod.meta.name[:_LONGEST_HOSTNAME].rstrip("-")))
    for field, written in entries:
        host = written.lower().rstrip(".")
        parts = host.split(".", 3)
        if (len(parts) > 1 and parts[1] == namespace) or host in hosts:
            fix = "author: rename the pod" if field == "metadata.name" else "author: remove it"
            reason = "redirects a host name of the control plane"
            yield Occurrence(field, (written,), reason, fix)
    if pod.spec.dns_policy == "None":
        yield Occurrence("spec.dnsPolicy", ("None",),
                         "lets other DNS servers resolve the control plane's names",
                         "author: use ClusterFirst, and add your servers in dnsConfig",
                         "warning")  # fmt: skip


#: The kubelet shortens the name of a pod to a host name, in characters.
_LONGEST_HOSTNAME = 63


@remembered
def is_service_in(address: str, namespace: str, domain: str) -> bool:
    """Return whether an address is a Service of the namespace.

    `domain` is the cluster's DNS domain. The address, like `istiod.istio-system.svc:15012`, may
    have it, and may end with a dot.
    """
    host, colon, port = address.rpartition(":")
    name = (host if colon and port.isdigit() else address).lower().rstrip(".")
    service, _, rest = name.removesuffix(f".{domain}").partition(".")
    return bool(service) and rest == f"{namespace}.svc"
