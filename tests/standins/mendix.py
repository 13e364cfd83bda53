"""A stand-in for the Mendix Operator: it creates its objects, and reverts unexpected changes.

The real operator is closed source. The stand-in has the behavior that matters to a webhook: the
chain of owners, task pods that are not retried, and that it "rolls back any properties it doesn't
expect" in its objects. It does not wait for a task before it creates the next one. It has no worker
Deployments and no PDBs. It never removes an Ingress annotation that was deleted from its
configuration.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

from tests.cluster.api import Api, StatusError, wait_for
from tests.cluster.part import repeated
from tests.standins import mendix_manifests as manifests
from tests.standins.defaults import defaulted

Json = dict[str, Any]

# The Deployment controller's own annotation, the only one that the operator did not write.
_REVISION = "deployment.kubernetes.io/revision"

# The field of a MendixApp that contains the kind of a storage.
_STORAGE: dict[manifests.Storage, str] = {"database": "database", "file": "storage"}


def install_crds(api: Api) -> None:
    """Define Mendix's custom resources if they are missing, and wait until they are served.

    The garbage collector looks for new kinds only every 30 seconds. Until then, deleting a
    MendixApp does not delete its dependents.
    """
    api.define(*manifests.custom_resource_definitions())


def install(api: Api, namespace: str, **configuration: Any) -> None:
    """Do what Mendix's installer does. `configuration` is for operator_configuration.

    The pods of the operator and the agent are only simulated. MendixOperator does the operator's
    work.
    """
    install_crds(api)
    for obj in (
        *manifests.service_accounts(namespace),
        manifests.operator_configuration(namespace, **configuration),
        manifests.operator_deployment(namespace),
        manifests.agent_deployment(namespace),
    ):
        api.ensure(obj)


def await_tasks(api: Api, namespace: str, env: str) -> None:
    """Wait until an app's task pods have succeeded, and a running operator has recorded this."""
    tasks = [
        ("Build", f"{env}-build"),
        *(("StorageInstance", f"{env}-{what}") for what in _STORAGE),
    ]

    def are_done() -> bool:
        try:
            found = [api.get(kind, name, namespace) for kind, name in tasks]
        except StatusError as denied:
            if denied.code == 404:
                return False
            raise
        return all((one.get("status") or {}).get("phase") == "Done" for one in found)

    wait_for(are_done, seconds=60, why=f"the tasks of {env} to end")


class MendixOperator:
    """The operator of one namespace. Call `reconcile`, or use `run` to call it in a thread.

    Give it its own Api, as for LinkerdInjector.
    """

    def __init__(
        self, api: Api, namespace: str, adapt: Callable[[Json], Json] = lambda spec: spec
    ) -> None:
        """Set the namespace. `adapt` changes the spec of each pod, so that it can really run."""
        self.namespace = namespace
        self.reconciles = 0
        """The number of passes so far, over all apps of the namespace."""
        self.writes: Counter[str] = Counter()
        """The number of writes so far, by object, like "Deployment/shop-master"."""
        self.denied: dict[str, str] = {}
        """Why the API server rejected the last write of an object. Removed at the next success."""
        self._api = api
        self._adapt = adapt

    def reconcile(self) -> int:
        """Bring the namespace to the state in the MendixApps. Return the number of writes."""
        before = self.writes.total()
        settings = self._settings()
        for app in self._api.list("MendixApp", self.namespace):
            if "deletionTimestamp" not in app["metadata"]:
                self._reconcile(app, settings)
        self.reconciles += 1
        return self.writes.total() - before

    @contextmanager
    def run(self, *, every: float = 0.1) -> Iterator[Self]:
        """Reconcile in a thread, once every `every` seconds, until the block ends.

        If the thread fails with anything except a rejected request, the error is raised at the end
        of the block.
        """
        with repeated(self.reconcile, every=every):
            yield self

    def _settings(self) -> Json:
        """Return the spec of the namespace's OperatorConfiguration; empty if there is none."""
        configuration = self._get("OperatorConfiguration", manifests.CONFIGURATION)
        return (configuration or {}).get("spec") or {}

    def _reconcile(self, app: Json, settings: Json) -> None:
        env, spec = app["metadata"]["name"], app.get("spec") or {}
        look = {
            "labels": _general("customPodLabels", settings, spec),
            "annotations": _general("customPodAnnotations", settings, spec),
        }
        for what, field in _STORAGE.items():
            make = partial(manifests.storage_pod, env, what, self.namespace, **look)
            self._task(app, "StorageInstance", f"{env}-{what}", spec.get(field) or {}, make)
        make = partial(manifests.build_pod, env, self.namespace, **look)
        self._task(app, "Build", f"{env}-build", {"sourceURL": spec.get("sourceURL", "")}, make)
        self._runtime(app, settings, look)
        self._endpoint(app, settings)

    def _runtime(self, app: Json, settings: Json, look: Json) -> None:
        env, spec = app["metadata"]["name"], app.get("spec") or {}
        replicas = spec.get("replicas", 1)
        runtime = self._child(app, "Runtime", env, {"replicas": replicas})
        if not runtime:
            return
        field = "runtimeDeploymentPodAnnotations"
        of_runtime = {**(settings.get(field) or {}), **(spec.get(field) or {})}
        deployment = manifests.app_deployment(
            env,
            self.namespace,
            owner=runtime,
            replicas=replicas,
            labels=look["labels"],
            annotations={**look["annotations"], **of_runtime},
            automount=settings.get("runtimeAutomountServiceAccountToken", False),
        )
        template = deployment["spec"]["template"]
        template["spec"] = self._adapt(template["spec"])
        self._write(deployment, rolled_back)

    def _endpoint(self, app: Json, settings: Json) -> None:
        env, spec = app["metadata"]["name"], app.get("spec") or {}
        of_endpoint = settings.get("endpoint") or {}
        endpoint = self._child(app, "Endpoint", env, of_endpoint)
        if not endpoint:
            return
        self._write(manifests.app_service(env, self.namespace, owner=endpoint), _repaired_service)
        if of_endpoint.get("type", "ingress") == "ingress":
            of_ingress = of_endpoint.get("ingress") or {}
            domain = of_ingress.get("domain", "mendix.example.com")
            ingress = manifests.app_ingress(
                env,
                self.namespace,
                owner=endpoint,
                domain=domain,
                class_name=spec.get("ingressClassName") or of_ingress.get("ingressClassName", ""),
                annotations={
                    key: value.replace("{{.Name}}", env).replace("{{.Domain}}", domain)
                    for key, value in (of_ingress.get("annotations") or {}).items()
                }
                | (spec.get("endpointAnnotations") or {}),
            )
            self._write(ingress, _repaired_ingress)

    def _task(self, app: Json, kind: str, name: str, spec: Json, make: Callable[..., Json]) -> None:
        """Run a task once: a pod with its own owner, which is never compared, changed or retried.

        A failed pod stays until it is deleted. Then there is a new one.
        """
        task = self._child(app, kind, name, spec)
        if not task or (task.get("status") or {}).get("phase") == "Done":
            return
        stored = self._get("Pod", name)
        if stored is None:
            pod = make(owner=task)
            pod["spec"] = self._adapt(pod["spec"])
            self._attempt(pod, lambda: self._api.create(pod))
        elif stored.get("status", {}).get("phase") == "Succeeded":
            done = {**task, "status": {"phase": "Done"}}
            self._attempt(done, lambda: self._api.replace(done))

    def _child(self, app: Json, kind: str, name: str, spec: Json) -> Json | None:
        wanted = manifests.custom_resource(kind, name, self.namespace, spec, owner=app)
        return self._write(wanted, _repaired_custom_resource)

    def _write(self, wanted: Json, repaired: Callable[[Json, Json], Json | None]) -> Json | None:
        """Create the object, or replace the stored one with the result of `repaired`.

        Return the stored object; None if the API server rejected it and nothing is stored.
        """
        stored = self._get(wanted["kind"], wanted["metadata"]["name"])
        if stored is None:
            return self._attempt(wanted, lambda: self._api.create(wanted))
        replacement = repaired(wanted, stored)
        if replacement is None:
            self.denied.pop(_name(wanted), None)
            return stored
        return self._attempt(wanted, lambda: self._api.replace(replacement)) or stored

    def _attempt(self, obj: Json, write: Callable[[], Json]) -> Json | None:
        name = _name(obj)
        try:
            written = write()
        except StatusError as denied:
            self.denied[name] = denied.message
            return None  # the next pass tries again
        self.denied.pop(name, None)
        self.writes[name] += 1
        return written

    def _get(self, kind: str, name: str) -> Json | None:
        try:
            return self._api.get(kind, name, self.namespace)
        except StatusError as denied:
            if denied.code == 404:
                return None
            raise


def rolled_back(wanted: Json, stored: Json) -> Json | None:
    """Return the Deployment that reverts each change to the stored one; None if unchanged.

    Values that the API server sets, and the Deployment controller's revision, are not changes.
    """
    of_stored = stored["metadata"].get("annotations") or {}
    kept = {key: value for key, value in of_stored.items() if key == _REVISION}
    annotations = {**kept, **(wanted["metadata"].get("annotations") or {})}
    expected = defaulted(wanted)
    expected["metadata"] |= {"annotations": annotations} if annotations else {}
    if _seen(expected) == _seen(stored):
        return None
    version = stored["metadata"]["resourceVersion"]
    return {**expected, "metadata": {**expected["metadata"], "resourceVersion": version}}


def _seen(deployment: Json) -> Json:
    """Return the part of a Deployment that the operator compares."""
    metadata = deployment["metadata"]
    fields = {field: metadata.get(field) or {} for field in ("labels", "annotations")}
    template = deployment["spec"]["template"]
    # Older API servers write an absent creation time as null.
    of_template = {k: v for k, v in template["metadata"].items() if v is not None}
    spec = {**deployment["spec"], "template": {**template, "metadata": of_template}}
    return {**fields, "ownerReferences": metadata.get("ownerReferences"), "spec": spec}


def _repaired_ingress(wanted: Json, stored: Json) -> Json | None:
    """Keep annotations that the operator does not know, revert all else (since 1.4.0)."""
    own = wanted["metadata"]["annotations"]
    annotations = {**(stored["metadata"].get("annotations") or {}), **own}
    return _replaced(stored, wanted, wanted["spec"], annotations)


def _repaired_service(wanted: Json, stored: Json) -> Json | None:
    """Revert changes to the fields that the operator sets. The API server adds others."""
    (port,), (stored_port,) = wanted["spec"]["ports"], stored["spec"]["ports"][:1]
    spec = {**stored["spec"], **wanted["spec"], "ports": [{**stored_port, **port}]}
    return _replaced(stored, wanted, spec, stored["metadata"].get("annotations"))


def _repaired_custom_resource(wanted: Json, stored: Json) -> Json | None:
    """Revert changes to spec, and restore lost owner references (since 2.7.0)."""
    return _replaced(stored, wanted, wanted["spec"], stored["metadata"].get("annotations"))


def _replaced(
    stored: Json, wanted: Json, spec: Json, annotations: Mapping[str, str] | None
) -> Json | None:
    metadata = {
        **stored["metadata"],
        "ownerReferences": wanted["metadata"]["ownerReferences"],
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    replacement = {**stored, "metadata": metadata, "spec": spec}
    return None if replacement == stored else replacement


def _name(obj: Json) -> str:
    return f"{obj['kind']}/{obj['metadata']['name']}"


def _general(field: str, settings: Json, spec: Json) -> dict[str, str]:
    """Return labels or annotations for app and task pods; the app's override the namespace's."""
    merged: dict[str, str] = {}
    for source in (settings, spec):
        merged |= (source.get(field) or {}).get("general") or {}
    return merged
