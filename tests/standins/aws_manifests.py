"""The cluster of Mendix's Terraform module for AWS, as far as it concerns a webhook.

The source is aws-ia/terraform-aws-mendix-private-cloud: the settings of its installer, and the
add-ons that it installs by eks-blueprints-addons. The add-ons are reduced to the objects that
create pods. The solver's pod is the one of cert-manager's pkg/issuer/acme/http/pod.go.
"""

from typing import Any

from tests.standins import mendix_manifests as manifests

Json = dict[str, Any]

ADD_ONS = ("ingress-nginx", "cert-manager", "external-dns", "grafana")
"""The add-ons with their own namespace, and the names of their Deployments."""

SOLVER = {"acme.cert-manager.io/http01-solver": "true"}
"""The label that identifies solver pods."""

CONFIGURATION: Json = {
    "endpoint": {
        "type": "ingress",
        "ingress": {
            "domain": "mendix.example.com",
            "tlsSecretName": "tls-{{.Name}}",
            "annotations": {
                "cert-manager.io/cluster-issuer": "letsencrypt-prod",
                # The module sets the class with the legacy annotation.
                "kubernetes.io/ingress.class": "nginx",
            },
        },
    },
    "runtimeAutomountServiceAccountToken": True,
    "runtimeDeploymentPodAnnotations": {
        # The module sets this annotation although it installs no Linkerd.
        "linkerd.io/inject": "enabled",
        "prometheus.io/path": "/metrics",
        "prometheus.io/port": "8900",
        "prometheus.io/scrape": "true",
    },
}
"""The spec of the OperatorConfiguration that the module's installer creates."""


def add_on(name: str, namespace: str) -> Json:
    """Return the Deployment of an add-on."""
    return _deployment(name, namespace)


def collector(namespace: str) -> Json:
    """Return the metrics collector, which the module runs in Mendix's own namespace."""
    return _deployment("adot-collector", namespace)


def solver_pod(namespace: str, *, annotations: Json | None = None) -> Json:
    """Return the pod with which cert-manager proves to the CA that it controls a host.

    `annotations` are those of the issuer's podTemplate. They override cert-manager's own.
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "cm-acme-http-solver-",
            "namespace": namespace,
            "labels": {
                "acme.cert-manager.io/http-domain": "1087571894",
                "acme.cert-manager.io/http-token": "1096430297",
                **SOLVER,
            },
            "annotations": {
                "sidecar.istio.io/inject": "false",
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
                **(annotations or {}),
            },
        },
        "spec": {
            "automountServiceAccountToken": False,
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "restartPolicy": "OnFailure",
            "enableServiceLinks": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "acmesolver",
                    "image": "quay.io/jetstack/cert-manager-acmesolver:v1.21.2",
                    "args": ["--listen-port=8089", "--domain=shop.mendix.example.com"],
                    "ports": [{"name": "http", "containerPort": 8089}],
                    "securityContext": {
                        "readOnlyRootFilesystem": True,
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def solver_ingress(namespace: str) -> Json:
    """Return the Ingress that routes the CA's request to the solver."""
    found = manifests.app_ingress("cm-acme-http-solver", namespace, class_as_annotation=True)
    (rule,) = found["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    path |= {"path": "/.well-known/acme-challenge/token", "pathType": "Exact"}
    path["backend"]["service"]["port"]["number"] = 8089
    return found


def _deployment(name: str, namespace: str) -> Json:
    labels = {"app.kubernetes.io/name": name}
    container = {"name": name, "image": f"registry.example.com/{name}:1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
