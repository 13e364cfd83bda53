"""Linkerd's policy, as its policy controller reads it for a pod and its clients.

Sources are paths in linkerd2 at edge-26.8.3, below policy-controller/k8s/index/src/inbound/ if not
said otherwise. No real Linkerd is available to compare this with, so it follows the code.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from webhook.policy.inputs.linkerd import CONFIG
from webhook.policy.mesh import Occurrence, annotation
from webhook.policy.meshes.linkerd import CLOSED_POLICIES, INBOUND_POLICY
from webhook.policy.plaintext import CLOSE, EXEMPT, Opening, Reading
from webhook.policy.plaintext.objects import (
    AuthorizationPolicy,
    EgressNetwork,
    EgressNetworkRange,
    Labels,
    NamespaceObject,
    NetworkAuthentication,
    Server,
    ServerAuthorization,
)
from webhook.policy.plaintext.outside import CLUSTER, range_of
from webhook.policy.pod import ports

#: Every policy that exists (defaults.rs). Another value is ignored, with a line in a log.
POLICIES = (
    *CLOSED_POLICIES, "all-unauthenticated", "cluster-unauthenticated", "audit",
)  # fmt: skip
DEFAULT = "all-unauthenticated"
_REQUIRE_IDENTITY = CONFIG + "proxy-require-identity-inbound-ports"
_SKIP_INBOUND = CONFIG + "skip-inbound-ports"
#: Kinds that only a client with a mesh identity satisfies.
_IDENTITIES = ("MeshTLSAuthentication", "ServiceAccount")
_NAMESPACE_FIX = f"annotate the namespace: {CLOSE}"


class LinkerdPolicies(NamedTuple):
    """The policy objects of one namespace."""

    servers: Iterable[Server] = ()
    server_authorizations: Iterable[ServerAuthorization] = ()
    authorization_policies: Iterable[AuthorizationPolicy] = ()
    #: Of all namespaces, because an AuthorizationPolicy may name those of others.
    networks: Iterable[NetworkAuthentication] = ()


class PodMarks(NamedTuple):
    """The properties of a pod that decide."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    #: Named ports of its containers, and their numbers.
    ports: Mapping[str, Iterable[int]] = {}


class Inbound:
    """How Linkerd treats plaintext to the pods of a namespace."""

    def __init__(self, policies: LinkerdPolicies, default: str = DEFAULT) -> None:
        """Bind the policies; `default` is the cluster's, from the ConfigMap linkerd-config."""
        self._default = default if default in POLICIES else DEFAULT
        self._policies = policies
        self._networks = {
            (one.metadata.namespace, one.metadata.name): [n.cidr for n in one.spec.networks or ()]
            for one in policies.networks
        }

    def of(self, pod: PodMarks) -> Reading:
        """Return the reading of one pod.

        index.rs Pod::reindex_servers: a port that a Server selects is closed, except to clients
        that are authorized for it. All other ports have the default policy of the pod's annotation,
        else of the cluster. If two Servers select a port, either may apply, so it counts as open if
        one is.
        """
        default = self._by_default(pod)
        found: dict[str, Opening | None] = {}
        if default is not None:
            # default_inbound_server: these ports require an identity even if the default is open.
            for port in ports.shown(pod.annotations.get(_REQUIRE_IDENTITY, "")):
                found[port] = None
        served: dict[str, Opening | None] = {}
        for server in self._policies.servers:
            selector = server.spec.pod_selector
            if selector is None or not selector.matches(pod.labels):
                continue
            for port in _numbers(server.spec.port, pod.ports):
                served[port] = served.get(port) or self._of_server(server)
        found |= served
        # No policy applies to ports that linkerd-init does not redirect.
        for port in ports.shown(pod.annotations.get(_SKIP_INBOUND, "")):
            found[port] = Opening(f"annotation {_SKIP_INBOUND} makes port {port} bypass the proxy",
                                  "remove the port from it")  # fmt: skip
        closed = "" if default else f"the default inbound policy is {self._named(pod)}"
        return Reading(default, found, closed)

    def new_pods(self, namespace: Mapping[str, str], settings: str | None) -> Reading:
        """Return the reading of a new pod without a policy annotation.

        The injector copies the namespace's annotation to it (pkg/inject
        AppendNamespaceAnnotations), after mendix-mesh has added the policy that the settings
        require.
        """
        annotations = {INBOUND_POLICY: namespace[INBOUND_POLICY]} if (
            INBOUND_POLICY in namespace
        ) else {}  # fmt: skip
        if settings:
            annotations[INBOUND_POLICY] = settings
        return self.of(PodMarks({}, annotations))

    def _named(self, pod: PodMarks) -> str:
        own = pod.annotations.get(INBOUND_POLICY)
        return (
            f"{own} (from the pod's annotation)"
            if own in POLICIES
            else f"{self._default} (the cluster's default)"
        )

    def _by_default(self, pod: PodMarks) -> Opening | None:
        """Return the default's opening (workload.rs Settings::from_metadata)."""
        own = pod.annotations.get(INBOUND_POLICY)
        policy = own if own in POLICIES else self._default
        if policy in CLOSED_POLICIES:
            return None
        return Opening(f"the default inbound policy is {self._named(pod)}", _NAMESPACE_FIX)

    def _of_server(self, server: Server) -> Opening | None:
        """Return the first opening of a Server, of all authorizations (index.rs client_authzs)."""
        title = f"Server {server.metadata.name}"
        access = server.spec.access_policy
        if access is not None and access in POLICIES and access not in CLOSED_POLICIES:
            return Opening(f"{title} has accessPolicy {access}", "set accessPolicy to deny")
        for granted in self._policies.server_authorizations:
            if _selects(granted, server):
                for occurrence in of_server_authorization(granted):
                    return Opening(f"ServerAuthorization {granted.metadata.name} lets clients "
                                   f"without mutual TLS use {title}", occurrence.fix)  # fmt: skip
        for policy in self._policies.authorization_policies:
            target = policy.spec.target_ref
            if target.kind == "Namespace" or (
                target.kind == "Server" and target.name == server.metadata.name
            ):
                for occurrence in of_authorization_policy(policy):
                    if (who := self._clients(policy)) is not None:
                        return Opening(f"AuthorizationPolicy {policy.metadata.name} lets {who} "
                                       f"use {title}", occurrence.fix)  # fmt: skip
        return None

    def routes(self) -> Iterator[Opening]:
        """Yield AuthorizationPolicies that open a route; only the route knows the ports."""
        for policy in self._policies.authorization_policies:
            target = policy.spec.target_ref
            if target.kind in ("HTTPRoute", "GRPCRoute"):
                for occurrence in of_authorization_policy(policy):
                    if (who := self._clients(policy)) is not None:
                        yield Opening(f"AuthorizationPolicy {policy.metadata.name} lets {who} use "
                                      f"{target.kind} {target.name}", occurrence.fix)  # fmt: skip

    def _clients(self, policy: AuthorizationPolicy) -> str | None:
        """Return who needs no identity; None if the policy names objects that do not exist.

        index.rs policy_client_authz: a policy with a reference to a missing object is ignored.
        """
        wanted = policy.spec.required_authentication_refs or ()
        keys = [(one.namespace or policy.metadata.namespace, one.name) for one in wanted]
        if any(key not in self._networks for key in keys):
            return None
        cidrs = [cidr for key in keys for cidr in self._networks[key]]
        return f"clients without mutual TLS from {', '.join(cidrs)}" if cidrs else "any client"


def _selects(granted: ServerAuthorization, server: Server) -> bool:
    """Return whether a ServerAuthorization applies to a Server, by its name or by labels."""
    named = granted.spec.server
    if named.name is not None:
        return named.name == server.metadata.name
    return named.selector is not None and named.selector.matches(server.metadata.labels or {})


def _numbers(port: int | str, named: Mapping[str, Iterable[int]]) -> list[str]:
    """Return the numbers of a Server's port; a pod can have several ports of one name."""
    if isinstance(port, int):
        return [str(port)]
    return [str(number) for number in named.get(port, ())]


def of_server(server: Server) -> Iterator[Occurrence]:
    """Yield each place where a Server itself opens its port."""
    access = server.spec.access_policy
    if access is not None and access not in CLOSED_POLICIES:
        yield Occurrence("spec.accessPolicy", (access,), "", "remove it, or set it to deny")


def of_server_authorization(granted: ServerAuthorization) -> Iterator[Occurrence]:
    """Yield each place where a ServerAuthorization accepts clients without an identity.

    `meshTLS.unauthenticatedTLS` is TLS without a name, but not plaintext.
    """
    if granted.spec.client.unauthenticated:
        yield Occurrence("spec.client.unauthenticated", ("true",), "", "use client.meshTLS instead")


def of_authorization_policy(policy: AuthorizationPolicy) -> Iterator[Occurrence]:
    """Yield each place where an AuthorizationPolicy requires no identity.

    index.rs policy_client_authz: all references must hold, so one that requires an identity is
    enough.
    """
    wanted = policy.spec.required_authentication_refs or ()
    if not any(one.kind in _IDENTITIES for one in wanted):
        kinds = tuple(dict.fromkeys(one.kind for one in wanted)) or ("nothing",)
        yield Occurrence("spec.requiredAuthenticationRefs", kinds, "",
                         "also require a MeshTLSAuthentication or a ServiceAccount")  # fmt: skip


def of_networks(networks: NetworkAuthentication) -> Iterator[Occurrence]:
    """Yield networks of a NetworkAuthentication that match every client."""
    cidrs = [one.cidr for one in networks.spec.networks or ()]
    anyone = tuple(cidr for cidr in cidrs if cidr.endswith("/0"))
    if anyone:
        yield Occurrence(
            "spec.networks",
            anyone,
            "matches every client, with or without mutual TLS",
            "name the networks of the clients, or use a MeshTLSAuthentication",
        )


def of_egress_network(egress: EgressNetwork) -> Iterator[Occurrence]:
    """Yield networks of an EgressNetwork that contain addresses of the cluster.

    outbound/index/egress_network.rs: without networks it has all addresses outside the cluster. One
    with policy Deny blocks them, except for its attached routes.
    """
    ours = tuple(one.cidr for one in egress.spec.networks or () if _has_cluster(one))
    if ours:
        yield Occurrence(
            "spec.networks",
            ours,
            "makes pods call addresses that may be in the cluster as if they were outside the "
            "mesh, in plaintext",
            f"remove spec.networks, or add the cluster's networks to except; {EXEMPT}",
            "warning" if egress.spec.traffic_policy == "Deny" else None,
        )


def _has_cluster(network: EgressNetworkRange) -> bool:
    """Return whether a network has addresses of the cluster outside its exceptions.

    A network that can't be read counts as one that has.
    """
    whole = range_of(network.cidr)
    if whole is None:
        return True
    taken = [one for text in network.but or () if (one := range_of(text))]
    return any(
        not any(whole.common(ours).within(one) for one in taken)
        for ours in CLUSTER
        if whole.meets(ours)
    )


def egress_within(now: EgressNetwork, before: EgressNetwork) -> bool:
    """Return whether a changed EgressNetwork keeps all of its exceptions."""
    kept = {one.cidr: set(one.but or ()) for one in now.spec.networks or ()}
    return now.spec.traffic_policy == before.spec.traffic_policy and all(
        set(one.but or ()) <= kept.get(one.cidr, set(one.but or ()))
        for one in before.spec.networks or ()
    )


def of_namespace(namespace: NamespaceObject) -> Iterator[Occurrence]:
    """Yield each place where a namespace's annotation opens the pods that are created in it."""
    policy = (namespace.metadata.annotations or {}).get(INBOUND_POLICY)
    if policy is not None and policy not in CLOSED_POLICIES:
        yield Occurrence(annotation(INBOUND_POLICY), (policy,), "", "set it to all-authenticated")


def server_strengths(server: Server) -> dict[str, str]:
    """Return the field by which a Server closes its port, and the pods to which it applies."""
    if any(of_server(server)) or server.spec.pod_selector is None:
        return {}
    selector = server.spec.pod_selector
    who = sorted((selector.match_labels or {}).items())
    expressions = [repr(one) for one in selector.match_expressions or ()]
    return {"spec": f"port {server.spec.port} {who} {expressions}"}


def serves_within(now: Server, before: Server) -> bool:
    """Return whether a changed Server applies to no further port or pod."""
    old, new = before.spec, now.spec
    return old.port == new.port and (
        old.pod_selector == new.pod_selector or old.pod_selector == Labels()
    )


def grants_within(now: ServerAuthorization, before: ServerAuthorization) -> bool:
    """Return whether a changed ServerAuthorization applies to no further Servers or clients."""
    old, new = before.spec, now.spec
    networks = {one.cidr for one in new.client.networks or ()}
    allowed = {one.cidr for one in old.client.networks or ()}
    return old.server == new.server and (not allowed or (bool(networks) and networks <= allowed))


def authorizes_within(now: AuthorizationPolicy, before: AuthorizationPolicy) -> bool:
    """Return whether a changed AuthorizationPolicy has no further target and requires no less."""
    old, new = before.spec, now.spec
    required = new.required_authentication_refs or ()
    return (old.target_ref == new.target_ref or old.target_ref.kind == "Namespace") and all(
        one in required for one in old.required_authentication_refs or ()
    )


def namespace_strengths(namespace: NamespaceObject) -> dict[str, str]:
    """Return the annotation of a namespace that closes its new pods."""
    policy = (namespace.metadata.annotations or {}).get(INBOUND_POLICY)
    return {annotation(INBOUND_POLICY): ""} if policy in CLOSED_POLICIES else {}
