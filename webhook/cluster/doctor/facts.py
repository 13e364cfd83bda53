"""What the doctor looks at: each thing once, however many namespaces and findings ask for it."""

import base64
import binascii
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
from cryptography import x509

from webhook.cluster.api.connection import Cluster, Json, path
from webhook.cluster.api.errors import RefusedError
from webhook.cluster.doctor import mesh_reading, probe
from webhook.cluster.doctor.mesh_reading import Mesh as Configured
from webhook.cluster.doctor.mesh_reading import Reading
from webhook.cluster.doctor.probe import Probe
from webhook.cluster.judge import Judge, is_outside
from webhook.cluster.judge.outdated import Proxy, proxy_of
from webhook.cluster.kinds import certificates, webhooks
from webhook.cluster.kinds.inventory import Inventory, LivePod, Namespace
from webhook.cluster.kinds.webhooks import INJECTORS, OURS, Service, WebhookEntry
from webhook.cluster.namespaces.enrollment import Enrolled, Enrollment
from webhook.cluster.namespaces.scope import ScopeError, existing
from webhook.cluster.plaintext.acceptance import Strictness, assess
from webhook.cluster.plaintext.policies import PolicyObjects
from webhook.policy import meshes
from webhook.policy.mesh import Mesh
from webhook.policy.pod.objects import Object
from webhook.policy.settings import Settings

_ADMISSION = "admissionregistration.k8s.io/v1"

#: Where Linkerd's chart puts the injector's certificate, and istiod its authority's.
_LINKERD_SECRET = "linkerd-proxy-injector-k8s-tls"  # noqa: S105 - the name of a Secret
_ISTIO_ROOTS, _ISTIO_KEY = "istio-ca-root-cert", "root-cert.pem"

T = TypeVar("T")


class Served(NamedTuple):
    """What a webhook's server shows: its certificate and those above, or else an authority's."""

    where: str
    chain: Sequence[x509.Certificate]
    is_servers: bool


class Place(NamedTuple):
    """A namespace that is looked at, and how it is enrolled."""

    namespace: Namespace
    #: None where it is not enrolled; then the mesh is `unknown`.
    enrolled: Enrolled | None
    mesh: Mesh

    @property
    def name(self) -> str:
        """The namespace's name."""
        return self.namespace.name


def places(
    inventory: Inventory, enrollment: Enrollment, settings: Settings, named: Sequence[str] = ()
) -> list[Place]:
    """What the doctor is to look at. Raises `ScopeError` where that is nothing."""
    known = meshes.load(settings)

    def place(namespace: Namespace) -> Place:
        enrolled = enrollment.of(namespace)
        mesh = known.get(enrolled.mesh if enrolled else "", known["unknown"])
        return Place(namespace, enrolled, mesh)

    if named:
        return [place(existing(inventory, name)) for name in named]
    found = [one for one in map(place, inventory.namespaces()) if one.enrolled]
    if not found:
        raise ScopeError(
            "no namespace is enrolled: nothing to look at; see mendix-mesh discover --enroll, or "
            "name some with -n"
        )
    return found


class Facts:
    """The cluster as one user sees it. What is forbidden raises `RefusedError` each time."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self.settings = settings
        self._seen: dict[Any, Any] = {}
        self._inventory = Inventory(cluster)
        self._policies = PolicyObjects(cluster, settings)
        self._judge = Judge(settings)

    def get(self, where: str) -> Json | None:
        """One object; None where there is none."""
        return self._once(where, lambda: self._cluster.find(where))

    def objects(self, where: str, *, labels: str = "", fields: str = "") -> list[Json]:
        """A short list of objects; none where there is no such kind."""

        def read() -> list[Json]:
            try:
                found = self._cluster.items(where, labels=labels, fields=fields)
                return [msgspec.json.decode(raw) for raw in found]
            except RefusedError as error:
                if error.code == 404:
                    return []
                raise

        return self._once((where, labels, fields), read)

    def mutating(self) -> list[WebhookEntry]:
        """Every mutating webhook, in the order in which they are called."""
        return self._entries("mutatingwebhookconfigurations")

    def ours_everywhere(self) -> list[WebhookEntry]:
        """All our webhooks, for pods or not, of both kinds."""
        both = self.mutating() + self._entries("validatingwebhookconfigurations")
        return [entry for entry in both if entry.webhook.name.endswith(OURS)]

    def ours(self, place: Place) -> list[WebhookEntry]:
        """Our webhooks that are called for pods of a namespace: mutating, then validating ones."""
        labels = place.namespace.labels
        return [
            entry for entry in self.ours_everywhere()
            if entry.webhook.is_ours_for_pods and entry.webhook.takes(labels)
        ]  # fmt: skip

    def injectors(self, mesh: str) -> list[WebhookEntry]:
        """The webhooks of a mesh's injectors; none for a mesh without sidecars."""
        end = INJECTORS.get(mesh)
        return [entry for entry in self.mutating() if end and entry.webhook.name.endswith(end)]

    def callers(self, place: Place) -> list[WebhookEntry]:
        """The injectors' webhooks that are called for a pod of a namespace, as we mark it."""
        meta = self.promised(place).metadata
        pod = (meta.labels if meta else None) or {}
        labels = place.namespace.labels
        return [
            entry for entry in self.injectors(place.mesh.name) if entry.webhook.takes(labels, pod)
        ]

    def revisions(self) -> Collection[str]:
        """The revisions and tags of Istio that are installed; the unnamed one is `default`."""
        return mesh_reading.revisions(self.mutating()).keys()

    def installed(self, mesh: Configured) -> Reading:
        """Return what a mesh's own configuration says."""

        def read() -> Reading:
            return mesh_reading.read(mesh, self.get, self.mutating(), self.settings)

        return self._once(("installed", mesh), read)

    def served(self, place: Place, entry: WebhookEntry) -> Served | None:
        """The certificate of a webhook's server; None where it is not stored where it should be."""
        service = entry.webhook.client_config.service
        if entry.webhook.name.endswith(OURS):
            return self._secret(service.namespace, self._own_secret(service)) if service else None
        where = service.namespace if service else self.control_plane(place.mesh.name)
        if place.mesh.name == "linkerd":
            return self._secret(where, _LINKERD_SECRET)
        found = self.get(path("v1", "configmaps", where, _ISTIO_ROOTS)) or {}
        pem = (found.get("data") or {}).get(_ISTIO_KEY, "")
        title = f"ConfigMap {where}/{_ISTIO_ROOTS}"
        return Served(title, certificates.parse(pem.encode()), is_servers=False) if pem else None

    def authority(self, entry: WebhookEntry) -> bytes:
        """The authority beside the certificate of a server of ours, as PEM; empty without."""
        service = entry.webhook.client_config.service
        name = self._own_secret(service) if service else ""
        found = self.get(path("v1", "secrets", service.namespace, name)) if service and name else {}
        return _data(found or {}, "ca.crt")

    def deployment(self, service: Service) -> Json | None:
        """The Deployment behind a Service, which has its name in every mesh's chart and in ours."""
        return self.get(path("apps/v1", "deployments", service.namespace, service.name))

    def _own_secret(self, service: Service) -> str:
        """The Secret that our Deployment mounts; empty where that is not there."""
        found = self.deployment(service) or {}
        volumes = found.get("spec", {}).get("template", {}).get("spec", {}).get("volumes") or ()
        names = (volume["secret"].get("secretName") for volume in volumes if volume.get("secret"))
        return next(filter(None, names), "")

    def _secret(self, namespace: str, name: str) -> Served | None:
        found = self.get(path("v1", "secrets", namespace, name)) if name else None
        if found is None:
            return None
        pem = _data(found, "tls.crt")
        return Served(f"Secret {namespace}/{name}", certificates.parse(pem), is_servers=True)

    def services(self, place: Place) -> list[tuple[str, Service]]:
        """Who is called by way of a Service for a pod of a namespace: a title, and the Service."""
        titled = [("mendix-mesh", entry) for entry in self.ours(place)]
        titled += [("the injector", entry) for entry in self.callers(place)]
        found: dict[tuple[str, str], tuple[str, Service]] = {}
        for title, entry in titled:
            if service := entry.webhook.client_config.service:
                found[service.namespace, service.name] = (title, service)
        return list(found.values())

    def promised(self, place: Place, **marks: Any) -> Object:
        """A pod of a namespace as our mutating webhook marks it, with further labels and such."""
        return probe.promised(probe.pod(place.name, **marks), place.mesh, self.settings)

    def probe(self, place: Place, *, task: bool = False) -> Probe:
        """What the API server makes of a pod, or of a task pod. Raises as `probe.ask`."""
        ingress = place.enrolled is not None and place.enrolled.ingress

        def ask() -> Probe:
            return probe.ask(
                self._cluster, place.name, place.mesh, self.settings, ingress=ingress, task=task
            )

        return self._once(("probe", place.name, task), ask)

    def strictness(self, place: Place) -> Strictness:
        """Whether plaintext gets into a namespace, by its policy objects and running pods."""
        return self._running(place)[0]

    def proxies(self, place: Place) -> Mapping[Proxy, list[str]]:
        """The proxies of a namespace's pods, each with the names of the pods that have it."""
        return self._running(place)[1]

    def _running(self, place: Place) -> tuple[Strictness, Mapping[Proxy, list[str]]]:
        """What a namespace's running pods show; they are listed once."""

        def read() -> tuple[Strictness, Mapping[Proxy, list[str]]]:
            enrolled = place.enrolled or Enrolled(place.mesh.name, "enforce", False, None)
            assessment = assess(
                self._policies,
                place.name,
                place.mesh.name,
                annotations=place.namespace.annotations,
                enrolled=place.enrolled is not None,
            )
            proxies: dict[Proxy, list[str]] = {}
            for pod in self._inventory.pods(place.name):
                if not isinstance(pod, LivePod) or not pod.runs:
                    continue
                judged = self._judge.judge(pod, enrolled)
                outside = is_outside(judged, place.mesh)
                assessment.add(pod.name, assessment.read(pod), outside=outside)
                proxy = proxy_of(judged.pod) if judged.pod else None
                if proxy:
                    proxies.setdefault(proxy, []).append(pod.name)
            return assessment.finished(), proxies

        return self._once(("running", place.name), read)

    def control_plane(self, mesh: str) -> str:
        """The namespace of a mesh's control plane."""
        own = self.settings.linkerd if mesh == "linkerd" else self.settings.istio
        return own.control_plane_namespace

    def _entries(self, plural: str) -> list[WebhookEntry]:
        def read() -> list[WebhookEntry]:
            return webhooks.entries(self._cluster.items(path(_ADMISSION, plural)), plural)

        return self._once(plural, read)

    def _once(self, key: Any, read: Callable[[], T]) -> T:
        if key not in self._seen:
            try:
                self._seen[key] = read()
            except RefusedError as error:
                self._seen[key] = error
        seen = self._seen[key]
        if isinstance(seen, RefusedError):
            raise seen
        return cast("T", seen)


def _data(secret: Json, key: str) -> bytes:
    """What a Secret holds under a key; empty where that is nothing that can be read."""
    try:
        return base64.b64decode((secret.get("data") or {}).get(key, ""))
    except binascii.Error:
        return b""
