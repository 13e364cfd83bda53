"""Checks a cluster before an install: versions, mesh, cert-manager, rights, order of webhooks."""

import re
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import StatusError
from webhook.cluster.doctor import mesh_reading
from webhook.cluster.doctor.findings.kubernetes_old import NEEDED, version_of
from webhook.cluster.kinds import meshes
from webhook.cluster.kinds.webhooks import OURS
from webhook.policy.settings import Settings

Result = Literal["ok", "warning", "error", "unknown"]
#: The chart's name of the mutating webhook configuration.
CONFIGURATION = "00-mendix-mesh"
_CERT_MANAGER = "cert-manager.io"
_VERSION = "app.kubernetes.io/version"
#: The oldest versions that docs/install.md names.
_CERT_MANAGER_NEEDED, _ISTIO_NEEDED = (1, 19), (1, 24)
_ADMISSION = "admissionregistration.k8s.io"
_RBAC = "rbac.authorization.k8s.io"
#: What the chart creates: group and plural, and whether it is in the release's namespace.
_CREATES = (
    (_ADMISSION, "mutatingwebhookconfigurations", False),
    (_ADMISSION, "validatingwebhookconfigurations", False),
    (_RBAC, "clusterroles", False),
    (_RBAC, "clusterrolebindings", False),
    ("", "namespaces", False),
    ("", "serviceaccounts", True),
    ("", "configmaps", True),
    ("", "secrets", True),
    ("", "services", True),
    ("apps", "deployments", True),
    ("policy", "poddisruptionbudgets", True),
    (_RBAC, "roles", True),
    (_RBAC, "rolebindings", True),
    (_CERT_MANAGER, "certificates", True),
    (_CERT_MANAGER, "issuers", True),
)


class Preflight(msgspec.Struct, kw_only=True):
    """The result of one check before an install."""

    id: str
    result: Result
    text: str
    fix: str = ""


def preflight(cluster: Cluster, namespace: str) -> list[Preflight]:
    """Check the cluster for an install into a namespace. Raises `ClusterError`.

    A check that needs a right that the user lacks is `unknown`.
    """
    checks: dict[str, Callable[[], Iterator[Preflight]]] = {
        "kubernetes": lambda: _kubernetes(cluster),
        "mesh": lambda: _mesh(cluster),
        "cert-manager": lambda: _cert_manager(cluster),
        "order": lambda: _order(cluster),
        "rights": lambda: _rights(cluster, namespace),
    }
    found: list[Preflight] = []
    for name, check in checks.items():
        try:
            found += check()
        except StatusError as error:
            if not error.is_forbidden:
                raise
            found.append(Preflight(id=name, result="unknown", text=str(error)))
    return found


def is_good(found: list[Preflight]) -> bool:
    """Return whether no result is an error; unknown results do not count."""
    return not any(one.result == "error" for one in found)


def _kubernetes(cluster: Cluster) -> Iterator[Preflight]:
    version = str((cluster.find("/version") or {}).get("gitVersion", ""))
    parsed = version_of(version)
    needed = f"{NEEDED[0]}.{NEEDED[1]}"
    if parsed is None or parsed >= NEEDED:
        yield Preflight(id="kubernetes", result="ok", text=f"Kubernetes {version} is supported")
    else:
        yield Preflight(
            id="kubernetes", result="error", text=f"Kubernetes {version} is older than {needed}",
            fix=f"upgrade Kubernetes to {needed} or later",
        )  # fmt: skip


def _mesh(cluster: Cluster) -> Iterator[Preflight]:
    readings = mesh_reading.everything(cluster, Settings(), ("linkerd", "istio"))
    versions: dict[str, str] = {
        one.installed.mesh: one.installed.version for one in readings if one.installed
    }
    injectors = meshes.injectors(cluster)
    for mesh, names in injectors.items():
        version = versions.get(mesh, "")
        text = f"{mesh} {version}".strip() + f" is installed ({', '.join(names)})"
        found = _version(version) if mesh == "istio" else None
        if found and found < _ISTIO_NEEDED:
            fix = f"upgrade Istio to {_shown(_ISTIO_NEEDED)} or later"
            yield Preflight(id="mesh", result="error", text=f"{text}, which is too old", fix=fix)
        else:
            yield Preflight(id="mesh", result="ok", text=text)
    if meshes.has_ztunnel(cluster):
        yield Preflight(id="mesh", result="ok", text="ambient mode is installed (ztunnel)")
    elif not injectors:
        yield Preflight(
            id="mesh", result="error", text="neither Linkerd nor Istio is installed",
            fix="install a mesh first; without one, mode enforce denies every pod",
        )  # fmt: skip


def _cert_manager(cluster: Cluster) -> Iterator[Preflight]:
    """Yield whether cert-manager can issue certificates and fill in caBundle."""
    other = "or give the chart a certificate of your own: tls.source=secret"
    if cluster.find(f"/apis/{_CERT_MANAGER}/v1") is None:
        yield Preflight(
            id="cert-manager", result="error", text="cert-manager is not installed",
            fix=f"install cert-manager, {other}",
        )  # fmt: skip
        return
    for name in ("controller", "cainjector"):
        labels = f"app.kubernetes.io/name={'cert-manager' if name == 'controller' else name}"
        found = [
            msgspec.json.decode(raw, type=_Deployment)
            for raw in cluster.items(path("apps/v1", "deployments"), labels=labels)
        ]
        ready = [one for one in found if one.status.ready_replicas]
        old = [
            version
            for one in ready
            if (version := _version((one.metadata.labels or {}).get(_VERSION, "")))
            and version < _CERT_MANAGER_NEEDED
        ]
        if old:
            needed = _shown(_CERT_MANAGER_NEEDED)
            yield Preflight(
                id="cert-manager", result="error",
                text=f"cert-manager's {name} has version {_shown(old[0])}, which is too old",
                fix=f"upgrade cert-manager to {needed} or later, {other}",
            )  # fmt: skip
        elif ready:
            text = f"cert-manager's {name} is ready"
            yield Preflight(id="cert-manager", result="ok", text=text)
        else:
            yield Preflight(
                id="cert-manager", result="warning",
                text=f"cert-manager's {name} has no ready pod with the label {labels}",
                fix=f"find out why: kubectl get deployments -A -l {labels}; {other}",
            )  # fmt: skip


def _version(text: str) -> tuple[int, int] | None:
    """Return major and minor of a version like `v1.19.2` or `1.31.0`; None for any other text."""
    found = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def _shown(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


class _Status(msgspec.Struct, rename="camel"):
    ready_replicas: int = 0


class _Meta(msgspec.Struct):
    labels: dict[str, str] | None = None


class _Deployment(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    status: _Status = msgspec.field(default_factory=_Status)


def _order(cluster: Cluster) -> Iterator[Preflight]:
    """Yield whether the chart's mutating webhook is called before the injectors."""
    early = [
        name
        for names in meshes.injectors(cluster).values()
        for name in names
        if name < CONFIGURATION
    ]
    if early:
        yield Preflight(
            id="order", result="error",
            text=f"{', '.join(early)} would be called before {CONFIGURATION}",
            fix="install with --set mutatingWebhookConfigurationName=NAME, where NAME sorts first",
        )  # fmt: skip
    else:
        text = f"{CONFIGURATION} is called before the injectors"
        yield Preflight(id="order", result="ok", text=text)
    ours = sorted(
        {e.configuration for e in meshes.mutating(cluster) if e.webhook.name.endswith(OURS)}
        - {CONFIGURATION}
    )
    if ours:
        yield Preflight(
            id="order", result="warning",
            text=f"another release of mendix-mesh is installed: {', '.join(ours)}",
            fix="uninstall it first, or upgrade it",
        )  # fmt: skip


def _rights(cluster: Cluster, namespace: str) -> Iterator[Preflight]:
    """Yield which of the chart's objects the user is not allowed to create."""
    missing = [
        f"{plural}.{group}" if group else plural
        for group, plural, is_namespaced in _CREATES
        if not _may_create(cluster, group, plural, namespace if is_namespaced else "")
    ]
    if missing:
        yield Preflight(
            id="rights", result="error", text=f"you are not allowed to create {', '.join(missing)}",
            fix="install as a user with these rights, such as a cluster's admin",
        )  # fmt: skip
    else:
        text = "you are allowed to create what the chart needs, in the cluster and in namespace "
        text += namespace
        yield Preflight(id="rights", result="ok", text=text)


def _may_create(cluster: Cluster, group: str, plural: str, namespace: str) -> bool:
    attributes = {"verb": "create", "group": group, "resource": plural, "namespace": namespace}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "metadata": {},
        "spec": {"resourceAttributes": attributes},
    }
    where = path("authorization.k8s.io/v1", "selfsubjectaccessreviews")
    found, _ = cluster.create(where, body)
    return bool(found.get("status", {}).get("allowed"))
