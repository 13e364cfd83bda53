"""Finds Mendix namespaces by their custom resources, and enrolls them.

Only the custom resources identify them: a namespace that Mendix's Global Operator manages has
neither an operator nor a label.
"""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import StatusError
from webhook.cluster.kinds.inventory import Inventory, Namespace
from webhook.cluster.kinds.webhooks import INJECTORS, WebhookEntry
from webhook.cluster.namespaces.enrollment import ENROLLED_AT, Enrollment
from webhook.policy.injection import invalid_inject
from webhook.policy.labels import MESH_LABEL, MESHES, MODE_LABEL
from webhook.policy.mendix import GROUP

#: Custom resources that identify a Mendix namespace.
RESOURCES = ("operatorconfigurations", "storageplans", "mendixapps")
_OPERATOR = "mendix-operator"
_Place = Literal["label", "annotation"]


class _Sign(NamedTuple):
    """A mark of a namespace that a mesh reads, only in this place."""

    mesh: str
    place: _Place
    key: str
    #: The values by which the mesh is guessed, and the one that keeps the namespace out of it.
    values: Sequence[str]
    off: str


_SIGNS = (
    _Sign("linkerd", "annotation", "linkerd.io/inject", ("enabled", "ingress"), "disabled"),
    _Sign("istio", "label", "istio-injection", ("enabled",), "disabled"),
    _Sign("ambient", "label", "istio.io/dataplane-mode", ("ambient",), "none"),
)


class Found(msgspec.Struct, kw_only=True):
    """A Mendix namespace."""

    name: str
    #: Mesh and mode in which it is enrolled; empty if it is not.
    mesh: str = ""
    mode: str = ""
    since: datetime.datetime | None = None
    #: The version of the operator in it. `global` if a Global Operator manages it. `unknown` if
    #: the image has no tag, or reading Deployments is forbidden.
    operator: str = ""
    #: Number of custom resources by plural.
    resources: dict[str, int]
    #: What prevents its pods from joining the mesh, or apps from being created.
    missing: list[str] = []


class Discovery(msgspec.Struct):
    """The Mendix namespaces of a cluster."""

    namespaces: list[Found]
    #: What could not be read, and what that means.
    notes: list[str]
    #: Whether mendix-mesh is installed in the cluster, or may be.
    installed: bool = True


class _Image(msgspec.Struct):
    image: str = ""


class _PodSpec(msgspec.Struct):
    containers: list[_Image] = []


class _Template(msgspec.Struct):
    spec: _PodSpec


class _Spec(msgspec.Struct):
    template: _Template


class _Meta(msgspec.Struct):
    namespace: str = ""


class _Deployment(msgspec.Struct):
    metadata: _Meta
    spec: _Spec


class _Marked(msgspec.Struct):
    metadata: _Meta


def _version_of_group(cluster: Cluster) -> str:
    """Return the apiVersion of Mendix's custom resources; empty if their CRDs do not exist."""
    group = cluster.find(f"/apis/{GROUP}")
    return group["preferredVersion"]["groupVersion"] if group else ""


def served(cluster: Cluster) -> list[str]:
    """Return the paths of the custom resources that identify a namespace, if they are served."""
    version = _version_of_group(cluster)
    listed = cluster.find(f"/apis/{version}") if version else None
    plurals = {one["name"] for one in (listed or {}).get("resources", ())}
    return [path(version, plural) for plural in RESOURCES if plural in plurals]


def mendix_namespaces(cluster: Cluster, only: Sequence[str] = ()) -> dict[str, dict[str, int]]:
    """Return the Mendix namespaces, each with the number of its custom resources by plural.

    With `only`, no others are read. Raises `StatusError` if reading is forbidden.
    """
    version = _version_of_group(cluster)
    if not version:
        return {}
    found: dict[str, dict[str, int]] = {}
    for plural in RESOURCES:
        for namespace in _listed(cluster, version, plural, only):
            counts = found.setdefault(namespace, {})
            counts[plural] = counts.get(plural, 0) + 1
    return dict(sorted(found.items()))


def _listed(cluster: Cluster, version: str, plural: str, only: Sequence[str]) -> Iterator[str]:
    """Yield the namespace of each object; a namespace can be repeated."""
    for where in only or ("",):
        try:
            for raw in cluster.items(path(version, plural, where), partial=True):
                yield msgspec.json.decode(raw, type=_Marked).metadata.namespace
        except StatusError as error:
            # The CRDs of older operators lack some kinds.
            if error.code != 404:
                raise


def discover(cluster: Cluster, only: Sequence[str] = ()) -> Discovery:
    """Return the Mendix namespaces and how they are enrolled. Raises `ClusterError`."""
    marked = mendix_namespaces(cluster, only)
    enrollment = Enrollment.read(cluster)
    inventory = Inventory(cluster)
    for name in only:
        # An enrolled namespace can be changed and closed, also if it is not one of Mendix's.
        if name not in marked and _is_enrolled(inventory, enrollment, name):
            marked[name] = {}
    operators, unread = _operators(cluster, only)
    notes = [*enrollment.notes, *unread]
    found: list[Found] = []
    for name, resources in marked.items():
        try:
            namespace = inventory.namespace(name)
        except StatusError as error:
            if error.code not in (403, 404):
                raise
            notes.append(f"{name}: {error}")
            continue
        version = operators.get(name, "unknown" if unread else "global")
        one = Found(name=name, operator=version, resources=resources)
        enrolled = enrollment.of(namespace)
        if enrolled:
            one.mesh, one.mode, one.since = enrolled.mesh, enrolled.mode, enrolled.since
        known = bool(operators) or bool(unread)
        one.missing = list(_missing(one, namespace, enrollment.is_installed, others=known))
        found.append(one)
    return Discovery(found, notes, enrollment.is_installed)


def _is_enrolled(inventory: Inventory, enrollment: Enrollment, name: str) -> bool:
    try:
        return enrollment.of(inventory.namespace(name)) is not None
    except StatusError as error:
        if error.code not in (403, 404):
            raise
        return False


def _operators(cluster: Cluster, only: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the operator's version by namespace, and a note if Deployments can't be read."""
    found: dict[str, str] = {}
    try:
        for where in only or ("",):
            stored = cluster.items(
                path("apps/v1", "deployments", where), fields=f"metadata.name={_OPERATOR}"
            )
            for raw in stored:
                deployment = msgspec.json.decode(raw, type=_Deployment)
                found[deployment.metadata.namespace] = _version(deployment)
    except StatusError as error:
        if not error.is_forbidden:
            raise
        return found, [f"the versions of the Mendix operators are unknown: {error}"]
    return found, []


def _version(deployment: _Deployment) -> str:
    """Return the tag of the operator's image, without a digest."""
    for container in deployment.spec.template.spec.containers:
        name, _, tag = container.image.partition("@")[0].rpartition(":")
        if name.endswith(_OPERATOR):
            return tag
    return "unknown"


def _missing(found: Found, namespace: Namespace, installed: bool, *, others: bool) -> Iterator[str]:
    label = namespace.labels.get(MESH_LABEL)
    if not installed and found.mesh:
        yield "its labels have no effect: mendix-mesh is not installed"
    if not found.mesh:
        if label is None:
            yield f"not enrolled: run mendix-mesh discover --enroll -n {found.name}"
        else:
            yield f"the label {MESH_LABEL} has no effect: the webhook excludes this namespace"
    elif found.mesh not in MESHES:
        yield f"the label {MESH_LABEL}={label} is not a mesh: set it to {', '.join(MESHES)}"
    elif found.mode not in ("", "enforce"):
        yield f"mode {found.mode} denies nothing: set the label {MODE_LABEL}=enforce"
    if not found.resources:
        yield "no Mendix custom resource"
        return
    if not found.resources.get("storageplans"):
        yield "no StoragePlan: no app can be created here"
    if found.operator == "global" and not others:
        yield f"no Deployment {_OPERATOR} found that manages this namespace"


def guess_mesh(namespace: Namespace) -> str:
    """Return the mesh that a namespace's labels or annotations name; empty if none or several."""
    marks = _marks(namespace)
    named = {one.mesh for one in _SIGNS if marks[one.place].get(one.key) in one.values}
    if not named and namespace.labels.get("istio.io/rev"):
        named = {"istio"}
    return named.pop() if len(named) == 1 else ""


def _marks(namespace: Namespace) -> Mapping[_Place, Mapping[str, str]]:
    return {"label": namespace.labels, "annotation": namespace.annotations}


def opt_out(namespace: Namespace, mesh: str, mutating: Sequence[WebhookEntry] = ()) -> str:
    """Return what keeps a namespace out of a mesh, and how to fix it; empty if nothing does.

    `mutating` are the cluster's mutating webhooks. Without them, only the mesh's own labels and
    annotations count, and not what the injector's selectors exclude.
    """
    marks, labels = _marks(namespace), {**namespace.labels, MESH_LABEL: mesh}
    invalid = mesh == "linkerd" and invalid_inject(namespace.annotations)
    found: list[tuple[_Place, str]] = [
        (one.place, one.key) for one in _SIGNS
        if one.mesh == mesh and (invalid or marks[one.place].get(one.key) == one.off)
    ]  # fmt: skip
    end = INJECTORS.get(mesh)
    injectors = [one for one in mutating if end and one.webhook.name.endswith(end)]
    if not found and injectors and not _is_selected(injectors, labels):
        # The name can't be removed. Any other label may be a revision that no injector serves.
        found = [
            ("label", key) for key in namespace.labels if key != "kubernetes.io/metadata.name"
            and _is_selected(injectors, {k: v for k, v in labels.items() if k != key})
        ]  # fmt: skip
        if not found:
            names = ", ".join(sorted({one.configuration for one in injectors}))
            return f"the selectors of {names} exclude it; correct them, or its labels"
    if not found:
        return ""
    place, key = found[0]
    verb = "label" if place == "label" else "annotate"
    return (
        f"the {place} {key}={marks[place][key]} keeps it out of {mesh}; remove it: kubectl {verb} "
        f"namespace {namespace.name} {key}-"
    )


def _is_selected(injectors: Sequence[WebhookEntry], labels: Mapping[str, str]) -> bool:
    return any(one.webhook.takes(labels) for one in injectors)


class LabelChange(msgspec.Struct, kw_only=True):
    """The labels that enrollment sets on a namespace."""

    name: str
    labels: dict[str, str]
    #: The current mesh and mode labels.
    before: dict[str, str]


def plan(
    cluster: Cluster, found: Sequence[Found], mesh: str | None, mode: str | None
) -> tuple[list[LabelChange], list[str]]:
    """Return the changes that enroll the namespaces, and why some can't be enrolled.

    An enrolled namespace keeps the mesh or mode that is not given. A new one gets the mesh that its
    labels or annotations name, else the mesh of all enrolled namespaces, and mode warn.
    """
    inventory, changes, unclear = Inventory(cluster), [], []
    common: str | None = None
    for one in found:
        namespace = inventory.namespace(one.name)
        old = {k: v for k, v in namespace.labels.items() if k in (MESH_LABEL, MODE_LABEL)}
        known = one.mesh if one.mesh in MESHES else ""
        chosen = mesh or known or guess_mesh(namespace)
        if not chosen:
            if common is None:
                common = _shared_mesh(inventory, Enrollment.read(cluster))
            chosen = common
        if not chosen:
            unclear.append(
                f"namespace {one.name}: its labels and annotations name no mesh, and no other "
                "namespace shows which one to use; give --mesh"
            )
            continue
        wanted = {MESH_LABEL: chosen} if mesh or not known else {}
        new_mode = mode or (None if known else old.get(MODE_LABEL, "warn"))
        wanted |= {MODE_LABEL: new_mode} if new_mode else {}
        if any(old.get(key) != value for key, value in wanted.items()):
            changes.append(LabelChange(name=one.name, labels=wanted, before=old))
    return changes, unclear


def _shared_mesh(inventory: Inventory, enrollment: Enrollment) -> str:
    """Return the mesh of all enrolled namespaces of the cluster; empty if there are several."""
    try:
        found = [enrollment.of(one) for one in inventory.namespaces()]
    except StatusError as error:
        if not error.is_forbidden:
            raise
        return ""
    in_use = {one.mesh for one in found if one and one.mesh in MESHES}
    return in_use.pop() if len(in_use) == 1 else ""


def enroll(cluster: Cluster, change: LabelChange, *, dry_run: bool) -> list[str]:
    """Label a namespace, note when, and return the API server's warnings."""
    stored, warnings = set_labels(cluster, change, dry_run=dry_run)
    joined = change.labels.get(MESH_LABEL)
    if joined and joined != change.before.get(MESH_LABEL) and not dry_run:
        note(cluster, change.name, stored.labelled(MESH_LABEL))
    return warnings


def set_labels(
    cluster: Cluster, change: LabelChange, *, dry_run: bool = False, version: str = ""
) -> tuple[Namespace, list[str]]:
    """Label a namespace. Return it as it is stored, and the API server's warnings.

    With `version`, the namespace must still have this resourceVersion; else `StatusError` 409.
    """
    where = path("v1", "namespaces", name=change.name)
    condition = {"resourceVersion": version} if version else {}
    stored, warnings = cluster.patch(
        where, {"metadata": {"labels": change.labels, **condition}}, dry_run=dry_run
    )
    return msgspec.convert(stored, Namespace), warnings


def note(cluster: Cluster, name: str, since: datetime.datetime | None) -> None:
    """Store the time of a namespace's enrollment in an annotation, by the API server's clock.

    managedFields lose it as soon as the same user sets another label. The annotation stays if the
    enrollment ends: then it shows that the namespace was enrolled.
    """
    if since:
        text = since.isoformat(timespec="seconds").replace("+00:00", "Z")
        where = path("v1", "namespaces", name=name)
        cluster.patch(where, {"metadata": {"annotations": {ENROLLED_AT: text}}})
