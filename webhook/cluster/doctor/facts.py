"""What the doctor reads from the cluster. Each object is read once and then reused."""

import base64
import binascii
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
from cryptography import x509

from webhook.cluster.api.connection import Cluster, Json, path
from webhook.cluster.api.errors import StatusError
from webhook.cluster.doctor import mesh_reading, probe
from webhook.cluster.doctor.mesh_reading import Mesh as Configured
from webhook.cluster.doctor.mesh_reading import Reading
from webhook.cluster.doctor.probe import Probe
from webhook.cluster.judge import Judge
from webhook.cluster.judge.outdated import Proxy, proxy_of
from webhook.cluster.kinds import certificates, webhooks
from webhook.cluster.kinds import meshes as installed_meshes
from webhook.cluster.kinds.entrances import Controller
from webhook.cluster.kinds.inventory import RUNNING, Inventory, LivePod, Namespace
from webhook.cluster.kinds.webhooks import INJECTORS, OURS, Binding, Service, WebhookEntry
from webhook.cluster.namespaces.enrollment import Enrolled, Enrollment
from webhook.cluster.namespaces.scope import ScopeError, existing
from webhook.cluster.plaintext.acceptance import PlaintextPolicy, assess
from webhook.cluster.plaintext.policies import PolicyObjects
from webhook.policy import meshes
from webhook.policy.mesh import Mesh
from webhook.policy.pod.objects import Object
from webhook.policy.settings import Settings

_ADMISSION = "admissionregistration.k8s.io/v1"

#: Where Linkerd's chart stores the injector's certificate, and istiod its CA certificate.
_LINKERD_SECRET = "linkerd-proxy-injector-k8s-tls"  # noqa: S105 - the name of a Secret
_ISTIO_ROOTS, _ISTIO_KEY = "istio-ca-root-cert", "root-cert.pem"

T = TypeVar("T")


class Served(NamedTuple):
    """The certificates of a webhook's server: its own with the chain, or only its CA's."""

    #: The object in which they are stored.
    where: str
    chain: Sequence[x509.Certificate]
    #: Whether the first certificate is the server's own; False if it is the CA's.
    is_servers: bool


class Place(NamedTuple):
    """A namespace that the doctor examines, and how it is enrolled."""

    namespace: Namespace
    #: None if it is not enrolled; then the mesh is `unknown`.
    enrolled: Enrolled | None
    mesh: Mesh

    @property
    def name(self) -> str:
        """Return the namespace's name."""
        return self.namespace.name


def places(
    inventory: Inventory, enrollment: Enrollment, settings: Settings, named: Sequence[str] = ()
) -> list[Place]:
    """Return the namespaces to examine: the named ones, or all enrolled ones.

    Raises `ScopeError` if there are none.
    """
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
            "no namespace is enrolled, so there is nothing to examine: enroll one with "
            "mendix-mesh discover --enroll or kubectl label namespace NAMESPACE "
            "mendix-mesh.io/mesh=MESH mendix-mesh.io/mode=warn, or select a namespace with -n"
        )
    return found


class Facts:
    """The cluster with one user's rights. A forbidden read raises `StatusError` each time."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self.settings = settings
        self._seen: dict[Any, Any] = {}
        self._inventory = Inventory(cluster)
        self._policies = PolicyObjects(cluster, settings)
        self._judge = Judge(settings)

    def get(self, where: str) -> Json | None:
        """Return one object; None if it does not exist."""
        return self._once(where, lambda: self._cluster.find(where))

    def objects(self, where: str, *, labels: str = "", fields: str = "") -> list[Json]:
        """Return a short list of objects; empty if the kind does not exist."""

        def read() -> list[Json]:
            try:
                found = self._cluster.items(where, labels=labels, fields=fields)
                return [msgspec.json.decode(raw) for raw in found]
            except StatusError as error:
                if error.code == 404:
                    return []
                raise

        return self._once((where, labels, fields), read)

    def mutating(self) -> list[WebhookEntry]:
        """Return every mutating webhook, in the order in which the API server calls them."""
        return self._entries("mutatingwebhookconfigurations")

    def ours_everywhere(self) -> list[WebhookEntry]:
        """Return all webhooks of mendix-mesh: mutating and validating, for pods and others."""
        both = self.mutating() + self._entries("validatingwebhookconfigurations")
        return [entry for entry in both if entry.webhook.name.endswith(OURS)]

    def helm(self, *options: str) -> str:
        """Return the command that upgrades the installed release with these options."""
        marks = next((entry.annotations for entry in self.ours_everywhere()), {})
        name = marks.get("meta.helm.sh/release-name", "mendix-mesh")
        namespace = marks.get("meta.helm.sh/release-namespace", "mendix-mesh")
        words = ["helm upgrade", name, "charts/mendix-mesh -n", namespace]
        return " ".join([*words, "--reset-then-reuse-values", *options])

    def helm_settings(self) -> str:
        """Return the commands that give the release the settings of the installed mesh."""
        file = "mesh-settings.yaml"
        return f"mendix-mesh discover --settings > {file} && {self.helm('--values', file)}"

    def ours(self, place: Place) -> list[WebhookEntry]:
        """Return our webhooks that are called for pods of a namespace, mutating ones first."""
        labels = place.namespace.labels
        return [
            entry for entry in self.ours_everywhere()
            if entry.webhook.is_ours_for_pods and entry.webhook.takes(labels)
        ]  # fmt: skip

    def policies(self) -> set[str]:
        """Return the names of the API server's own validating policies."""
        found = self.objects(path(_ADMISSION, "validatingadmissionpolicies"))
        return {one["metadata"]["name"] for one in found}

    def bindings(self) -> list[Binding]:
        """Return the bindings of these policies."""
        where = path(_ADMISSION, "validatingadmissionpolicybindings")
        return self._once(where, lambda: webhooks.bindings(self._cluster.items(where)))

    def installed_meshes(self) -> list[str]:
        """Return the meshes that a namespace can join."""
        return self._once("installed", lambda: installed_meshes.installed(self._cluster))

    def injectors(self, mesh: str) -> list[WebhookEntry]:
        """Return the webhooks of a mesh's injectors; empty for a mesh without sidecars."""
        end = INJECTORS.get(mesh)
        return [entry for entry in self.mutating() if end and entry.webhook.name.endswith(end)]

    def callers(self, place: Place) -> list[WebhookEntry]:
        """Return the injectors' webhooks that are called for a pod that our webhook has marked."""
        meta = self.promised(place).metadata
        pod = (meta.labels if meta else None) or {}
        labels = place.namespace.labels
        return [
            entry for entry in self.injectors(place.mesh.name) if entry.webhook.takes(labels, pod)
        ]

    def revisions(self) -> Collection[str]:
        """Return Istio's installed revisions and tags; the unnamed revision is `default`."""
        return mesh_reading.revisions(self.mutating()).keys()

    def installed(self, mesh: Configured) -> Reading:
        """Return what was read from a mesh's own configuration."""

        def read() -> Reading:
            return mesh_reading.read(mesh, self.get, self.mutating(), self.settings)

        return self._once(("installed", mesh), read)

    def served(self, place: Place, entry: WebhookEntry) -> Served | None:
        """Return the certificates of a webhook's server; None if they are not stored as usual."""
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
        """Return the CA (`ca.crt`) in the Secret of our server, as PEM; empty if there is none."""
        service = entry.webhook.client_config.service
        name = self._own_secret(service) if service else ""
        found = self.get(path("v1", "secrets", service.namespace, name)) if service and name else {}
        return _data(found or {}, "ca.crt")

    def deployment(self, service: Service) -> Json | None:
        """Return the Deployment of a Service: in all charts both have the same name."""
        return self.get(path("apps/v1", "deployments", service.namespace, service.name))

    def _own_secret(self, service: Service) -> str:
        """Return the name of the Secret that our Deployment mounts; empty if there is none."""
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
        """Return the Services that the API server calls for pods of a namespace, with titles."""
        titled = [("mendix-mesh", entry) for entry in self.ours(place)]
        titled += [("the injector", entry) for entry in self.callers(place)]
        found: dict[tuple[str, str], tuple[str, Service]] = {}
        for title, entry in titled:
            if service := entry.webhook.client_config.service:
                found[service.namespace, service.name] = (title, service)
        return list(found.values())

    def promised(self, place: Place, **marks: Any) -> Object:
        """Return a pod as our mutating webhook marks it; `marks` are its labels or annotations."""
        return probe.promised(probe.pod(place.name, **marks), place.mesh, self.settings)

    def probe(self, place: Place, *, task: bool = False) -> Probe:
        """Return the result of a dry run for a pod, or a task pod. Raises like `probe.ask`."""
        ingress = place.enrolled is not None and place.enrolled.ingress

        def ask() -> Probe:
            return probe.ask(
                self._cluster, place.name, place.mesh, self.settings, ingress=ingress, task=task
            )

        return self._once(("probe", place.name, task), ask)

    def outside(self, controller: Controller, mesh: str) -> list[LivePod]:
        """Return the running pods of an ingress controller that are outside a mesh."""

        def read() -> list[LivePod]:
            found = self._inventory.pods(labels=controller.labels, fields=RUNNING)
            return [
                pod
                for pod in found
                if isinstance(pod, LivePod) and pod.runs and self._judge.runs_outside(pod, mesh)
            ]

        return self._once(("outside", controller.labels, mesh), read)

    def plaintext(self, place: Place) -> PlaintextPolicy:
        """Return whether a namespace accepts plaintext, by its policy objects and running pods."""
        return self._running(place)[0]

    def proxies(self, place: Place) -> Mapping[Proxy, list[str]]:
        """Return the proxies of a namespace's pods, each with the names of its pods."""
        return self._running(place)[1]

    def _running(self, place: Place) -> tuple[PlaintextPolicy, Mapping[Proxy, list[str]]]:
        """Return plaintext and proxies of a namespace's running pods; the pods are listed once."""

        def read() -> tuple[PlaintextPolicy, Mapping[Proxy, list[str]]]:
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
                judged = assessment.judged(self._judge, pod, enrolled)
                proxy = proxy_of(judged.pod) if judged.pod else None
                if proxy:
                    proxies.setdefault(proxy, []).append(pod.name)
            return assessment.finished(), proxies

        return self._once(("running", place.name), read)

    def control_plane(self, mesh: str) -> str:
        """Return the namespace of a mesh's control plane."""
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
            except StatusError as error:
                self._seen[key] = error
        seen = self._seen[key]
        if isinstance(seen, StatusError):
            raise seen
        return cast("T", seen)


def _data(secret: Json, key: str) -> bytes:
    """Return the value of a key of a Secret; empty if it is missing or can't be decoded."""
    try:
        return base64.b64decode((secret.get("data") or {}).get(key, ""))
    except binascii.Error:
        return b""
