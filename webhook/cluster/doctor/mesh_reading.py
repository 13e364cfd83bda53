"""Reading a mesh's own configuration: its ConfigMaps, as its webhook configurations name them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from webhook.cluster.api.connection import Cluster, Json, path
from webhook.cluster.api.errors import StatusError
from webhook.cluster.doctor import mesh_settings
from webhook.cluster.doctor.mesh_settings import Installed, Revision
from webhook.cluster.judge.outdated import parsed
from webhook.cluster.kinds import webhooks
from webhook.cluster.kinds.webhooks import INJECTORS, WebhookEntry
from webhook.policy.settings import Settings

#: The label that istioctl sets on a configuration that a tag has replaced (istioctl/pkg/tag).
_DEACTIVATED = "istio.io/deactivated"
_REVISION, _TAG = "istio.io/rev", "istio.io/tag"
_UNNAMED = ("", "default")

Mesh = Literal["linkerd", "istio"]
#: For each mesh of a namespace, the mesh whose configuration applies to it.
CONFIGURED_BY: Mapping[str, Mesh] = {"linkerd": "linkerd", "istio": "istio", "ambient": "istio"}
#: Returns one object, or None if it does not exist. Raises `StatusError`.
Find = Callable[[str], Json | None]


class Unread(NamedTuple):
    """An object that should be there and was not read."""

    what: str
    #: None if it is not there, or can't be decoded.
    error: StatusError | None = None

    def __str__(self) -> str:
        """Return the object, and why it was not read."""
        return f"{self.what} could not be read: {self.error or 'it is missing or has no values'}"


class Reading(NamedTuple):
    """What was read of one mesh; `installed` is None if nothing could be read."""

    installed: Installed | None
    unread: list[Unread]


def active(entries: Sequence[WebhookEntry], mesh: str) -> list[WebhookEntry]:
    """Return the webhooks of a mesh's injectors, without those that a tag has replaced."""
    end = INJECTORS.get(mesh)
    return [
        entry
        for entry in entries
        if end
        and entry.webhook.name.endswith(end)
        and _DEACTIVATED not in entry.webhook.namespace_selector.match_labels
    ]


def revisions(entries: Sequence[WebhookEntry]) -> dict[str, str]:
    """Return the revisions and tags that pods can ask for, each with the revision behind it.

    The unnamed one is `default`.
    """
    return {
        entry.labels.get(_TAG) or entry.labels.get(_REVISION) or "default": (
            entry.labels.get(_REVISION) or "default"
        )
        for entry in active(entries, "istio")
    }


def everything(cluster: Cluster, settings: Settings, meshes: Iterable[Mesh]) -> list[Reading]:
    """Read these meshes. Without the right to list webhooks, use the namespaces in the settings.

    Raises `ClusterError` if the cluster fails.
    """
    plural = "mutatingwebhookconfigurations"
    unread, entries = [], []
    try:
        where = path("admissionregistration.k8s.io/v1", plural)
        entries = webhooks.entries(cluster.items(where), plural)
    except StatusError as error:
        if not error.is_forbidden:
            raise
        unread.append(Unread("MutatingWebhookConfigurations", error))
    return [Reading(None, unread), *(read(m, cluster.find, entries, settings) for m in meshes)]


def read(mesh: Mesh, find: Find, entries: Sequence[WebhookEntry], settings: Settings) -> Reading:
    """Read the configuration of a mesh; `entries` are the cluster's mutating webhooks.

    What is forbidden is in `unread`. Raises `ClusterError` if the cluster fails.
    """
    reader = _Reader(find)
    own = active(entries, mesh)
    if mesh == "linkerd":
        return _linkerd(reader, own, settings)
    return _istio(reader, own, settings)


def _linkerd(reader: "_Reader", own: Sequence[WebhookEntry], settings: Settings) -> Reading:
    where = _namespace(own) or settings.linkerd.control_plane_namespace
    title = f"ConfigMap {where}/linkerd-config"
    data = reader.data(where, "linkerd-config", required=bool(own))
    values = parsed(data.get("values", ""))
    if not values:
        if data:
            reader.unread.append(Unread(title))
        return Reading(None, reader.unread)
    return Reading(mesh_settings.linkerd(values, title, where), reader.unread)


def _istio(reader: "_Reader", own: Sequence[WebhookEntry], settings: Settings) -> Reading:
    names = revisions(own)
    first = names.get(settings.istio.revision or "default") or next(iter(names.values()), "")
    found = []
    for revision in dict.fromkeys([first, *names.values()]):
        entries = [one for one in own if (one.labels.get(_REVISION) or "default") == revision]
        where = _namespace(entries) or settings.istio.control_plane_namespace
        one = _revision(reader, "" if revision in _UNNAMED else revision, where, bool(own))
        if one.values or one.config or one.mesh:
            found.append(one)
    if not found:
        return Reading(None, reader.unread)
    titles = sorted({entry.configuration for entry in own})
    source = f"MutatingWebhookConfiguration {', '.join(titles)}"
    installed = mesh_settings.istio(found, names, source)
    return Reading(installed, reader.unread)


def _revision(reader: "_Reader", name: str, where: str, required: bool) -> Revision:
    suffix = f"-{name}" if name else ""
    injector = reader.data(where, f"istio-sidecar-injector{suffix}", required=required)
    # The chart can leave it out: istiod then has its defaults.
    mesh = reader.data(where, f"istio{suffix}", required=False)
    return Revision(
        name,
        where,
        parsed(injector.get("values", "")),
        parsed(injector.get("config", "")),
        parsed(mesh.get("mesh", "")),
    )


def _namespace(entries: Sequence[WebhookEntry]) -> str:
    """Return the namespace of the injectors; empty if they are called by a URL."""
    services = (entry.webhook.client_config.service for entry in entries)
    return next((service.namespace for service in services if service), "")


class _Reader:
    """Reads ConfigMaps, and records those that it could not read."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self.unread: list[Unread] = []

    def data(self, namespace: str, name: str, *, required: bool) -> Mapping[str, str]:
        """Return the data of a ConfigMap; empty if it does not exist or reading it is forbidden."""
        title = f"ConfigMap {namespace}/{name}"
        try:
            found = self._find(path("v1", "configmaps", namespace, name))
        except StatusError as error:
            if not error.is_forbidden:
                raise
            self.unread.append(Unread(title, error))
            return {}
        data: Mapping[str, Any] = (found or {}).get("data") or {}
        if not data and required:
            self.unread.append(Unread(title))
        return {key: value for key, value in data.items() if isinstance(value, str)}


def differing(
    reading: Reading, mesh: str, settings: Settings
) -> Iterator[mesh_settings.Difference]:
    """Yield the settings that differ from what was read, if they apply to the mesh."""
    facts = reading.installed.facts if reading.installed else []
    if mesh == "ambient":
        facts = [fact for fact in facts if fact.setting in mesh_settings.AMBIENT]
    yield from mesh_settings.differences(facts, settings)
