"""The Helm values in Linkerd's ConfigMap `linkerd-config`, for the stand-in injector.

The structure follows linkerd2's charts/linkerd-control-plane: values.yaml, merged with an admin's
values, under the key `values`. It contains only the keys that affect a pod.
"""

from typing import Any

import yaml

from tests.standins.linkerd_config import InjectorConfig

Json = dict[str, Any]


def values(config: InjectorConfig) -> Json:
    """Return the Helm values that give an injector this configuration."""
    name, _, tag = config.image.rpartition(":")
    return {
        "cniEnabled": config.cni,
        "clusterDomain": config.cluster_domain,
        "linkerdVersion": config.version,
        "identityTrustDomain": config.cluster_domain,
        "proxy": {
            "defaultInboundPolicy": config.inbound_policy,
            "image": {"name": name, "pullPolicy": "", "version": tag},
            "nativeSidecar": config.native,
            "ports": {
                "admin": config.admin_port,
                "control": config.control_port,
                "inbound": config.inbound_port,
                "outbound": config.outbound_port,
            },
            "uid": config.proxy_uid,
            "gid": config.proxy_gid,
        },
        "proxyInit": {
            "ignoreInboundPorts": config.skip_inbound,
            "ignoreOutboundPorts": config.skip_outbound,
            "skipSubnets": config.skip_subnets,
        },
    }


def config_map(config: InjectorConfig) -> Json:
    """Return the ConfigMap that the control plane's chart creates."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "linkerd-config", "namespace": config.control_plane_namespace},
        "data": {"values": yaml.safe_dump(values(config))},
    }
