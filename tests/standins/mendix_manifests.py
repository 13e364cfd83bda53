"""The objects in a namespace of Mendix on Kubernetes, as plain manifests.

The operator is closed source. Names, ports, images and similar values are from Mendix's
documentation and release notes up to operator 2.28. Some values are not documented there: the
owners' kinds, the containers' names in task pods, the Service's name. These are guesses, and tests
must not depend on them. Every function returns a new object. `owner` is the object that controls
it.
"""

from collections.abc import Mapping
from typing import Any, Literal

from tests.cluster.api import definition

Json = dict[str, Any]
Storage = Literal["database", "file"]

GROUP = "privatecloud.mendix.com"
VERSION = f"{GROUP}/v1alpha1"
KINDS = {
    "MendixApp": "mendixapps",
    "Runtime": "runtimes",
    "Build": "builds",
    "StorageInstance": "storageinstances",
    "StoragePlan": "storageplans",
    "Endpoint": "endpoints",
    "OperatorConfiguration": "operatorconfigurations",
}
"""The custom resources that the stand-in supports, with their plural names."""
CONFIGURATION = "mendix-operator-configuration"

# The operator's builds have images with digests. Its own images have its version as tag.
_DIGEST = "sha256:" + "a" * 64
_REGISTRY = "private-cloud.registry.mendix.com"
_RELEASE = "2.25.0"

_HARDENED: Json = {"runAsNonRoot": True, "allowPrivilegeEscalation": False}
_READ_ONLY: Json = {**_HARDENED, "readOnlyRootFilesystem": True}

_ACCOUNTS = (
    "mendix-operator",
    "mendix-agent",
    "mendix-builder",
    "mendix-storage-provisioner",
    "mendix-backup-restore",
    "mxpc-cli-installer-sa",
)


def custom_resource_definitions() -> list[Json]:
    """Return a definition of each kind that accepts any content in spec and status."""
    return [definition(GROUP, VERSION.rpartition("/")[2], kind) for kind in KINDS]


def service_accounts(namespace: str) -> list[Json]:
    """Return the accounts of Mendix's workloads, in addition to `default`."""
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(name, namespace)}
        for name in _ACCOUNTS
    ]


def custom_resource(
    kind: str, name: str, namespace: str, spec: Json, *, owner: Json | None = None
) -> Json:
    """Return one of the operator's own objects."""
    metadata = _metadata(name, namespace, owner=owner)
    return {"apiVersion": VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def mendix_app(env: str, namespace: str, **spec: Any) -> Json:
    """Return the MendixApp of an environment; `spec` adds to its fields or replaces them."""
    default = {
        "database": {"servicePlan": "postgres"},
        "storage": {"servicePlan": "minio"},
        "sourceURL": f"https://example.com/{env}.mda",
        "replicas": 1,
    }
    return custom_resource("MendixApp", env, namespace, default | spec)


def operator_configuration(namespace: str, **spec: Any) -> Json:
    """Return the namespace's OperatorConfiguration; `spec` adds fields or replaces them.

    `endpoint` is {"type", "ingress": {"domain", "annotations", …}}. Of the other fields, the
    stand-in uses `runtimeDeploymentPodAnnotations`, `runtimeAutomountServiceAccountToken`,
    `customPodLabels` and `customPodAnnotations`.
    """
    ingress = {"domain": "mendix.example.com", "ingressClassName": "nginx", "path": "/"}
    default = {"endpoint": {"type": "ingress", "ingress": ingress}}
    return custom_resource("OperatorConfiguration", CONFIGURATION, namespace, default | spec)


def operator_deployment(namespace: str) -> Json:
    """Return the operator's own Deployment."""
    container = {
        "command": ["mendix-operator"],
        "env": [{"name": "LOG_LEVEL", "value": "L1"}],
    }
    return _system_deployment("mendix-operator", "mendix-operator", namespace, container)


def agent_deployment(namespace: str) -> Json:
    """Return the gateway agent, which exists only in connected mode."""
    return _system_deployment("mendix-agent", "kubernetes-agent", namespace, {})


def app_deployment(  # a user of Mendix can set each argument
    env: str,
    namespace: str,
    *,
    owner: Json | None = None,
    replicas: int = 1,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    automount: bool = False,
) -> Json:
    """Return an environment's leader, <env>-master. The labels and annotations are for its pods."""
    selector = _app_labels(env)
    template: Json = {
        "metadata": {
            "labels": {
                **(labels or {}),
                **selector,
                # An older set of labels. Mendix's samples still have both.
                "app": env,
                "component": "mendix-app",
                "node-type": "master",
            }
        },
        "spec": {
            "automountServiceAccountToken": automount,
            "enableServiceLinks": False,
            "serviceAccountName": "default",
            "terminationGracePeriodSeconds": 300,
            "containers": [_runtime_container(env), _sidecar_container()],
        },
    }
    if annotations:
        template["metadata"]["annotations"] = dict(annotations)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(f"{env}-master", namespace, owner=owner, labels=selector),
        "spec": {
            "progressDeadlineSeconds": 600,
            "replicas": replicas,
            "revisionHistoryLimit": 0,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": selector},
            "template": template,
        },
    }


def app_pod(env: str, namespace: str, **deployment: Any) -> Json:
    """Return the pod that the ReplicaSet of app_deployment(…) creates, before any webhook."""
    template = app_deployment(env, namespace, **deployment)["spec"]["template"]
    replica_set = f"{env}-master-7fd5487c8"
    reference = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": replica_set,
        "uid": "00000000-0000-0000-0000-000000000002",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = template["metadata"]
    metadata["labels"]["pod-template-hash"] = "7fd5487c8"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{replica_set}-",
            "namespace": namespace,
            **metadata,
            "ownerReferences": [reference],
        },
        "spec": template["spec"],
    }


def build_pod(
    env: str,
    namespace: str,
    *,
    owner: Json | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Json:
    """Return the task pod that builds an environment's image."""
    container = {
        "name": "build",
        "image": f"{_REGISTRY}/image-builder:{_RELEASE}",
        "resources": {
            "limits": {"cpu": "1", "memory": "256Mi", "ephemeral-storage": "2Gi"},
            "requests": {"cpu": "250m", "memory": "64Mi", "ephemeral-storage": "2Gi"},
        },
    }
    metadata = _metadata(
        f"{env}-build", namespace, owner=owner, labels=labels, annotations=annotations
    )
    return _task_pod(metadata, "mendix-builder", container)


def storage_pod(
    env: str,
    what: Storage,
    namespace: str,
    *,
    owner: Json | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Json:
    """Return the task pod that creates an environment's database or its file storage."""
    variant = {"database": "postgres", "file": "s3"}[what]
    container = {
        "name": "provisioner",
        "image": f"{_REGISTRY}/storage-provisioner:{variant}-{_RELEASE}",
    }
    metadata = _metadata(
        f"{env}-{what}", namespace, owner=owner, labels=labels, annotations=annotations
    )
    return _task_pod(metadata, "mendix-storage-provisioner", container)


def backup_pod(namespace: str) -> Json:
    """Return the pod that Mendix's guide describes for manual backup and restore."""
    image = "docker.io/bitnami/postgresql:12"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata("mendix-backup-restore", namespace),
        "spec": {
            "serviceAccountName": "mendix-backup-restore",
            "automountServiceAccountToken": True,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "pgtools", "image": image, "command": ["sleep", "infinity"]}],
        },
    }


def installer_job(namespace: str) -> Json:
    """Return the Job with which Mendix's module for AWS installs the operator."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata("mxpc-cli-installer", namespace),
        "spec": {
            "template": {
                "spec": {
                    "serviceAccountName": "mxpc-cli-installer-sa",
                    "restartPolicy": "Never",
                    "containers": [{"name": "mxpc-cli-installer", "image": "alpine"}],
                }
            }
        },
    }


def app_service(env: str, namespace: str, *, owner: Json | None = None) -> Json:
    """Return the Service in front of an environment's pods."""
    port = {"name": "http", "port": 8080, "targetPort": "mendix-app", "appProtocol": "http"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(env, namespace, owner=owner, labels=_app_labels(env)),
        "spec": {"type": "ClusterIP", "selector": _app_labels(env), "ports": [port]},
    }


def app_ingress(
    env: str,
    namespace: str,
    *,
    owner: Json | None = None,
    domain: str = "mendix.example.com",
    class_name: str = "nginx",
    class_as_annotation: bool = False,
    annotations: Mapping[str, str] | None = None,
) -> Json:
    """Return an environment's Ingress. Its class is in spec, or in the legacy annotation."""
    legacy = {"kubernetes.io/ingress.class": class_name} if class_as_annotation else {}
    service = {"name": env, "port": {"number": 8080}}
    path = {"path": "/", "pathType": "ImplementationSpecific", "backend": {"service": service}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": _metadata(
            env,
            namespace,
            owner=owner,
            annotations={
                "nginx.ingress.kubernetes.io/proxy-body-size": "500m",
                **legacy,
                **(annotations or {}),
            },
        ),
        "spec": {
            **({"ingressClassName": class_name} if class_name and not class_as_annotation else {}),
            "rules": [{"host": f"{env}.{domain}", "http": {"paths": [path]}}],
        },
    }


def _metadata(
    name: str,
    namespace: str,
    *,
    owner: Json | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Json:
    metadata: Json = {"name": name, "namespace": namespace}
    if labels:
        metadata["labels"] = dict(labels)
    if annotations:
        metadata["annotations"] = dict(annotations)
    if owner:
        reference = {field: owner[field] for field in ("apiVersion", "kind")}
        reference |= {field: owner["metadata"][field] for field in ("name", "uid")}
        metadata["ownerReferences"] = [{**reference, "controller": True}]
    return metadata


def _app_labels(env: str) -> dict[str, str]:
    return {f"{GROUP}/app": env, f"{GROUP}/component": "mendix-app"}


def _system_deployment(name: str, image: str, namespace: str, container: Json) -> Json:
    container = {"name": name, "image": f"{_REGISTRY}/{image}:{_RELEASE}", **container}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(name, namespace),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"name": name}},
            "template": {
                "metadata": {"labels": {"name": name}},
                "spec": {"serviceAccountName": name, "containers": [container]},
            },
        },
    }


def _task_pod(metadata: Json, account: str, container: Json) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": account,
            "containers": [{**container, "securityContext": dict(_READ_ONLY)}],
        },
    }


def _runtime_container(env: str) -> Json:
    secret = {"name": f"{env}-m2ee", "key": "adminpassword"}
    return {
        "name": "mendix",
        "image": f"registry.example.com/apps/{env}@{_DIGEST}",
        "imagePullPolicy": "Always",
        "env": [
            {"name": "M2EE_ADMIN_LISTEN_ADDRESSES", "value": "127.0.0.1"},
            {"name": "M2EE_ADMIN_PORT", "value": "9000"},
            {"name": "M2EE_ADMIN_PASS", "valueFrom": {"secretKeyRef": secret}},
        ],
        "ports": [{"containerPort": 8080, "name": "mendix-app", "protocol": "TCP"}],
        "livenessProbe": {**_probe("livez", timeout=3, period=15), "initialDelaySeconds": 60},
        "readinessProbe": {**_probe("readyz", timeout=1, period=1), "initialDelaySeconds": 5},
        "resources": {
            "limits": {"cpu": "1", "memory": "512Mi", "ephemeral-storage": "256Mi"},
            "requests": {"cpu": "100m", "memory": "512Mi", "ephemeral-storage": "256Mi"},
        },
        "securityContext": dict(_HARDENED),
    }


def _probe(path: str, *, timeout: int, period: int) -> Json:
    """Return a probe of the m2ee sidecar. `timeout` and `period` are in seconds."""
    get = {"path": f"/m2ee-sidecar/v1/{path}", "port": 8800, "scheme": "HTTP"}
    return {"httpGet": get, "timeoutSeconds": timeout, "periodSeconds": period}


def _sidecar_container() -> Json:
    return {
        "name": "m2ee-sidecar",
        "image": f"{_REGISTRY}/mx-m2ee-sidecar:{_RELEASE}",
        "ports": [{"containerPort": 8800}, {"containerPort": 8900}],
        "resources": {
            "limits": {"cpu": "250m", "memory": "32Mi"},
            "requests": {"cpu": "100m", "memory": "16Mi"},
        },
        "securityContext": dict(_READ_ONLY),
    }
