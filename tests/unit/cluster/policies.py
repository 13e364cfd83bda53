"""The meshes' policy objects in a `World`."""

from typing import Any

from tests.unit.cluster.world import Json, World

ISTIO = "/apis/security.istio.io"
POLICY = "config.linkerd.io/default-inbound-policy"


def define(world: World) -> None:
    """Add Istio's CRDs, as discovery lists them."""
    version = {"groupVersion": "security.istio.io/v1", "version": "v1"}
    world.objects[ISTIO] = {"metadata": {}, "kind": "APIGroup", "preferredVersion": version}


def peer(world: World, namespace: str, name: str, mode: str, **spec: Any) -> Json:
    """Add a PeerAuthentication."""
    where = f"{ISTIO}/v1/namespaces/{namespace}/peerauthentications/{name}"
    meta = {"creationTimestamp": "2026-01-01T00:00:00Z"}
    return world.add(where, {"metadata": meta, "spec": {"mtls": {"mode": mode}, **spec}})


def rule(world: World, namespace: str, name: str, host: str, mode: str) -> Json:
    """Add a DestinationRule with a TLS mode."""
    where = f"/apis/networking.istio.io/v1/namespaces/{namespace}/destinationrules/{name}"
    return world.add(
        where, {"metadata": {}, "spec": {"host": host, "trafficPolicy": {"tls": {"mode": mode}}}}
    )


def linkerd(world: World, plural: str, namespace: str, name: str, **spec: Any) -> Json:
    """Add one of Linkerd's policy objects."""
    version = "v1beta3" if plural == "servers" else "v1alpha1"
    where = f"/apis/policy.linkerd.io/{version}/namespaces/{namespace}/{plural}/{name}"
    return world.add(where, {"metadata": {}, "spec": spec})


def default_inbound(world: World, policy: str) -> None:
    """Install Linkerd with a default inbound policy."""
    values = f"proxy:\n  defaultInboundPolicy: {policy}\n"
    world.config_map("linkerd", "linkerd-config", values=values)
