"""A small cluster in memory, behind an API server with scripted answers.

It supports what `webhook.cluster` uses: objects, lists (with its selectors), merge patches,
server-side applies and deletions. tests/cluster/ tests the same requests on a real API server.
"""

import copy
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonpatch

from tests.fixtures.generate import named
from tests.unit.cluster.apiserver import HttpRequest, Reply, ScriptedServer, serving, status

Json = dict[str, Any]

LABELLED = "2026-03-01T12:00:00Z"
BEFORE, AFTER = "2026-03-01T11:00:00Z", "2026-03-01T13:00:00Z"
MESH = "mendix-mesh.io/mesh"
MODE = "mendix-mesh.io/mode"
CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/mendix-mesh"


class World:
    """The API server's objects by path, and the paths that are forbidden or fail."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.forbidden: list[str] = []
        self.failing: list[str] = []
        self.warnings: dict[str, str] = {}

    @contextmanager
    def serving(self, folder: Path) -> Iterator[ScriptedServer]:
        """Serve it, until the block ends."""
        with serving(self.answer, folder) as server:
            yield server

    def add(self, where: str, obj: Json) -> Json:
        """Put an object at a path, with the metadata that follow from the path."""
        parts = where.strip("/").split("/")
        meta = obj.setdefault("metadata", {})
        meta["name"] = parts[-1]
        if "namespaces" in parts[:-2]:
            meta["namespace"] = parts[parts.index("namespaces") + 1]
        meta.setdefault("uid", f"uid of {where}")
        self.objects[where] = obj
        return obj

    def namespace(self, name: str, mesh: str = "", mode: str = "", **meta: Any) -> None:
        """Add a namespace, enrolled at LABELLED if a mesh is given."""
        labels = {MESH: mesh} if mesh else {}
        labels |= {MODE: mode} if mode else {}
        fields: Json = {"f:metadata": {"f:labels": {f"f:{label}": {} for label in labels}}}
        managed = [{"time": LABELLED, "fieldsV1": fields}] if mesh else []
        whole = {"labels": labels, "managedFields": managed,
                 "creationTimestamp": "2026-01-01T00:00:00Z", **meta}  # fmt: skip
        self.add(f"/api/v1/namespaces/{name}", {"metadata": whole})

    def pod(self, namespace: str, name: str, pod: Json, *, created: str = AFTER) -> Json:
        """Add a running pod, all its containers ready."""
        made = copy.deepcopy(pod)
        made["metadata"] |= {"creationTimestamp": created}
        spec = made["spec"]
        made["status"] = {
            "phase": "Running",
            "containerStatuses": [{"name": c["name"], "ready": True} for c in spec["containers"]],
            "initContainerStatuses": [
                {"name": c["name"], "ready": True} for c in spec.get("initContainers", ())
            ],
            **made.get("status", {}),
        }
        return self.add(f"/api/v1/namespaces/{namespace}/pods/{name}", made)

    def install(self) -> None:
        """Add the webhook configuration: namespaces by label, as the chart has it."""
        entries = []
        for mesh in ("linkerd", "istio", "ambient"):
            for mode in ("enforce", "warn", "audit"):
                others = ["warn", "audit"]
                where = [{"key": MESH, "operator": "In", "values": [mesh]}]
                where.append(
                    {"key": MODE, "operator": "NotIn", "values": others}
                    if mode == "enforce"
                    else {"key": MODE, "operator": "In", "values": [mode]}
                )
                entries.append(
                    {
                        "name": f"{mesh}.{mode}.mendix-mesh.io",
                        "clientConfig": {"service": _service(f"/validate/{mesh}/{mode}")},
                        "namespaceSelector": {"matchExpressions": where},
                    }
                )
        unknown = [
            {"key": MESH, "operator": "Exists"},
            {"key": MESH, "operator": "NotIn", "values": ["linkerd", "istio", "ambient"]},
        ]
        entries.append(
            {
                "name": "unknown",
                "clientConfig": {"service": _service("/validate/unknown/enforce")},
                "namespaceSelector": {"matchExpressions": unknown},
            }
        )
        meta = {"creationTimestamp": "2026-01-02T00:00:00Z"}
        self.add(CONFIGURATION, {"metadata": meta, "webhooks": entries})

    def config_map(self, namespace: str, name: str, **data: str) -> None:
        """Add a ConfigMap. An underscore in a key stands for a dot."""
        keys = {key.replace("_", "."): value for key, value in data.items()}
        self.add(f"/api/v1/namespaces/{namespace}/configmaps/{name}", {"data": keys})

    def answer(self, request: HttpRequest) -> Reply:
        """Return the API server's answer."""
        url = urlsplit(request.target)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        error = self._error_for(request.method, url.path)
        if error:
            return error
        if request.method == "GET":
            return self._get(url.path, query)
        if request.method == "DELETE":
            gone = self.objects.pop(url.path, None)
            return Reply() if gone else status(404, "NotFound", "gone")
        body = json.loads(request.body)
        if request.method == "POST":
            return self._create(f"{url.path}/{body['metadata']['name']}", body, query)
        stored = copy.deepcopy(self.objects.get(url.path))
        if request.method == "PATCH":
            applied = "apply" in request.headers["Content-Type"]
            if stored is None and not applied:
                return status(404, "NotFound", f"{url.path} not found")
            if "json-patch" in request.headers["Content-Type"]:
                try:
                    stored = jsonpatch.apply_patch(stored, body)
                except jsonpatch.JsonPatchException as error:
                    return status(422, "Invalid", str(error))
            else:
                stored = body if applied else _merged(stored, body)
        assert stored is not None
        if "dryRun" not in query:
            self.add(url.path, stored)
        warning = self.warnings.get(url.path)
        return Reply(body=stored, headers={"Warning": f'299 - "{warning}"'} if warning else {})

    def _create(self, path: str, body: Json, query: dict[str, str]) -> Reply:
        if path in self.objects:
            return status(409, "AlreadyExists", f"{path} already exists")
        if "dryRun" not in query:
            self.add(path, body)
        return Reply(201, body)

    def _error_for(self, method: str, path: str) -> Reply | None:
        if _is_below(path, self.failing):
            return status(500, "InternalError", "etcd is gone")
        if _is_below(path, self.forbidden):
            message = f'User "someone" cannot {method.lower()} {path}'
            return status(403, "Forbidden", message)
        return None

    def _get(self, path: str, query: dict[str, str]) -> Reply:
        if path in self.objects:
            return Reply(body=self.objects[path])
        *_, last = path.split("/")
        found = [
            obj for where, obj in sorted(self.objects.items(), key=_key)
            if _is_in(where, path) and _selected(obj, query)
        ]  # fmt: skip
        if found or last in ("pods", "namespaces") or "limit" in query:
            return self._page(found, query)
        return status(404, "NotFound", f"{path} not found")

    def _page(self, found: list[Json], query: dict[str, str]) -> Reply:
        start, size = int(query.get("continue", 0)), int(query.get("limit", 500))
        rest = len(found) - start - size
        meta = {"continue": str(start + size), "remainingItemCount": rest} if rest > 0 else {}
        meta |= {"resourceVersion": "1"}
        return Reply(body={"metadata": meta, "items": found[start : start + size]})


def _service(path: str) -> Json:
    return {"namespace": "mendix-mesh", "name": "mendix-mesh", "path": path}


def _is_below(path: str, roots: list[str]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)


def _key(item: tuple[str, Json]) -> str:
    meta = item[1]["metadata"]
    return f"{meta.get('namespace', '')}/{meta.get('name', '')}"


def _is_in(where: str, collection: str) -> bool:
    """Whether an object's path is in a collection, of one namespace or of all."""
    parent, _, _ = where.rpartition("/")
    if parent == collection:
        return True
    head, found, tail = parent.partition("/namespaces/")
    return bool(found) and f"{head}/{tail.partition('/')[2]}" == collection


def _selected(obj: Json, query: dict[str, str]) -> bool:
    labels = obj["metadata"].get("labels") or {}
    for part in filter(None, re.split(r",(?![^(]*\))", query.get("labelSelector", ""))):
        key, _, values = part.partition(" in (")
        if values:
            if labels.get(key) not in values.removesuffix(")").split(","):
                return False
            continue
        key, _, value = part.partition("=")
        if labels.get(key) != value:
            return False
    for part in filter(None, query.get("fieldSelector", "").split(",")):
        if "!=" in part:
            if (obj.get("status") or {}).get("phase") == part.partition("!=")[2]:
                return False
        else:
            key, _, value = part.partition("=")
            if value != (obj["metadata"]["name"] if key == "metadata.name" else obj.get(key)):
                return False
    return True


def _merged(old: Any, change: Any) -> Any:
    """JSON Merge Patch, RFC 7386."""
    if not isinstance(change, dict):
        return change
    made = dict(old) if isinstance(old, dict) else {}
    for key, value in change.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = _merged(made.get(key), value)
    return made


def fixture(check: str, name: str, *, passing: bool = False) -> Json:
    """A stored pod of the fixtures, which breaks a check or is the nearest that does not."""
    found = named(check, name)
    assert found.passes == passing
    (document,) = found.documents
    return copy.deepcopy(document)


def meshed(mesh: str = "linkerd") -> Json:
    """A stored pod that is in a mesh."""
    if mesh == "ambient":
        pod = fixture("proxy-missing", "ambient-label", passing=True)
        annotations = pod["metadata"].setdefault("annotations", {})
        annotations["ambient.istio.io/redirection"] = "enabled"
        return pod
    return fixture("proxy-missing", f"{mesh}-native", passing=True)


def unmeshed(mesh: str = "linkerd") -> Json:
    """A stored pod that got no proxy."""
    name = "ambient-no-label" if mesh == "ambient" else f"{mesh}-injector-down"
    return fixture("proxy-missing", name)


def gateway() -> Json:
    """Return a stored pod of Istio's own gateway."""
    return fixture("proxy-brought", "istio-gateway", passing=True)


def owned(pod: Json, kind: str, name: str, version: str = "apps/v1") -> Json:
    """Return the same pod with a controller. A Deployment's pod is owned through a ReplicaSet."""
    made = copy.deepcopy(pod)
    if kind == "Deployment":
        made["metadata"].setdefault("labels", {})["pod-template-hash"] = "7fd5"
        kind, name = "ReplicaSet", f"{name}-7fd5"
    reference = {"apiVersion": version, "kind": kind, "name": name, "controller": True}
    made["metadata"]["ownerReferences"] = [reference]
    return made
