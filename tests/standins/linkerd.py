"""A stand-in for Linkerd's proxy injector: which pods it injects, and the injected pod.

Linkerd publishes no Go module that can be built here, so the tests use this stand-in. It follows
linkerd2 at edge-26.8.3: pkg/inject/report.go for the decision, charts/patch for the order of the
operations, charts/linkerd-control-plane for the webhook configuration. Like Linkerd, it renders a
text template (tests.standins.linkerd_template). So an annotation can break the patch, or write more
than its own field. The functions are pure. tests.standins.linkerd_server serves reviews over HTTPS.
"""

import contextlib
import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jsonpatch
import jsonpointer

from tests.standins.linkerd_config import (
    CONFIG,
    INHERITED,
    INJECT,
    InjectionError,
    InjectorConfig,
    merged_env,
    overridden,
)
from tests.standins.linkerd_template import render

__all__ = [
    "Injection",
    "InjectionError",
    "InjectorConfig",
    "inject",
    "selected",
    "skip_reasons",
    "webhook_configuration",
]

Json = dict[str, Any]
Patch = list[Json]

CONFIGURATION = "linkerd-proxy-injector-webhook-config"
WEBHOOK = "linkerd-proxy-injector.linkerd.io"

HOST_NETWORK = "host_network_enabled"
SIDECAR_EXISTS = "sidecar_already_exists"
UNSUPPORTED = "unsupported_resource"
ENABLE_ABSENT = "injection_enable_annotation_absent"
DISABLE_PRESENT = "injection_disable_annotation_present"
INVALID_AT_WORKLOAD = "invalid_inject_annotation_at_workload"
INVALID_AT_NAMESPACE = "invalid_inject_annotation_at_ns"
AUTOMOUNT_DISABLED = "disabled_automount_service_account_token_account"

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_OPT_IN = ("enabled", "ingress")
_VALID = ("", *_OPT_IN, "disabled")

# Kinds of owners that become a label of the pod.
_LABELLED_OWNERS = {
    "deployment",
    "replicaset",
    "replicationcontroller",
    "job",
    "daemonset",
    "statefulset",
}


@dataclass(frozen=True)
class Injection:
    """The result of the injector for an object.

    `text` is the patch as the injector sends it; empty if there is none. `skipped` contains the
    reasons in the injector's order. It is empty if and only if the patch contains a proxy. A
    skipped object may still get the annotation of its opaque ports.
    """

    original: Json
    text: str
    skipped: tuple[str, ...]

    @cached_property
    def patch(self) -> Patch:
        """Return the operations; none if the text is not JSON, which an annotation can cause."""
        with contextlib.suppress(ValueError):
            patch: Patch = json.loads(self.text)
            return patch
        return []

    @cached_property
    def pod(self) -> Json:
        """Return the object after the patch, under failure policy Ignore.

        A patch that is not JSON does not change the object. Raise InjectionError if an operation
        does not apply, because the API server then denies the object.
        """
        try:
            patched: Json = jsonpatch.apply_patch(self.original, copy.deepcopy(self.patch))
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
            raise InjectionError(str(error)) from error
        return patched


def inject(
    pod: Json, namespace: Json | None, config: InjectorConfig, *, owner: Json | None = None
) -> Injection:
    """Return the injector's result for a pod or Service on CREATE. The input is not changed.

    `namespace` is the Namespace object; None means one without annotations. `owner` is the
    controlling object as {"kind", "name"} after look-ups (a Deployment for a pod of its
    ReplicaSet). Without it, the pod's only owner reference is used. Raise InjectionError if the
    injector fails and so denies the pod.
    """
    skipped = skip_reasons(pod, namespace, config)
    if skipped:
        text = _opaque_ports_patch(pod, namespace, config)
    else:
        text = _injection_patch(pod, namespace, config, owner)
    return Injection(pod, text, skipped)


def skip_reasons(pod: Json, namespace: Json | None, config: InjectorConfig) -> tuple[str, ...]:
    """Return why the injector skips this object; empty if it injects."""
    if pod.get("kind", "Pod") != "Pod":
        return (UNSUPPORTED,)
    spec = pod.get("spec") or {}
    reasons = []
    if spec.get("hostNetwork"):
        reasons.append(HOST_NETWORK)
    if _has_sidecar(spec):
        reasons.append(SIDECAR_EXISTS)
    if by_annotation := _annotation_reason(_annotations(namespace), _annotations(pod)):
        reasons.append(by_annotation)
    if not config.token_projection and not _has_token(spec):
        reasons.append(AUTOMOUNT_DISABLED)
    return tuple(reasons)


def selected(pod: Json, namespace: Json | None) -> bool:
    """Return whether the webhook configuration's selectors match this object."""
    webhook = webhook_configuration("", "")["webhooks"][0]
    name = ((namespace or {}).get("metadata") or {}).get("name", "")
    # The API server sets the name of each namespace as a label.
    of_namespace = {**_labels(namespace), "kubernetes.io/metadata.name": name}
    return _matches(webhook["namespaceSelector"], of_namespace) and _matches(
        webhook["objectSelector"], _labels(pod)
    )


def webhook_configuration(url: str, ca_bundle: str) -> Json:
    """Return the injector's MutatingWebhookConfiguration as its chart renders it, except for a URL.

    `ca_bundle` is base64 of PEM, as in the object. The failure policy is the chart's default.
    """
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": CONFIGURATION},
        "webhooks": [
            {
                "name": WEBHOOK,
                "namespaceSelector": {
                    "matchExpressions": [
                        _expression(CONFIG + "admission-webhooks", "NotIn", "disabled"),
                        _expression(
                            "kubernetes.io/metadata.name", "NotIn", "kube-system", "cert-manager"
                        ),
                    ]
                },
                "objectSelector": {
                    "matchExpressions": [
                        _expression("linkerd.io/control-plane-component", "DoesNotExist"),
                        _expression("linkerd.io/cni-resource", "DoesNotExist"),
                    ]
                },
                "clientConfig": {"url": url, "caBundle": ca_bundle},
                "failurePolicy": "Ignore",
                "admissionReviewVersions": ["v1", "v1beta1"],
                "rules": [
                    {
                        "operations": ["CREATE"],
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "resources": ["pods", "services"],
                        "scope": "Namespaced",
                    }
                ],
                "sideEffects": "None",
                "timeoutSeconds": 10,
            }
        ],
    }


def _annotation_reason(of_namespace: Mapping[str, str], of_pod: Mapping[str, str]) -> str:
    at_namespace, at_pod = of_namespace.get(INJECT, ""), of_pod.get(INJECT, "")
    if at_namespace not in _VALID:
        return INVALID_AT_NAMESPACE
    if at_pod not in _VALID:
        return INVALID_AT_WORKLOAD
    if at_namespace in _OPT_IN:
        return DISABLE_PRESENT if at_pod == "disabled" else ""
    return "" if at_pod in _OPT_IN else ENABLE_ABSENT


def _has_sidecar(spec: Json) -> bool:
    """Return whether the pod seems to be in a mesh, by container names or well-known images."""
    proxies = ("cr.l5d.io/linkerd/proxy:", "gcr.io/istio-release/proxyv2:")
    inits = ("cr.l5d.io/linkerd/proxy-init:", "gcr.io/istio-release/proxy_init:")
    return any(
        container["name"] in ("linkerd-proxy", "istio-proxy")
        or container.get("image", "").startswith(proxies)
        for container in _containers(spec)
    ) or any(
        container["name"] in ("linkerd-init", "istio-init")
        or container.get("image", "").startswith(inits)
        for container in spec.get("initContainers") or ()
    )


def _has_token(spec: Json) -> bool:
    automount = spec.get("automountServiceAccountToken", True)
    return bool(automount and _account_mounts(_first_container(spec)))


def _account_mounts(app: Json) -> list[Json]:
    """Return the container's mount of its ServiceAccount token. The proxy mounts it too."""
    mounts = app.get("volumeMounts") or ()
    return [mount for mount in mounts if mount["mountPath"] == _ACCOUNT][:1]


def _injection_patch(
    pod: Json, namespace: Json | None, config: InjectorConfig, owner: Json | None
) -> str:
    spec, own = pod["spec"], _annotations(pod)
    added = {
        "linkerd.io/created-by": f"linkerd/proxy-injector {config.version}",
        **_inherited(pod, namespace),
    }
    opaque = CONFIG + "opaque-ports"
    if opaque not in {**own, **added} and (exposed := _opaque_ports_of(pod, config)):
        added[opaque] = exposed
    named = {port["name"]: port["containerPort"] for port in _ports(spec) if port.get("name")}
    effective = replace(
        overridden(config, {**own, **added}, named),
        additional_env=merged_env(config, _annotations(namespace), own),
    )
    _rejected(effective)
    anchors = config.trust_anchors.encode()
    added["linkerd.io/proxy-version"] = effective.proxy_version
    added["linkerd.io/trust-root-sha256"] = hashlib.sha256(anchors).hexdigest()
    app = _first_container(spec)
    return _patch(
        pod,
        annotations=added,
        labels=_added_labels(pod, config, owner),
        c=effective,
        spec=spec,
        capabilities=(app.get("securityContext") or {}).get("capabilities"),
        mounts=_account_mounts(app),
        inbound_ports=_inbound_ports(spec),
    )


def _patch(obj: Json, **values: Any) -> str:
    """Return the patch as text; empty if it has no operation. See linkerd_patch.json.j2."""
    values = {"annotations": {}, "labels": {}, "c": None, **values}
    metadata = obj.get("metadata") or {}
    text = render("linkerd_patch.json.j2", metadata=metadata, **values).strip()
    return f"[{text.removesuffix(',')}]" if text else ""


def _rejected(config: InjectorConfig) -> None:
    """Raise InjectionError for the values for which Linkerd's template fails."""
    if config.log_http_headers not in ("", "off", "insecure"):
        message = f"HTTP headers are logged 'insecure' or 'off', not {config.log_http_headers!r}"
        raise InjectionError(message)
    if config.close_wait and not config.init_as_root and not config.cni:
        message = "a close-wait timeout needs an init container that runs as root"
        raise InjectionError(message)


def _opaque_ports_patch(obj: Json, namespace: Json | None, config: InjectorConfig) -> str:
    """Return the only change that a skipped object can get."""
    name = CONFIG + "opaque-ports"
    value = _annotations(namespace).get(name, _opaque_ports_of(obj, config) or None)
    if name in _annotations(obj) or value is None:
        return ""
    return _patch(obj, annotations={name: value})


def _opaque_ports_of(obj: Json, config: InjectorConfig) -> str:
    """Return the ports of a pod or Service that are opaque by default."""
    spec = obj.get("spec") or {}
    if obj.get("kind") == "Service":
        # A port without a target port is its own target. A named target is never a default.
        ports = [
            (port["port"], port.get("targetPort") or port["port"])
            for port in spec.get("ports") or ()
        ]
    else:
        ports = [(port["containerPort"],) * 2 for port in _ports(spec)]
    by_default = config.opaque_ports.split(",")
    return ",".join(str(port) for port, target in ports if str(target) in by_default)


def _inherited(pod: Json, namespace: Json | None) -> dict[str, str]:
    own = _annotations(pod)
    return {
        name: value
        for name, value in _annotations(namespace).items()
        if name in INHERITED and name not in own
    }


def _added_labels(pod: Json, config: InjectorConfig, owner: Json | None) -> dict[str, str]:
    metadata = pod.get("metadata") or {}
    labels = {
        "linkerd.io/control-plane-ns": config.control_plane_namespace,
        "linkerd.io/workload-ns": metadata.get("namespace", ""),
    }
    references = metadata.get("ownerReferences") or []
    if owner is None and len(references) == 1:
        owner = references[0]
    if owner and (kind := owner["kind"].lower()) in _LABELLED_OWNERS:
        labels[f"linkerd.io/proxy-{kind}"] = owner["name"]
    return labels


def _inbound_ports(spec: Json) -> str:
    """Return the ports that the pod declares or that are probed, sorted as text, as in Linkerd."""
    ports = {port["containerPort"] for port in _ports(spec)}
    for container in _containers(spec):
        for probe in ("readinessProbe", "livenessProbe"):
            port = ((container.get(probe) or {}).get("httpGet") or {}).get("port")
            if isinstance(port, int):  # a named port is declared, so it is already included
                ports.add(port)
    return ",".join(sorted(map(str, ports)))


def _containers(spec: Json) -> list[Json]:
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def _first_container(spec: Json) -> Json:
    return next(iter(spec.get("containers") or ()), {})


def _ports(spec: Json) -> list[Json]:
    return [port for container in _containers(spec) for port in container.get("ports") or ()]


def _annotations(obj: Json | None) -> dict[str, str]:
    return ((obj or {}).get("metadata") or {}).get("annotations") or {}


def _labels(obj: Json | None) -> dict[str, str]:
    return ((obj or {}).get("metadata") or {}).get("labels") or {}


def _expression(key: str, operator: str, *values: str) -> Json:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def _matches(selector: Json, labels: Mapping[str, str]) -> bool:
    """Return whether labels match a selector, for the two operators that the configuration uses."""
    return all(
        expression["key"] not in labels
        or (
            expression["operator"] == "NotIn"
            and labels[expression["key"]] not in expression["values"]
        )
        for expression in selector["matchExpressions"]
    )
