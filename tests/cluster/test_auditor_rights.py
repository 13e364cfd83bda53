"""Each right that the chart gives the auditor, removed alone on a real API server.

The part of the auditor that needs the right must then report that it is forbidden. A right without
such a report is superfluous. The rights are those of the rendered chart, so a new right fails these
tests until something reports that it is missing.

The cluster is one of its own. It has webhook configurations, which the auditor reads, but the API
server never calls mendix-mesh.
"""

import base64
import contextlib
import datetime
import html
import itertools
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from tests.chart import helm
from tests.cluster import command
from tests.cluster.api import Json, core, definition, wait_for
from tests.cluster.certificates import Authority
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL
from tests.cluster.plane import ControlPlane
from tests.cluster.workloads import INJECT, pod, ready_pods, workload
from tests.standins import mendix
from tests.standins import mendix_manifests as manifests
from tests.standins.linkerd_config import InjectorConfig
from tests.standins.linkerd_server import LinkerdInjector
from webhook.cluster import dashboard
from webhook.cluster.api.connection import Cluster
from webhook.cluster.audit import Audited, Report, Row, reports, summed
from webhook.cluster.auditor.enroller import Enroller
from webhook.cluster.auditor.events import EventRecorder
from webhook.cluster.auditor.history import Scans, Snapshot
from webhook.cluster.auditor.metrics import AuditorMetrics, EnrollmentMetrics
from webhook.cluster.auditor.scan import Scanner, ScanOptions
from webhook.cluster.judge import Judge
from webhook.policy.settings import Settings

ACCOUNT = "mendix-mesh-watcher"
#: A right: API group, resource, the name of the one object or all, verb.
Right = tuple[str, str, str, str]
#: Returns what the auditor has reported so far, apart from its log.
Said = Callable[[], str]

OFF: Json = {"autoEnroll": "off", "dashboard": {"enabled": False}, "events": False,
             "fullDoctor": False, "reports": False}  # fmt: skip
#: The value that adds rights, by its name. Without any of them there are the rights of each scan.
ON: dict[str, Json] = {
    "scan": {},
    "autoEnroll": {"autoEnroll": "warn"},
    "dashboard": {"dashboard": {"enabled": True}},
    "events": {"events": True},
    "fullDoctor": {"fullDoctor": True},
    "reports": {"reports": True},
}
SERVICES = {
    "linkerd-proxy-injector.linkerd.io": ("linkerd", "linkerd-proxy-injector"),
    "rev.namespace.sidecar-injector.istio.io": ("istio-system", "istiod"),
}
NOBODY = {"matchConditions": [{"name": "never", "expression": "false"}]}


class Scene(NamedTuple):
    """A cluster in which each right is needed, and the auditor's kubeconfig."""

    plane: ControlPlane
    kubeconfig: Path
    #: An enrolled namespace, and one of Mendix's that is not enrolled.
    enrolled: str
    fresh: str

    @property
    def cluster(self) -> Cluster:
        """Return a new connection. The watches of the previous one stay open for some time."""
        return Cluster.connect(str(self.kubeconfig))


@pytest.fixture(scope="module")
def scene(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ControlPlane(tmp_path_factory.mktemp("rights"), plane.binaries) as own:
        api = own.api
        kubeconfig = command.as_account(own, name=ACCOUNT).kubeconfig
        mendix.install_crds(api)
        gateways = (definition("gateway.networking.k8s.io", "v1", kind)
                    for kind in ("HTTPRoute", "Gateway"))  # fmt: skip
        api.define(*gateways)
        for name in ("linkerd", "istio-system"):
            api.create(core("Namespace", name))
        fresh = own.new_namespace("fresh", labels={"istio-injection": "enabled"})
        for name in ("mendix-operator", "mendix-agent"):
            api.create(workload("Deployment", fresh, name))
            ready_pods(api, fresh, name)
        with LinkerdInjector(own.user("injector", ["system:masters"]), InjectorConfig(cni=True)):
            configure_webhooks(own)
            linkerd = enrolled(own, "linkerd", annotations={INJECT: "enabled"})
            for one in entrances(linkerd):
                api.create(one)
            istio = enrolled(own, "istio")
            api.create(workload("ReplicaSet", istio, "old"))
            # No node takes its pods, so they do not end.
            job = workload("Job", istio, "nightly-28000000", nodeSelector={"no": "node"})
            api.create(job)
            enrolled(own, "ambient")
            yield Scene(own, kubeconfig, linkerd, fresh)


def configure_webhooks(plane: ControlPlane) -> None:
    """Install the chart's and the injectors' webhook configurations, which are never called."""
    ca = Authority("rights").pem
    values = {"engine": "policy", "policyDelaySeconds": 0,
              "tls": {"source": "secret", "caBundle": ca.decode()}}  # fmt: skip
    rendered = helm.render(values)
    deployment = rendered.one("Deployment")
    deployment["spec"]["replicas"] = 0
    policies = rendered.of_kind("ValidatingAdmissionPolicy")
    ours = rendered.one("ValidatingWebhookConfiguration")
    ours["webhooks"] = [{**one, **NOBODY} for one in ours["webhooks"]]
    injectors = [
        {"name": name, "clientConfig": {"service": {"namespace": namespace, "name": service},
                                        "caBundle": base64.b64encode(ca).decode()},
         "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
                    "operations": ["CREATE"]}],
         "sideEffects": "None", "admissionReviewVersions": ["v1"], **NOBODY}
        for name, (namespace, service) in SERVICES.items()
    ]  # fmt: skip
    mutating = {"apiVersion": ours["apiVersion"], "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": "injectors"}, "webhooks": injectors}  # fmt: skip
    for one in (deployment, *policies, ours, mutating):
        plane.api.create(one)


def enrolled(plane: ControlPlane, mesh: str, **marks: Any) -> str:
    """Create an enrolled namespace with a pod and an OperatorConfiguration; return its name."""
    name = plane.new_namespace(mesh, labels={MESH_LABEL: mesh, MODE_LABEL: "audit"}, **marks)
    # In ambient mode, these marks show that the pod is in the mesh.
    labels = {"app": "shop", "istio.io/dataplane-mode": "ambient"}
    redirected = {"ambient.istio.io/redirection": "enabled"}
    plane.api.create(pod(name, labels=labels, annotations=redirected))
    plane.api.create(manifests.operator_configuration(name))
    ready_pods(plane.api, name)
    return name


def entrances(namespace: str) -> Iterator[Json]:
    """Yield an Ingress, and an HTTPRoute with its Gateway."""

    def entrance(group: str, kind: str, **spec: Any) -> Json:
        return {"apiVersion": f"{group}/v1", "kind": kind,
                "metadata": {"name": "shop", "namespace": namespace}, "spec": spec}  # fmt: skip

    backend = {"service": {"name": "shop", "port": {"number": 80}}}
    yield entrance("networking.k8s.io", "Ingress", ingressClassName="x", defaultBackend=backend)
    group = "gateway.networking.k8s.io"
    yield entrance(group, "HTTPRoute", parentRefs=[{"name": "shop"}])
    yield entrance(group, "Gateway", gatewayClassName="x")


def granted(**auditor: Any) -> set[Right]:
    """Return every right that the chart grants the auditor with these values."""
    return {
        right
        for role in helm.render({"auditor": {**OFF, **auditor}}).of_kind("ClusterRole")
        for rule in role["rules"]
        for right in itertools.product(
            rule["apiGroups"], rule["resources"], rule.get("resourceNames", [""]), rule["verbs"]
        )
    }


def grant(plane: ControlPlane, rights: set[Right], removed: Right) -> None:
    """Grant the auditor exactly these rights without one. Wait until they are in force."""
    group = "rbac.authorization.k8s.io"
    meta = {"name": "rights-one-removed"}
    rules = [
        {"apiGroups": [api], "resources": [resource], "verbs": [verb]}
        | ({"resourceNames": [name]} if name else {})
        for api, resource, name, verb in sorted(rights - {removed})
    ]
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": command.NAMESPACE}
    reference = {"apiGroup": group, "kind": "ClusterRole", **meta}
    for kind, fields in (
        ("ClusterRole", {"rules": rules}),
        ("ClusterRoleBinding", {"roleRef": reference, "subjects": [subject]}),
    ):
        obj = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": meta, **fields}
        plane.api.patch(kind, meta["name"], None, obj, how="apply")

    def is_allowed(right: Right) -> bool:
        attributes = dict(zip(("group", "resource", "name", "verb"), right, strict=True))
        user = f"system:serviceaccount:{command.NAMESPACE}:{ACCOUNT}"
        spec = {"user": user, "resourceAttributes": attributes}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                  "metadata": {}, "spec": spec}  # fmt: skip
        return bool(plane.api.create(review)["status"]["allowed"])

    kept = next(iter(rights - {removed}))
    wait_for(lambda: is_allowed(kept) and not is_allowed(removed), why=f"{removed} to be gone")


@contextlib.contextmanager
def scanning(scene: Scene, removed: Right) -> Iterator[Said]:
    """Scan once, then again a namespace that changes."""
    scans, settings = Scans(), Settings()
    options = ScanOptions(interval=3600, debounce=0)
    scanner = Scanner(scene.cluster, settings, scans, AuditorMetrics(scans), options)
    scanner.start()

    def said() -> str:
        last = scans.last
        if last is None:
            return scans.error
        found = [*last.report.notes, *(one.error for one in last.report.namespaces)]
        found += [one.why for one in last.diagnosis.unchecked] if last.diagnosis else []
        return "\n".join([scans.error, *found])

    try:
        wait_for(lambda: scans.error or (scans.last and scans.last.diagnosis), why="a scan")
        label = {"metadata": {"labels": {"removed": f"{removed[1]}-{removed[3]}"}}}
        scene.plane.api.patch("Namespace", scene.enrolled, None, label)
        yield said
    finally:
        scanner.stop()


@contextlib.contextmanager
def enrolling(scene: Scene, removed: Right) -> Iterator[Said]:
    """Enroll the namespace that is not enrolled yet, and restart its operator."""
    api, name = scene.plane.api, scene.fresh
    if not api.list("OperatorConfiguration", name):
        api.create(manifests.operator_configuration(name))
    marks = {"labels": {MESH_LABEL: None, MODE_LABEL: None},
             "annotations": {"mendix-mesh.io/enrolled-at": None}}  # fmt: skip
    api.patch("Namespace", name, None, {"metadata": marks})
    metrics = EnrollmentMetrics(CollectorRegistry())
    enroller = Enroller(scene.cluster, "warn", Judge(Settings()), metrics)
    enroller.start()
    try:
        yield str
    finally:
        enroller.stop()


@contextlib.contextmanager
def showing(scene: Scene, removed: Right) -> Iterator[Said]:
    """Show the first page of the dashboard, without results of a scan."""
    scans = Scans()
    scans.scanned(
        Snapshot(at=datetime.datetime.now(datetime.UTC), seconds=1, report=summed([], []))
    )
    pages = dashboard.create_app(scans, scene.cluster, Judge(Settings())).test_client()
    yield lambda: html.unescape(pages.get("/").text)


@contextlib.contextmanager
def recording(scene: Scene, removed: Right) -> Iterator[Said]:
    """Record Events of each kind of workload that leaves the mesh, returns and leaves again."""
    kinds = {"Pod": "v1", "Deployment": "apps/v1", "StatefulSet": "apps/v1",
             "DaemonSet": "apps/v1", "CronJob": "batch/v1"}  # fmt: skip
    outside = report(scene.enrolled, [
        Row(kind=kind, name="shop", api_version=version, role="", state="unmeshed", pods={},
            findings=[])
        for kind, version in kinds.items()
    ])  # fmt: skip
    recorder = EventRecorder(scene.cluster)
    for one in (outside, report(scene.enrolled, []), outside):
        recorder.tell(one)
    yield str


@contextlib.contextmanager
def reporting(scene: Scene, removed: Right) -> Iterator[Said]:
    """Write a new report, and delete one of a namespace that is no longer audited."""
    group, plural, _, _ = removed
    kind = next(one for one in reports.KINDS if one.plural == plural)
    api = scene.plane.api
    if scene.cluster.find(f"/apis/{kind.version}") is None:
        api.define(definition(group, kind.version.rpartition("/")[2], kind.kind))
    metadata = {"name": "mendix-mesh", "labels": {"app.kubernetes.io/managed-by": "mendix-mesh"}}
    for namespace, exists in ((scene.fresh, True), (scene.enrolled, False)):
        if api.list(kind.kind, namespace):
            api.delete(kind.kind, "mendix-mesh", namespace)
        if exists:
            api.create({"apiVersion": kind.version, "kind": kind.kind,
                        "metadata": {**metadata, "namespace": namespace}})  # fmt: skip
    written = reports.write(scene.cluster, report(scene.enrolled, []), "", prune=True)
    yield lambda: "\n".join(written.errors)


def report(namespace: str, rows: list[Row]) -> Report:
    """Return the report of an audit of one namespace."""
    audited = Audited(name=namespace, mesh="linkerd", mode="audit", enrolled=True, since=None,
                      coverage=None, pods={}, workloads=rows)  # fmt: skip
    return summed([audited], [])


#: What the auditor does with the rights that a value adds.
DOES: dict[str, Callable[[Scene, Right], contextlib.AbstractContextManager[Said]]] = {
    "scan": scanning,
    "autoEnroll": enrolling,
    "dashboard": showing,
    "events": recording,
    "fullDoctor": scanning,
    "reports": reporting,
}


def is_named(right: Right, text: str) -> bool:
    """Return whether a text says that the API server forbids what a right allows."""
    group, resource, name, verb = right
    which = f' "{re.escape(name)}"' if name else '(?: "[^"]*")?'
    what = f'cannot {verb} resource "{resource}" in API group "{group}"'
    return bool(re.search(rf'{resource}\S*{which} is forbidden: User "[^"]+" {what}', text))


def test_every_rule_of_the_chart_is_tried() -> None:
    """The two roles for readers have one right each, without which their readers get 403.

    test_auditor.py and test_dashboard.py show that.
    """
    values = {key: value for one in ON.values() for key, value in one.items()}
    values |= {"dashboard": {"expose": True}, "metrics": {"authenticate": True}}
    roles = helm.render({"auditor": values}).of_kind("ClusterRole")
    rules = {one["metadata"]["name"]: one["rules"] for one in roles}
    for name, url in (("viewer", "/mendix-mesh"), ("metrics-reader", "/metrics")):
        assert rules[f"mendix-mesh-{name}"] == [{"nonResourceURLs": [url], "verbs": ["get"]}]
    texts = [path.read_text() for path in (helm.CHART / "templates").rglob("*.yaml")]
    written = re.findall(r"^ *- (?:apiGroups|nonResourceURLs):", "".join(texts), re.MULTILINE)
    assert sum(map(len, rules.values())) == len(written)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("value", ON)
def test_without_any_one_right_a_message_names_it(
    scene: Scene, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    needed = granted(**ON[value])
    added = needed - (granted() if value != "scan" else set())
    assert added
    silent: dict[Right, str] = {}
    # OpenReports come last: as soon as the cluster has their CRD, no PolicyReport is written.
    for right in sorted(added, reverse=True):
        grant(scene.plane, needed, right)
        caplog.clear()
        with DOES[value](scene, right) as said:

            def told(said: Said = said) -> str:
                logged = (getattr(one, "values", {}) for one in list(caplog.records)
                          if one.levelno >= logging.WARNING)  # fmt: skip
                values = [str(text) for one in logged for text in one.values()]
                return "\n".join([said(), *values])

            try:
                wait_for(lambda right=right: is_named(right, told()), seconds=30, why="a message")  # type: ignore[misc]
            except TimeoutError:
                silent[right] = told()
    assert not silent, "\n".join(f"{right}: {text}" for right, text in silent.items())
