"""A stand-in for Linkerd's policy CRDs: their names and versions, with any content.

Linkerd's chart with the real CRDs is not available here. Only mendix-mesh reads the objects.
"""

from typing import Any

from tests.cluster.api import definition

Json = dict[str, Any]

GROUP = "policy.linkerd.io"
#: The plural and the stored version of each kind (charts/linkerd-crds, edge-26.8.3).
KINDS = {
    "Server": ("servers", "v1beta3"),
    "ServerAuthorization": ("serverauthorizations", "v1beta1"),
    "AuthorizationPolicy": ("authorizationpolicies", "v1alpha1"),
    "MeshTLSAuthentication": ("meshtlsauthentications", "v1alpha1"),
    "NetworkAuthentication": ("networkauthentications", "v1alpha1"),
    "EgressNetwork": ("egressnetworks", "v1alpha1"),
}


def custom_resource_definitions() -> list[Json]:
    """Return the definitions to create."""
    return [
        definition(GROUP, version, kind, plural=plural) for kind, (plural, version) in KINDS.items()
    ]


def policy(kind: str, namespace: str, name: str, **spec: Any) -> Json:
    """Return an object of one of the kinds."""
    return {
        "apiVersion": f"{GROUP}/{KINDS[kind][1]}",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
