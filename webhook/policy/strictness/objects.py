"""The meshes' policy objects: the few fields that decide about plaintext.

Null and missing are the same, as they are in Go. They are decoded apart from the kinds that bear
pods: a pod's review must not pay for them.
"""

import datetime
from collections.abc import Mapping
from typing import Any

import msgspec

from webhook.policy.objects import UndecodableError
from webhook.policy.settings import Expression


class _Fields(msgspec.Struct, frozen=True, rename="camel"):
    """Base of all: camelCase on the wire, unknown fields skipped."""


class Meta(_Fields, frozen=True, rename="camel"):
    """metadata of a policy object, or of a namespace."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: datetime.datetime | None = None


class Labels(_Fields, frozen=True, rename="camel"):
    """A label selector; Istio's has matchLabels alone. An empty one selects all."""

    match_labels: dict[str, str] | None = None
    match_expressions: list[Expression] | None = None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet every requirement."""
        wanted = self.match_labels or {}
        return all(labels.get(key) == value for key, value in wanted.items()) and all(
            one.matches(labels) for one in self.match_expressions or ()
        )


class Tls(_Fields, frozen=True, rename="camel"):
    """A block that has a TLS mode, of a PeerAuthentication or a DestinationRule."""

    mode: str | None = None


class PeerSpec(_Fields, frozen=True, rename="camel"):
    """spec of a PeerAuthentication."""

    selector: Labels | None = None
    mtls: Tls | None = None
    port_level_mtls: dict[str, Tls | None] | None = None


class PeerAuthentication(_Fields, frozen=True, rename="camel"):
    """security.istio.io: which clients a workload takes in."""

    metadata: Meta = Meta()
    spec: PeerSpec = PeerSpec()


class Port(_Fields, frozen=True, rename="camel"):
    """A port by its number."""

    number: int = 0


class PortPolicy(_Fields, frozen=True, rename="camel"):
    """What a DestinationRule says of one port."""

    port: Port | None = None
    tls: Tls | None = None


class TrafficPolicy(_Fields, frozen=True, rename="camel"):
    """What a DestinationRule says of a host, or of a subset of it."""

    tls: Tls | None = None
    port_level_settings: list[PortPolicy] | None = None


class Subset(_Fields, frozen=True, rename="camel"):
    """Some of a host's endpoints."""

    name: str = ""
    traffic_policy: TrafficPolicy | None = None


class RuleSpec(_Fields, frozen=True, rename="camel"):
    """spec of a DestinationRule."""

    host: str = ""
    #: The clients that it is about; all where there is none.
    workload_selector: Labels | None = None
    traffic_policy: TrafficPolicy | None = None
    subsets: list[Subset] | None = None


class DestinationRule(_Fields, frozen=True, rename="camel"):
    """networking.istio.io: how clients in the mesh speak to a host."""

    metadata: Meta = Meta()
    spec: RuleSpec = RuleSpec()


class ServerSpec(_Fields, frozen=True, rename="camel"):
    """spec of a Server; one with an externalWorkloadSelector selects no pods."""

    pod_selector: Labels | None = None
    port: int | str = 0
    access_policy: str | None = None


class Server(_Fields, frozen=True, rename="camel"):
    """policy.linkerd.io: a port of some pods, which is closed to all that nothing authorizes."""

    metadata: Meta = Meta()
    spec: ServerSpec = ServerSpec()


class Named(_Fields, frozen=True, rename="camel"):
    """A Server by its name, or Servers by their labels."""

    name: str | None = None
    selector: Labels | None = None


class Network(_Fields, frozen=True, rename="camel"):
    """A network, as a CIDR."""

    cidr: str = ""


class Client(_Fields, frozen=True, rename="camel"):
    """Whom a ServerAuthorization lets in; its meshTLS is never plaintext."""

    unauthenticated: bool | None = None
    #: Where they may call from; anywhere where there are none.
    networks: list[Network] | None = None


class ServerAuthorizationSpec(_Fields, frozen=True, rename="camel"):
    """spec of a ServerAuthorization."""

    server: Named = Named()
    client: Client = Client()


class ServerAuthorization(_Fields, frozen=True, rename="camel"):
    """policy.linkerd.io: who may use which Servers (the older way)."""

    metadata: Meta = Meta()
    spec: ServerAuthorizationSpec = ServerAuthorizationSpec()


class Reference(_Fields, frozen=True, rename="camel"):
    """Another object; without a namespace it is in the same one."""

    kind: str = ""
    name: str = ""
    namespace: str | None = None


class AuthorizationPolicySpec(_Fields, frozen=True, rename="camel"):
    """spec of Linkerd's AuthorizationPolicy: all that is required must hold."""

    target_ref: Reference = Reference()
    required_authentication_refs: list[Reference] | None = None


class AuthorizationPolicy(_Fields, frozen=True, rename="camel"):
    """policy.linkerd.io: who may use a Server, a route or all Servers of a namespace."""

    metadata: Meta = Meta()
    spec: AuthorizationPolicySpec = AuthorizationPolicySpec()


class NetworkAuthenticationSpec(_Fields, frozen=True, rename="camel"):
    """spec of a NetworkAuthentication."""

    networks: list[Network] | None = None


class NetworkAuthentication(_Fields, frozen=True, rename="camel"):
    """policy.linkerd.io: clients by their address alone."""

    metadata: Meta = Meta()
    spec: NetworkAuthenticationSpec = NetworkAuthenticationSpec()


class Namespace(_Fields, frozen=True, rename="camel"):
    """A namespace: its annotations are what the injectors copy to new pods."""

    metadata: Meta = Meta()


class Kind(msgspec.Struct, frozen=True):
    """Where the API server has a kind: its group, the versions that may have it, newest first."""

    type: type[Any]
    group: str
    plural: str
    versions: tuple[str, ...]

    @property
    def name(self) -> str:
        """The kind's name."""
        return str(self.type.__name__)


#: MeshTLSAuthentication is not among them: what requires it lets no plaintext in, whoever it names.
PEER_AUTHENTICATION = Kind(
    PeerAuthentication, "security.istio.io", "peerauthentications", ("v1", "v1beta1")
)
DESTINATION_RULE = Kind(
    DestinationRule, "networking.istio.io", "destinationrules", ("v1", "v1beta1", "v1alpha3")
)
SERVER = Kind(Server, "policy.linkerd.io", "servers", ("v1beta3", "v1beta2", "v1beta1"))
SERVER_AUTHORIZATION = Kind(
    ServerAuthorization, "policy.linkerd.io", "serverauthorizations", ("v1beta1",)
)
AUTHORIZATION_POLICY = Kind(
    AuthorizationPolicy, "policy.linkerd.io", "authorizationpolicies", ("v1alpha1",)
)
NETWORK_AUTHENTICATION = Kind(
    NetworkAuthentication, "policy.linkerd.io", "networkauthentications", ("v1alpha1",)
)


def decode(data: bytes | msgspec.Raw, kind: type[Any]) -> Any:
    """Decode one policy object. Raises `UndecodableError` on what is not one."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableError(str(error)) from None
