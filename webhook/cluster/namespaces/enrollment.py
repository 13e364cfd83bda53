"""Finds out which namespaces are enrolled, and in which mesh and mode.

The webhook configuration decides this for the API server, so it is read: its namespaceSelectors
and the paths of its webhooks. If it can't be read, the namespaces' labels are used.
"""

import datetime
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import ClusterError, StatusError
from webhook.cluster.kinds.inventory import Namespace
from webhook.policy.labels import MESH_LABEL, MESHES, MODE_LABEL
from webhook.policy.namespaces import Values
from webhook.policy.settings import Expression
from webhook.policy.validate import MODES, Mode

#: Written beside the labels by `discover --enroll` and the auditor: RFC 3339.
ENROLLED_AT = "mendix-mesh.io/enrolled-at"
CONFIGURATION = "mendix-mesh"
NOT_INSTALLED = "mendix-mesh has no webhook configuration in this cluster"
_VERSION, _PLURAL = "admissionregistration.k8s.io/v1", "validatingwebhookconfigurations"


class Enrolled(NamedTuple):
    """How a namespace is enrolled."""

    #: linkerd, istio, ambient, or unknown if the label has another value.
    mesh: str
    #: Empty if mendix-mesh is not installed: the labels are there, but nothing applies a mode.
    mode: Mode | Literal[""]
    #: Whether its pods belong to an ingress controller.
    ingress: bool
    #: Since when, if known. Older pods could not join.
    since: datetime.datetime | None


class _Service(msgspec.Struct):
    path: str = ""


class _Client(msgspec.Struct):
    service: _Service | None = None
    url: str | None = None


class _Selector(msgspec.Struct, rename="camel"):
    match_labels: dict[str, str] = {}
    match_expressions: list[Expression] = []


class _Webhook(msgspec.Struct, rename="camel"):
    client_config: _Client
    namespace_selector: _Selector | None = None


class _Meta(msgspec.Struct, rename="camel"):
    uid: str = ""
    creation_timestamp: datetime.datetime | None = None


class _Configuration(msgspec.Struct):
    metadata: _Meta
    webhooks: Annotated[list[_Webhook], msgspec.Meta(min_length=1)]


class _Route(NamedTuple):
    """A webhook: the namespaces for which it is called, and mesh and mode from its path."""

    selector: _Selector
    mesh: str
    mode: Mode
    ingress: bool

    def takes(self, labels: Mapping[str, str]) -> bool:
        """Return whether it is called for a namespace with these labels."""
        return all(
            labels.get(key) == value for key, value in self.selector.match_labels.items()
        ) and all(one.matches(labels) for one in self.selector.match_expressions)


class Enrollment:
    """Knows how namespaces are enrolled."""

    def __init__(self, routes: list[_Route], why: str = "", meta: _Meta | None = None) -> None:
        self._routes = routes
        #: Why only the namespaces' labels are used; empty if the configuration was read.
        self.notes = [f"enrollment is read only from namespace labels: {why}"] if why else []
        #: Whether the webhook configuration exists, or may exist because it can't be read.
        self.is_installed = why != NOT_INSTALLED
        #: The uid of the webhook configuration; empty if there is none, or it can't be read.
        self.uid = meta.uid if meta else ""
        self._installed = meta.creation_timestamp if meta else None

    @classmethod
    def read(cls, cluster: Cluster) -> "Enrollment":
        """Read the webhook configuration. Raises `ClusterError` if the cluster fails."""
        where = path(_VERSION, _PLURAL, name=CONFIGURATION)
        try:
            body = cluster.call("GET", where).body
        except StatusError as error:
            if error.code == 404:
                return cls([], NOT_INSTALLED)
            if error.is_forbidden:
                return cls([], str(error))
            raise
        try:
            return cls.parse(body)
        except msgspec.MsgspecError as error:
            raise ClusterError(
                f"ValidatingWebhookConfiguration {CONFIGURATION} can't be decoded: {error}; "
                "install the chart again"
            ) from None

    @classmethod
    def parse(cls, body: bytes) -> "Enrollment":
        """Decode the webhook configuration from JSON. Raises `MsgspecError`."""
        read = msgspec.json.decode(body, type=_Configuration)
        routes = [route for webhook in read.webhooks if (route := _route(webhook))]
        return cls(routes, meta=read.metadata)

    def of(self, namespace: Namespace) -> Enrolled | None:
        """Return how a namespace is enrolled; None if it is not."""
        if self.notes:
            found = Values("enforce").standing(namespace.labels)
            if found is None:
                return None
            mode = found.mode if self.is_installed else ""
            return Enrolled(found.mesh, mode, False, self._since(namespace))
        for route in self._routes:
            if route.takes(namespace.labels):
                return Enrolled(route.mesh, route.mode, route.ingress, self._since(namespace))
        return None

    def excludes(self, namespace: Namespace) -> bool:
        """Return whether no webhook is called for the namespace, whatever its mesh label is."""
        if self.notes:
            return False
        labels = {**namespace.labels, MESH_LABEL: MESHES[0], MODE_LABEL: "enforce"}
        return not any(route.takes(labels) for route in self._routes)

    def _since(self, namespace: Namespace) -> datetime.datetime | None:
        """Return since when a namespace is enrolled. Older pods could not join.

        From the annotation that `discover --enroll` writes; else from the last write of the mesh
        label's field manager, which can be later than the label. A namespace that is enrolled by
        its name in the chart's values is enrolled since the webhook was installed. The result is
        never before the namespace was created.
        """
        if MESH_LABEL in namespace.labels:
            noted = _time(namespace.annotations.get(ENROLLED_AT))
            since = noted or namespace.labelled(MESH_LABEL)
        else:
            since = self._installed
        return max(since, namespace.created) if since and namespace.created else since


def _route(webhook: _Webhook) -> _Route | None:
    """Return mesh and mode from a webhook's path; None if the path is not ours."""
    where = webhook.client_config
    parts = (where.service.path if where.service else where.url or "").split("/")
    if "validate" not in parts:
        return None
    mesh, mode, *tail = [*parts[parts.index("validate") + 1 :], "", ""]
    known: Mode | None = next((one for one in MODES if one == mode), None)
    if known is None:
        return None
    return _Route(webhook.namespace_selector or _Selector(), mesh, known, tail[0] == "ingress")


def _time(text: str | None) -> datetime.datetime | None:
    """Return the time in an RFC 3339 text; None for any other text."""
    try:
        moment = datetime.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None
