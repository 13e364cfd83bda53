"""Whether a pod's ports accept plaintext, according to the meshes' policy objects.

Pure rules on decoded objects. A `Reading` has the ports of one pod that accept clients outside the
mesh, and why. `istio` and `linkerd` compute it, each by the rules of its mesh.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from webhook.policy.checks import Check

#: Whether plaintext is accepted: on no port, on some, on all, or unknown.
Accepts = Literal["no", "partly", "yes", "unknown"]

#: The policy objects of a namespace, or a reviewed object, accept plaintext.
PLAINTEXT_ACCEPTED = Check(
    id="plaintext-accepted",
    level="warning",
    meshes=("linkerd", "istio", "ambient"),
    fields=(
        "spec.mtls.mode",
        "spec.portLevelMtls",
        "spec.ingress",
        "spec.accessPolicy",
        "spec.client.unauthenticated",
        "spec.requiredAuthenticationRefs",
        "spec.networks",
        "metadata.annotations[config.linkerd.io/default-inbound-policy]",
    ),
    reason="accepts clients without mutual TLS",
    fix="require mutual TLS; mendix-mesh explain strict shows how",
    source="istio pilot/pkg/security/authn/policy_applier.go; "
    "linkerd2 policy-controller/k8s/index/src/inbound/index.rs",
)
#: An object makes clients in the mesh call others in the cluster without its mutual TLS.
CLIENT_PLAINTEXT = Check(
    id="client-plaintext",
    level="deny",
    meshes=("linkerd", "istio", "ambient"),
    fields=(
        "spec.trafficPolicy",
        "spec.subsets",
        "spec.egress",
        "spec.hosts",
        "spec.addresses",
        "spec.endpoints",
        "spec.workloadSelector",
        "spec.address",
        "spec.labels[security.istio.io/tlsMode]",
        "spec.template.labels[security.istio.io/tlsMode]",
        "spec.metadata.labels[security.istio.io/tlsMode]",
        "metadata.labels[security.istio.io/tlsMode]",
        "spec.networks",
    ),
    reason="makes clients in the mesh connect without the mesh's mutual TLS",
    fix="remove the tls block, or set its mode to ISTIO_MUTUAL",
    source="istio pilot/pkg/networking/core/cluster_tls.go buildUpstreamTLSSettings, "
    "pilot/pkg/model/sidecar.go, pilot/pkg/serviceregistry/serviceentry/conversion.go; "
    "linkerd2 policy-controller/k8s/index/src/outbound/index/egress_network.rs",
)
#: An EnvoyFilter, whose effect on mutual TLS is unknown.
ENVOY_FILTER = Check(
    id="envoy-filter",
    level="warning",
    meshes=("istio", "ambient"),
    fields=("spec.configPatches",),
    reason="changes the configuration of proxies and can disable mutual TLS unnoticed",
    fix="author: use an Istio API instead; mesh's admin: apply it in Istio's root namespace",
    source="istio pilot/pkg/networking/core/envoyfilter",
)
#: A ProxyConfig with variables that an author must not set for a proxy by annotation either.
PROXY_CONFIG = Check(
    id="proxy-config",
    level="deny",
    meshes=("istio",),
    fields=("spec.environmentVariables",),
    reason="sets variables that can break the proxies of the namespace",
    fix="author: remove them; mesh's admin: set them in meshConfig.defaultConfig.proxyMetadata",
    source="istio pilot/pkg/model/proxy_config.go; pkg/kube/inject/webhook.go",
)
#: The command that closes a whole namespace. If its name is known, ` -n NAME` is appended.
CLOSE = "mendix-mesh discover --enroll --strict"
#: The end of a fix if only the admin can know that a destination is outside the cluster.
EXEMPT = "if it is outside the cluster, ask the admin of mendix-mesh for an exemption"
CHECKS: Mapping[str, Check] = {
    one.id: one for one in (PLAINTEXT_ACCEPTED, CLIENT_PLAINTEXT, ENVOY_FILTER, PROXY_CONFIG)
}


def ids() -> frozenset[str]:
    """Return the ids of the checks of policy objects; settings may name them like those of pods."""
    return frozenset(CHECKS)


class Opening(NamedTuple):
    """Why plaintext is accepted somewhere, and the fix."""

    because: str
    fix: str


class Reading(NamedTuple):
    """How the mesh treats plaintext to one pod.

    `default` applies to every port that is not in `ports`; None means closed to plaintext.
    """

    default: Opening | None
    ports: Mapping[str, Opening | None]
    #: Why it is closed to plaintext, if it is.
    closed: str = ""

    @property
    def accepts(self) -> Accepts:
        """Return whether plaintext is accepted: on all ports, to some, or to none."""
        differ = any((one is None) != (self.default is None) for one in self.ports.values())
        if differ:
            return "partly"
        return "no" if self.default is None else "yes"

    def openings(self) -> list[tuple[str, Opening]]:
        """Return each opening with its ports: `all ports`, `port 8080`, `all ports but 8080`."""
        found: list[tuple[str, Opening]] = []
        if self.default is not None:
            shut = sorted((port for port, one in self.ports.items() if one is None), key=_order)
            text = f"all ports but {', '.join(shut)}" if shut else "all ports"
            found.append((text, self.default))
        by_reason: dict[Opening, list[str]] = {}
        for port, one in self.ports.items():
            if one is not None and one != self.default:
                by_reason.setdefault(one, []).append(port)
        for one, ports in by_reason.items():
            word = "port" if len(ports) == 1 else "ports"
            found.append((f"{word} {', '.join(sorted(ports, key=_order))}", one))
        return found


def _order(port: str) -> tuple[int, str]:
    """Return the sort key of a port: numbers by value, then names."""
    return (int(port) if port.isdigit() else 1 << 16, port)


def together(found: Iterable[Accepts]) -> Accepts:
    """Return the merged reading: of several pods, or of running and future pods of a namespace."""
    kinds = set(found)
    if not kinds:
        return "unknown"
    if len(kinds) == 1:
        return kinds.pop()
    # Plaintext is accepted somewhere, even if the rest is unknown.
    return "partly" if kinds & {"yes", "partly"} else "unknown"
