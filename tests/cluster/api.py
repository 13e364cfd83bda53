"""A small synchronous client of the API server's REST interface, on plain dictionaries.

The tests use HTTP and no client library. So they see the same as a user's request: codes, messages
and warnings. Nothing is retried or changed.
"""

import json
import re
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar, cast

import httpx

T = TypeVar("T")
Json = dict[str, Any]
Patch = Json | list[Json]
PatchHow = Literal["merge", "json", "strategic", "apply"]

FIELD_MANAGER = "mendix-mesh-tests"

_PATCH_TYPES: dict[PatchHow, str] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}

# One header can contain several warnings. Each is `299 - "text"`, with \" and \\ escaped.
_WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')

# The API server's aggregated discovery returns all kinds of all groups in one response.
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class StatusError(Exception):
    """Raised for each failure that the API server returns: any metav1.Status without success."""

    def __init__(self, code: int, message: str, status: Json) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def core(
    kind: str, name: str, namespace: str = "", *, labels: Json | None = None, **fields: Any
) -> Json:
    """Return an object of the core API group, such as a Namespace or a ServiceAccount."""
    metadata: Json = {"name": name}
    metadata |= {"namespace": namespace} if namespace else {}
    metadata |= {"labels": labels} if labels else {}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields}


def definition(
    group: str, version: str, kind: str, *, plural: str = "", schema: Json | None = None
) -> Json:
    """Return the definition of a namespaced kind. Without a schema, it accepts any content."""
    plural = plural or f"{kind.lower()}s"
    whole = schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        # Kubernetes' own groups need the annotation.
        "metadata": {"name": f"{plural}.{group}",
                     "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"}},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{"name": version, "served": True, "storage": True,
                          "schema": {"openAPIV3Schema": whole}}],
        },
    }  # fmt: skip


class Resource(NamedTuple):
    """The location of a kind: group and version as in apiVersion, plural name, scope."""

    version: str
    plural: str
    namespaced: bool


# The kinds that tests use most, so that a call needs only one request. Discovery finds the others.
_KNOWN: dict[str, Resource] = {
    "Namespace": Resource("v1", "namespaces", False),
    "Node": Resource("v1", "nodes", False),
    "Pod": Resource("v1", "pods", True),
    "Service": Resource("v1", "services", True),
    "ServiceAccount": Resource("v1", "serviceaccounts", True),
    "ConfigMap": Resource("v1", "configmaps", True),
    "Secret": Resource("v1", "secrets", True),
    "Event": Resource("v1", "events", True),
    "Deployment": Resource("apps/v1", "deployments", True),
    "StatefulSet": Resource("apps/v1", "statefulsets", True),
    "DaemonSet": Resource("apps/v1", "daemonsets", True),
    "ReplicaSet": Resource("apps/v1", "replicasets", True),
    "Job": Resource("batch/v1", "jobs", True),
    "CronJob": Resource("batch/v1", "cronjobs", True),
    "Ingress": Resource("networking.k8s.io/v1", "ingresses", True),
    "EndpointSlice": Resource("discovery.k8s.io/v1", "endpointslices", True),
    "ClusterRole": Resource("rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": Resource("rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    "Role": Resource("rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": Resource("rbac.authorization.k8s.io/v1", "rolebindings", True),
    "MutatingWebhookConfiguration": Resource(
        "admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", False
    ),
    "ValidatingWebhookConfiguration": Resource(
        "admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", False
    ),
}


class Api:
    """A user's connection to the API server, authenticated by a client certificate.

    `kind` is "Pod", "Deployment", …, without a version. Objects contain their apiVersion. Without a
    namespace, namespaced kinds use "default", as in kubectl. Only `list` then means all namespaces.
    Each failure that the API server returns raises StatusError. If the server can't be reached, it
    is httpx.TransportError.
    """

    def __init__(self, server: str, ca: Path, cert: Path, key: Path) -> None:
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(cert, key)
        self.server = server
        self.warnings: list[str] = []
        """The texts of the Warning headers of the last call, in their order."""
        # Proxy variables of the environment must not affect a cluster on loopback.
        self._http = httpx.Client(
            base_url=server, verify=context, timeout=35.0, trust_env=False, http2=False
        )
        self._discovered: dict[tuple[str, str], Resource] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The client can't be used afterwards."""
        self._http.close()

    def create(self, obj: Json, *, dry_run: bool = False) -> Json:
        """Create an object in its namespace. Return the stored object."""
        resource = self._resource(obj["kind"], obj["apiVersion"])
        path = _path(resource, obj["metadata"].get("namespace"))
        return self._json("POST", path, body=obj, dry_run=dry_run)

    def denial(self, obj: Json) -> str:
        """Try to create an object, as a dry run. Return why this fails; empty if it does not."""
        try:
            self.create(obj, dry_run=True)
        except StatusError as denied:
            return denied.message
        return ""

    def ensure(self, obj: Json) -> None:
        """Create an object, unless it exists."""
        try:
            self.create(obj)
        except StatusError as denied:
            if denied.status.get("reason") != "AlreadyExists":
                raise

    def define(self, *definitions: Json) -> None:
        """Define kinds, unless they exist, and wait until they are served."""
        for one in definitions:
            self.ensure(one)
        for one in definitions:
            kind = one["spec"]["names"]["kind"]
            wait_for(lambda kind=kind: self.serves(kind), why=f"{kind} to be served")  # type: ignore[misc]

    def serves(self, kind: str) -> bool:
        """Return whether there can be objects of a kind."""
        try:
            self.list(kind)
        except LookupError:
            return False
        except StatusError as denied:
            # 429: the API server is still creating the storage of a new kind.
            if denied.code not in (httpx.codes.NOT_FOUND, httpx.codes.TOO_MANY_REQUESTS):
                raise
            return False
        return True

    def exists(self, kind: str, name: str, namespace: str | None = None) -> bool:
        """Return whether there is such an object."""
        try:
            self.get(kind, name, namespace)
        except StatusError as denied:
            if denied.code != httpx.codes.NOT_FOUND:
                raise
            return False
        return True

    def get(self, kind: str, name: str, namespace: str | None = None) -> Json:
        """Return one object. Raise StatusError with code 404 if there is none."""
        return self._json("GET", _path(self._resource(kind), namespace, name))

    def list(
        self, kind: str, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[Json]:
        """Return the objects that match the label and field selectors, with their kind."""
        resource = self._resource(kind)
        path = _path(resource, namespace, everywhere=namespace is None)
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        found = self._json("GET", path, query={k: v for k, v in selectors.items() if v})
        # The items of a list omit kind and apiVersion. A copy gives `get` and `list` the same
        # result.
        return [{"apiVersion": resource.version, "kind": kind, **item} for item in found["items"]]

    def replace(self, obj: Json, *, subresource: str = "") -> Json:
        """Replace the stored object (PUT), or its subresource such as "status"."""
        resource = self._resource(obj["kind"], obj["apiVersion"])
        meta = obj["metadata"]
        path = _path(resource, meta.get("namespace"), meta["name"], subresource)
        return self._json("PUT", path, body=obj)

    def patch(
        self,
        kind: str,
        name: str,
        namespace: str | None,
        patch: Patch,
        *,
        how: PatchHow = "merge",
        subresource: str = "",
        dry_run: bool = False,
        manager: str = FIELD_MANAGER,
    ) -> Json:
        """Patch an object. `apply` is a forced server-side apply by the field manager."""
        path = _path(self._resource(kind), namespace, name, subresource)
        query = {"fieldManager": manager, "force": "true"} if how == "apply" else {}
        return self._json(
            "PATCH", path, body=patch, content=_PATCH_TYPES[how], query=query, dry_run=dry_run
        )

    def delete(
        self, kind: str, name: str, namespace: str | None = None, *, grace: int | None = None
    ) -> None:
        """Request an object's deletion. `grace` is in seconds. The object can exist for longer."""
        query = {} if grace is None else {"gracePeriodSeconds": str(grace)}
        self._json("DELETE", _path(self._resource(kind), namespace, name), query=query)

    def create_subresource(
        self, kind: str, name: str, namespace: str | None, subresource: str, body: Json
    ) -> Json:
        """POST to a subresource, such as a pod's "eviction" or a ServiceAccount's "token"."""
        path = _path(self._resource(kind), namespace, name, subresource)
        return self._json("POST", path, body=body)

    def text(self, path: str) -> str:
        """Return the response of a plain path such as /readyz or /metrics."""
        return self._call("GET", path).text

    def _json(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        dry_run: bool = False,
        **more: Any,
    ) -> Json:
        params = {**(query or {}), **({"dryRun": "All"} if dry_run else {})}
        return cast("Json", self._call(method, path, query=params, **more).json())

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content: str = "application/json",
        query: dict[str, str] | None = None,
        accept: str = "application/json",
    ) -> httpx.Response:
        headers = {"Accept": accept}
        encoded = None
        if body is not None:
            headers["Content-Type"] = content
            encoded = json.dumps(body).encode()
        answer = self._http.request(
            method, path, content=encoded, params=query or {}, headers=headers
        )
        self.warnings = [
            re.sub(r"\\(.)", r"\1", text)
            for header in answer.headers.get_list("warning")
            for text in _WARNING.findall(header)
        ]
        if answer.is_success:
            return answer
        status = _status(answer)
        raise StatusError(status.get("code", answer.status_code), status["message"], status)

    def _resource(self, kind: str, version: str = "") -> Resource:
        """Return the location of a kind, in the given version or else in the preferred one."""
        known = _KNOWN.get(kind)
        if known and version in ("", known.version):
            return known
        if (kind, version) not in self._discovered:
            self._discover()
        try:
            return self._discovered[kind, version]
        except KeyError:
            message = f"the API server serves no kind {kind!r} in {version or 'any version'}"
            raise LookupError(message) from None

    def _discover(self) -> None:
        """Read all kinds. The first version of a group, and the core group, are preferred."""
        found: dict[tuple[str, str], Resource] = {}
        for path in ("/api", "/apis"):
            groups = self._call("GET", path, accept=_DISCOVERY).json()["items"]
            for group in groups:
                name = group["metadata"].get("name", "")
                for served in group["versions"]:
                    version = f"{name}/{served['version']}" if name else served["version"]
                    for entry in served.get("resources", ()):
                        # An entry with only subresources, such as scale, has no kind of its own.
                        kind = (entry.get("responseKind") or {}).get("kind", "")
                        place = Resource(version, entry["resource"], entry["scope"] == "Namespaced")
                        found.setdefault((kind, version), place)
                        found.setdefault((kind, ""), place)
        self._discovered = found


def _path(
    resource: Resource,
    namespace: str | None,
    name: str = "",
    subresource: str = "",
    *,
    everywhere: bool = False,
) -> str:
    root = "/apis" if "/" in resource.version else "/api"
    parts = [root, resource.version]
    if resource.namespaced and not everywhere:
        parts += ["namespaces", namespace or "default"]
    parts += [part for part in (resource.plural, name, subresource) if part]
    return "/".join(parts)


def _status(answer: httpx.Response) -> Json:
    """Return the metav1.Status of a failed response. If the body has none, create one."""
    try:
        status = answer.json()
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return {"message": "", **status}
    return {
        "kind": "Status",
        "status": "Failure",
        "code": answer.status_code,
        "message": answer.text or answer.reason_phrase,
    }


def wait_for(
    what: Callable[[], T | None], *, seconds: float = 60.0, every: float = 0.05, why: str
) -> T:
    """Call `what` until it returns something true, and return that.

    A busy machine can need many times as long as an idle one, so the default of `seconds` is high.

    An object that does not exist yet (StatusError 404) counts as not true. Every other exception is
    raised. Raise TimeoutError with `why` and the last result after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen: object
        try:
            result = what()
        except StatusError as denied:
            if denied.code != httpx.codes.NOT_FOUND:
                raise
            seen = denied
        else:
            if result:
                return result
            seen = result
        if time.monotonic() >= deadline:
            message = f"waited {seconds:g} s in vain for {why}; last seen: {seen!r:.500}"
            raise TimeoutError(message)
        time.sleep(every)
