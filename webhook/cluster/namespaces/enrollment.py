"""Which namespaces are enrolled, in which mesh and how strictly: what the API server routes by.

The webhook configuration is what decides, so it is what is read: its namespaceSelectors, and the
paths that they lead to. Where it can't be read, the namespaces' labels are all there is.
"""

import datetime
from typing import Annotated, NamedTuple

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import ClusterError, RefusedError
from webhook.cluster.kinds.inventory import Namespace
from webhook.policy.labels import MESH_LABEL
from webhook.policy.namespaces import Values
from webhook.policy.settings import Expression
from webhook.policy.validate import MODES, Mode

#: Written beside the labels by `discover --enroll`: RFC 3339.
ENROLLED_AT = "mendix-mesh.io/enrolled-at"
CONFIGURATION = "mendix-mesh"
_VERSION, _PLURAL = "admissionregistration.k8s.io/v1", "validatingwebhookconfigurations"


class Enrolled(NamedTuple):
    """How a namespace is enrolled."""

    #: linkerd, istio, ambient, or unknown where the label has another value.
    mesh: str
    mode: Mode
    #: Its pods are an ingress controller's.
    ingress: bool
    #: Since when, as far as is known; pods that are older had no chance to join.
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
    """A webhook: which namespaces it is called for, and what its path says."""

    selector: _Selector
    mesh: str
    mode: Mode
    ingress: bool

    def takes(self, namespace: Namespace) -> bool:
        labels = namespace.labels
        return all(
            labels.get(key) == value for key, value in self.selector.match_labels.items()
        ) and all(one.matches(labels) for one in self.selector.match_expressions)


class Enrollment:
    """Tells how namespaces are enrolled."""

    def __init__(self, routes: list[_Route], why: str = "", meta: _Meta | None = None) -> None:
        self._routes = routes
        #: Why the namespaces' labels alone are gone by; none where the configuration was read.
        self.notes = [f"enrollment is told by labels alone: {why}"] if why else []
        #: The uid of the webhook configuration; empty where there is none, or it can't be read.
        self.uid = meta.uid if meta else ""
        self._installed = meta.creation_timestamp if meta else None

    @classmethod
    def read(cls, cluster: Cluster) -> "Enrollment":
        """Read the webhook configuration. Raises `ClusterError` where the cluster is not there."""
        where = path(_VERSION, _PLURAL, name=CONFIGURATION)
        try:
            body = cluster.call("GET", where).body
        except RefusedError as error:
            if error.code == 404:
                return cls([], "mendix-mesh is not installed")
            if error.is_forbidden:
                return cls([], str(error))
            raise
        try:
            return cls.parse(body)
        except msgspec.MsgspecError as error:
            raise ClusterError(f"{where} is not what mendix-mesh installs: {error}") from None

    @classmethod
    def parse(cls, body: bytes) -> "Enrollment":
        """Take the webhook configuration from its JSON. Raises `MsgspecError`."""
        read = msgspec.json.decode(body, type=_Configuration)
        routes = [route for webhook in read.webhooks if (route := _route(webhook))]
        return cls(routes, meta=read.metadata)

    def of(self, namespace: Namespace) -> Enrolled | None:
        """How a namespace is enrolled; None where it is not."""
        if self.notes:
            told = Values("enforce").standing(namespace.labels)
            return Enrolled(*told, False, self._since(namespace)) if told else None
        for route in self._routes:
            if route.takes(namespace):
                return Enrolled(route.mesh, route.mode, route.ingress, self._since(namespace))
        return None

    def _since(self, namespace: Namespace) -> datetime.datetime | None:
        """Since when a namespace is enrolled; pods that are older had no chance to join.

        By our annotation, which `discover --enroll` writes; else by when the mesh label's manager
        last wrote, which may be later than the label; else, enrolled by its name in the chart's
        values, since the webhook is installed. Never before the namespace was created.
        """
        if MESH_LABEL in namespace.labels:
            noted = _time(namespace.annotations.get(ENROLLED_AT))
            since = noted or namespace.labelled(MESH_LABEL)
        else:
            since = self._installed
        return max(since, namespace.created) if since and namespace.created else since


def _route(webhook: _Webhook) -> _Route | None:
    """What a webhook's path says; None where it is no path of ours."""
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
    """A moment as RFC 3339 writes it; None for any other text."""
    try:
        moment = datetime.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None
