"""A stand-in for Linkerd's proxy injector: which pods it injects, and what an injected pod is.

Linkerd publishes no Go module that could be built here, so the tests of the whole use this. It
follows linkerd2 at edge-26.8.3: pkg/inject/report.go for the decision, charts/patch for the order
of the operations, charts/linkerd-control-plane for the webhook configuration. It is pure: reviews
over HTTPS are served by tests.standins.linkerd_server.
"""

import copy
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jsonpatch

from tests.standins import linkerd_containers as shapes
from tests.standins.linkerd_config import (
    CONFIG,
    INHERITED,
    INJECT,
    InjectionError,
    InjectorConfig,
    merged_env,
    overridden,
)

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

_OPT_IN = ("enabled", "ingress")
_VALID = ("", *_OPT_IN, "disabled")

# A ReplicaSet's Deployment, and a CronJob for its Job, are found by whoever can look them up.
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
    """What the injector made of an object.

    `pod` is the object after `patch`; `skipped` holds the reasons, in the injector's order, and is
    empty if and only if the proxy was injected. A skipped object may still have got the annotation
    of its opaque ports.
    """

    pod: Json
    patch: Patch
    skipped: tuple[str, ...]


def inject(
    pod: Json, namespace: Json | None, config: InjectorConfig, *, owner: Json | None = None
) -> Injection:
    """Do to a pod (or Service) what the injector does at its creation; the input stays as it is.

    `namespace` is the Namespace object, None one without annotations. `owner` is the controlling
    object as {"kind", "name"} after look-ups (a Deployment for a pod of its ReplicaSet); without
    it, the pod's only owner reference stands as it is. Raises InjectionError where the injector
    fails and so denies the pod.
    """
    skipped = skip_reasons(pod, namespace, config)
    if skipped:
        patch = list(_opaque_ports_operations(pod, namespace, config))
    else:
        patch = list(_injection_operations(pod, namespace, config, owner))
    patched: Json = jsonpatch.apply_patch(pod, copy.deepcopy(patch))
    return Injection(patched, patch, skipped)


def skip_reasons(pod: Json, namespace: Json | None, config: InjectorConfig) -> tuple[str, ...]:
    """Return why the injector leaves this object alone; nothing if it injects."""
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
    """Whether the webhook configuration's selectors would send this object to the injector."""
    webhook = webhook_configuration("", "")["webhooks"][0]
    name = ((namespace or {}).get("metadata") or {}).get("name", "")
    # The API server sees to it that every namespace bears its name as a label.
    of_namespace = {**_labels(namespace), "kubernetes.io/metadata.name": name}
    return _matches(webhook["namespaceSelector"], of_namespace) and _matches(
        webhook["objectSelector"], _labels(pod)
    )


def webhook_configuration(url: str, ca_bundle: str, *, failure_policy: str = "Ignore") -> Json:
    """Return the injector's MutatingWebhookConfiguration as its chart renders it, except for a URL.

    `ca_bundle` is base64 of PEM, as in the object. The chart's failure policy is Ignore, and Fail
    where it is installed for high availability.
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
                "failurePolicy": failure_policy,
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
    """Whether a mesh seems to be in the pod: a name with any image, or a well-known image."""
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
    return bool(automount and shapes.account_mounts(_first_container(spec)))


def _injection_operations(
    pod: Json, namespace: Json | None, config: InjectorConfig, owner: Json | None
) -> Iterator[Json]:
    """Yield the operations in the order of Linkerd's patch template."""
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
    added["linkerd.io/proxy-version"] = effective.proxy_version
    anchors = config.trust_anchors.encode()
    added["linkerd.io/trust-root-sha256"] = hashlib.sha256(anchors).hexdigest()

    if not pod.get("metadata"):
        yield _add("/metadata", {})
    yield from _add_to_map("/metadata/annotations", own, added)
    yield from _add_to_map("/metadata/labels", _labels(pod), _added_labels(pod, config, owner))
    yield from _add_containers(spec, effective)


def _add_containers(spec: Json, config: InjectorConfig) -> Iterator[Json]:
    """Yield the part of the patch that concerns spec; `config` is this pod's."""
    app = _first_container(spec)
    for field in ("volumes", "initContainers"):
        if not spec.get(field):
            yield _add(f"/spec/{field}", [])
    if config.cni:
        first = shapes.network_validator(config)
    else:
        first = shapes.proxy_init(config, app)
        yield _add("/spec/volumes/-", shapes.volume(shapes.XTABLES_LOCK))
    # A native proxy starts before the pod's own init containers, a classic one after them all.
    yield _add(f"/spec/initContainers/{0 if config.native else '-'}", first)
    if config.debug:
        yield _add("/spec/containers/-", shapes.debug(config))
    yield _add("/spec/volumes/-", shapes.volume(shapes.END_ENTITY))
    if config.token_projection:
        yield _add("/spec/volumes/-", shapes.volume(shapes.TOKEN))
    if config.native:
        place = "initContainers/1"
    else:
        place = "containers/0" if config.await_proxy else "containers/-"
    yield _add(f"/spec/{place}", shapes.proxy(config, app, _inbound_ports(spec)))


def _opaque_ports_operations(
    obj: Json, namespace: Json | None, config: InjectorConfig
) -> Iterator[Json]:
    """Yield the one change that an object which is not injected may get."""
    name, own = CONFIG + "opaque-ports", _annotations(obj)
    if name in own:
        return
    value = _annotations(namespace).get(name, _opaque_ports_of(obj, config) or None)
    if value is not None:
        yield from _add_to_map("/metadata/annotations", own, {name: value})


def _opaque_ports_of(obj: Json, config: InjectorConfig) -> str:
    """Return the ports of a pod or Service that are opaque by default."""
    spec = obj.get("spec") or {}
    if obj.get("kind") == "Service":
        # A port without target port is its own target; a named target is never a default.
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
    """Return the ports that the pod declares or is probed on, sorted as text, as Linkerd does."""
    ports = {port["containerPort"] for port in _ports(spec)}
    for container in _containers(spec):
        for probe in ("readinessProbe", "livenessProbe"):
            port = ((container.get(probe) or {}).get("httpGet") or {}).get("port")
            if isinstance(port, int):  # a named port is declared, so it is in already
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


def _add(path: str, value: Any) -> Json:
    return {"op": "add", "path": path, "value": value}


def _add_to_map(path: str, present: Mapping[str, str], added: Mapping[str, str]) -> Iterator[Json]:
    if not present:
        yield _add(path, {})
    for key in sorted(added):
        yield _add(f"{path}/{key.replace('~', '~0').replace('/', '~1')}", added[key])


def _expression(key: str, operator: str, *values: str) -> Json:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def _matches(selector: Json, labels: Mapping[str, str]) -> bool:
    """Judge the two operators that the configuration uses."""
    return all(
        expression["key"] not in labels
        or (
            expression["operator"] == "NotIn"
            and labels[expression["key"]] not in expression["values"]
        )
        for expression in selector["matchExpressions"]
    )
