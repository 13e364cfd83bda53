"""The meshes' policy objects: the few fields that decide about plaintext.

Null and missing are the same, as in Go. They are decoded separately from the kinds with pods, so
that a pod's review does not pay for them. Lists of hosts, addresses and ports have a maximum
length, so that the work on an object is limited. A longer list is an error.
"""

import datetime
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from webhook.policy.pod.objects import UndecodableError
from webhook.policy.settings import Expression

_T = TypeVar("_T")
#: The CRDs of Istio 1.31 allow 256 hosts, addresses and ports, and 4096 endpoints.
_Some = Annotated[list[_T], msgspec.Meta(max_length=1024)]
_Many = Annotated[list[_T], msgspec.Meta(max_length=4096)]
#: Lists that contain further lists, or are in one.
_Few = Annotated[list[_T], msgspec.Meta(max_length=64)]


class _Fields(msgspec.Struct, frozen=True, rename="camel"):
    """Base of all: camelCase in JSON, unknown fields are skipped."""


class Meta(_Fields, frozen=True, rename="camel"):
    """metadata of a policy object, or of a namespace."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: datetime.datetime | None = None


class Labels(_Fields, frozen=True, rename="camel"):
    """A label selector; Istio's has only matchLabels. An empty one selects all."""

    match_labels: dict[str, str] | None = None
    match_expressions: list[Expression] | None = None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether the labels meet every requirement."""
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
    """security.istio.io: which clients a workload accepts."""

    metadata: Meta = Meta()
    spec: PeerSpec = PeerSpec()


class Port(_Fields, frozen=True, rename="camel"):
    """A port by its number."""

    number: int = 0


class PortPolicy(_Fields, frozen=True, rename="camel"):
    """The settings of a DestinationRule for one port."""

    port: Port | None = None
    tls: Tls | None = None


class TrafficPolicy(_Fields, frozen=True, rename="camel"):
    """The settings of a DestinationRule for a host, or for a subset of it."""

    tls: Tls | None = None
    port_level_settings: list[PortPolicy] | None = None


class Subset(_Fields, frozen=True, rename="camel"):
    """Some of a host's endpoints."""

    name: str = ""
    traffic_policy: TrafficPolicy | None = None


class RuleSpec(_Fields, frozen=True, rename="camel"):
    """spec of a DestinationRule."""

    host: str = ""
    #: The clients that it applies to; None means all.
    workload_selector: Labels | None = None
    #: The namespaces whose clients it applies to; None means all.
    export_to: _Some[str] | None = None
    traffic_policy: TrafficPolicy | None = None
    subsets: list[Subset] | None = None


class DestinationRule(_Fields, frozen=True, rename="camel"):
    """networking.istio.io: how clients in the mesh call a host."""

    metadata: Meta = Meta()
    spec: RuleSpec = RuleSpec()


class Workloads(_Fields, frozen=True, rename="camel"):
    """A selector of workloads in Istio's networking kinds; an empty one selects all."""

    labels: dict[str, str] | None = None


class Ingress(_Fields, frozen=True, rename="camel"):
    """A port on which a sidecar accepts traffic."""

    capture_mode: str | None = None
    #: The workload's own TLS, instead of the mesh's.
    tls: Tls | None = None


class Egress(_Fields, frozen=True, rename="camel"):
    """A port on which a sidecar accepts its workload's traffic, and the hosts that it knows."""

    #: None means every port that no other entry has.
    port: Port | None = None
    bind: str | None = None
    capture_mode: str | None = None
    #: As NAMESPACE/NAME.
    hosts: _Some[str] | None = None


class OutboundTrafficPolicy(_Fields, frozen=True, rename="camel"):
    """What happens with calls to hosts that the sidecar does not know."""

    mode: str | None = None


class SidecarSpec(_Fields, frozen=True, rename="camel"):
    """spec of a Sidecar."""

    workload_selector: Workloads | None = None
    ingress: _Some[Ingress] | None = None
    egress: _Few[Egress] | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None


class Sidecar(_Fields, frozen=True, rename="camel"):
    """networking.istio.io: what the sidecars of a namespace accept, and which hosts they know."""

    metadata: Meta = Meta()
    spec: SidecarSpec = SidecarSpec()


class Service(_Fields, frozen=True, rename="camel"):
    """A Service of Kubernetes, of which Istio reads an annotation."""

    metadata: Meta = Meta()


class Endpoint(_Fields, frozen=True, rename="camel"):
    """A workload that is not a pod, by its address: of a ServiceEntry, or a WorkloadEntry."""

    address: str = ""
    labels: dict[str, str] | None = None
    service_account: str | None = None


class ServicePort(_Fields, frozen=True, rename="camel"):
    """A port of a ServiceEntry."""

    number: int = 0
    protocol: str | None = None
    target_port: int | None = None


class ServiceEntrySpec(_Fields, frozen=True, rename="camel"):
    """spec of a ServiceEntry."""

    hosts: _Some[str] | None = None
    addresses: _Some[str] | None = None
    ports: _Some[ServicePort] | None = None
    location: str | None = None
    resolution: str | None = None
    endpoints: _Many[Endpoint] | None = None
    #: The pods and WorkloadEntries that are its endpoints.
    workload_selector: Workloads | None = None
    #: The namespaces that see it; None means all.
    export_to: _Some[str] | None = None


class ServiceEntry(_Fields, frozen=True, rename="camel"):
    """networking.istio.io: a service outside Kubernetes."""

    metadata: Meta = Meta()
    spec: ServiceEntrySpec = ServiceEntrySpec()


class WorkloadEntry(_Fields, frozen=True, rename="camel"):
    """networking.istio.io: a workload that is not a pod. Services can select it by its labels."""

    metadata: Meta = Meta()
    spec: Endpoint = Endpoint()


class GroupMeta(_Fields, frozen=True, rename="camel"):
    """Labels for the WorkloadEntries of a WorkloadGroup."""

    labels: dict[str, str] | None = None


class WorkloadGroupSpec(_Fields, frozen=True, rename="camel"):
    """spec of a WorkloadGroup."""

    metadata: GroupMeta | None = None
    template: Endpoint | None = None


class WorkloadGroup(_Fields, frozen=True, rename="camel"):
    """networking.istio.io: the template for WorkloadEntries of workloads that register."""

    metadata: Meta = Meta()
    spec: WorkloadGroupSpec = WorkloadGroupSpec()


class ConfigPatch(_Fields, frozen=True, rename="camel"):
    """A change of a proxy's configuration; its content is only compared."""

    apply_to: str = ""
    match: msgspec.Raw = msgspec.Raw()
    patch: msgspec.Raw = msgspec.Raw()


class EnvoyFilterSpec(_Fields, frozen=True, rename="camel"):
    """spec of an EnvoyFilter."""

    workload_selector: Workloads | None = None
    target_refs: msgspec.Raw = msgspec.Raw()
    config_patches: _Some[ConfigPatch] | None = None


class EnvoyFilter(_Fields, frozen=True, rename="camel"):
    """networking.istio.io: changes to the configuration that istiod sends to proxies."""

    metadata: Meta = Meta()
    spec: EnvoyFilterSpec = EnvoyFilterSpec()


class ProxyConfigSpec(_Fields, frozen=True, rename="camel"):
    """spec of a ProxyConfig; of it only the variables change what a proxy does."""

    environment_variables: dict[str, str] | None = None


class ProxyConfig(_Fields, frozen=True, rename="camel"):
    """networking.istio.io: what the proxies of a namespace, or of some pods, start with."""

    metadata: Meta = Meta()
    spec: ProxyConfigSpec = ProxyConfigSpec()


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
    """The clients that a ServerAuthorization admits; its meshTLS is never plaintext."""

    unauthenticated: bool | None = None
    #: The networks from which they may call; without any, all networks.
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

    networks: _Some[Network] | None = None


class NetworkAuthentication(_Fields, frozen=True, rename="camel"):
    """policy.linkerd.io: clients by their address alone."""

    metadata: Meta = Meta()
    spec: NetworkAuthenticationSpec = NetworkAuthenticationSpec()


class EgressNetworkRange(_Fields, frozen=True, rename="camel"):
    """A network without some of its parts, as CIDRs."""

    cidr: str = ""
    # `except` is a word of Python.
    but: _Few[str] | None = msgspec.field(default=None, name="except")


class EgressNetworkSpec(_Fields, frozen=True, rename="camel"):
    """spec of an EgressNetwork."""

    #: None: all but the networks of the cluster, as Linkerd's configuration has them.
    networks: _Few[EgressNetworkRange] | None = None
    traffic_policy: str | None = None


class EgressNetwork(_Fields, frozen=True, rename="camel"):
    """policy.linkerd.io: addresses that are outside the mesh, to the pods of a namespace."""

    metadata: Meta = Meta()
    spec: EgressNetworkSpec = EgressNetworkSpec()


class NamespaceObject(_Fields, frozen=True, rename="camel"):
    """A namespace: its annotations are what the injectors copy to new pods."""

    metadata: Meta = Meta()


class PolicyKind(msgspec.Struct, frozen=True):
    """The API of a kind: its group, and the possible versions, newest first."""

    type: type[Any]
    group: str
    plural: str
    versions: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the kind's name."""
        return str(self.type.__name__)


#: MeshTLSAuthentication is not among them: a policy that requires it accepts no plaintext.
PEER_AUTHENTICATION = PolicyKind(
    PeerAuthentication, "security.istio.io", "peerauthentications", ("v1", "v1beta1")
)
DESTINATION_RULE = PolicyKind(
    DestinationRule, "networking.istio.io", "destinationrules", ("v1", "v1beta1", "v1alpha3")
)
SERVER = PolicyKind(Server, "policy.linkerd.io", "servers", ("v1beta3", "v1beta2", "v1beta1"))
SERVER_AUTHORIZATION = PolicyKind(
    ServerAuthorization, "policy.linkerd.io", "serverauthorizations", ("v1beta1",)
)
AUTHORIZATION_POLICY = PolicyKind(
    AuthorizationPolicy, "policy.linkerd.io", "authorizationpolicies", ("v1alpha1",)
)
NETWORK_AUTHENTICATION = PolicyKind(
    NetworkAuthentication, "policy.linkerd.io", "networkauthentications", ("v1alpha1",)
)


def decode(data: bytes | msgspec.Raw, kind: type[Any]) -> Any:
    """Decode one policy object. Raise `UndecodableError` if it is invalid."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableError(str(error)) from None
