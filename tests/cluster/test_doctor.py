"""`mendix-mesh doctor` in clusters that are broken on purpose, each in one way, and in good ones.

The API server takes a moment to follow a changed webhook configuration. So the tests wait for the
finding that they expect.
"""

import base64
import contextlib
import copy
import datetime as dt
import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import jsonpatch
import pytest
from click.testing import CliRunner

from tests.cluster.api import Api, Json, core, wait_for
from tests.cluster.certificates import Authority, Pair
from tests.cluster.istio import IstioCluster, sidecar_of
from tests.cluster.istiod import Istiod
from tests.cluster.mesh import MeshCluster, configured
from tests.cluster.workloads import pod
from tests.standins import mendix
from tests.standins import mendix_manifests as manifests
from tests.standins.linkerd import CONFIGURATION as LINKERD
from webhook.cli import main

OURS = "00-mendix-mesh"
MUTATING, VALIDATING = "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"
HOST = "mendix-mesh.mendix-mesh.svc"
ENFORCE = "pod-security.kubernetes.io/enforce"
HOUR = dt.timedelta(hours=1)

Diagnose = Callable[[str], Json]


@pytest.fixture(scope="module")
def diagnose(mesh_cluster: MeshCluster) -> Diagnose:
    """Run the command in a namespace, as an administrator."""
    plane = mesh_cluster.plane

    def run(namespace: str) -> Json:
        where = [f"--namespace={namespace}", f"--kubeconfig={plane.kubeconfig}"]
        done = CliRunner().invoke(main, ["doctor", *where, "-o", "json"])
        assert done.exit_code in (0, 1), done.output
        found: Json = json.loads(done.stdout)
        errors = any(one["severity"] == "error" for one in found["findings"])
        assert done.exit_code == int(errors)
        return found

    return run


def ids(found: Json) -> set[str]:
    return {one["id"] for one in found["findings"]}


def evidence(found: Json, finding: str) -> str:
    return "\n".join(one["evidence"] for one in found["findings"] if one["id"] == finding)


def severities(found: Json, finding: str) -> set[str]:
    return {one["severity"] for one in found["findings"] if one["id"] == finding}


def meshed(found: Json) -> str:
    (one,) = found["namespaces"]
    return str(one["meshed"])


def await_exactly(diagnose: Diagnose, where: str, *expected: str, meshed_: str) -> Json:
    """Wait until these findings, and no others, are there, and the probe fares so."""
    seen: list[Json] = []

    def there() -> bool:
        seen.append(diagnose(where))
        return ids(seen[-1]) == set(expected) and meshed(seen[-1]) == meshed_

    try:
        wait_for(there, every=0.2, why=f"the findings {expected}")
    except TimeoutError:
        pytest.fail(f"wanted {expected} and {meshed_}, not {json.dumps(seen[-1], indent=1)}")
    assert seen[-1]["unchecked"] == []
    return seen[-1]


@pytest.fixture
def where(mesh_cluster: MeshCluster, diagnose: Diagnose) -> Iterator[str]:
    """An enrolled namespace. After the test, and so before the next, the cluster is healthy."""
    yield mesh_cluster.enroll("enforce")
    await_exactly(diagnose, mesh_cluster.enroll("enforce"), meshed_="yes")


def mark(api: Api, namespace: str, **metadata: Json) -> None:
    api.patch("Namespace", namespace, None, {"metadata": metadata})


@contextlib.contextmanager
def changed(
    api: Api, kind: str, name: str, change: Callable[[Json], None], namespace: str | None = None
) -> Iterator[None]:
    """Change fields of an object during the block."""
    before = api.get(kind, name, namespace)
    after = copy.deepcopy(before)
    change(after)
    # Unlike an update, a patch cannot conflict with a controller that writes the status.
    there, back = (jsonpatch.make_patch(*both).patch for both in ((before, after), (after, before)))
    api.patch(kind, name, namespace, there, how="json")
    try:
        yield
    finally:
        api.patch(kind, name, namespace, back, how="json")


@contextlib.contextmanager
def gone(api: Api, kind: str, name: str) -> Iterator[Json]:
    """Delete an object during the block, and yield it."""
    before = api.get(kind, name)
    api.delete(kind, name)
    for field in ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"):
        before["metadata"].pop(field, None)
    try:
        yield before
    finally:
        # In Helm's name. Otherwise the next upgrade would leave what only this test still owns.
        api.patch(
            kind, name, before["metadata"].get("namespace"), before, how="apply", manager="helm"
        )


@contextlib.contextmanager
def added(api: Api, *objects: Json) -> Iterator[None]:
    """Create objects during the block."""
    for obj in objects:
        api.create(obj)
    try:
        yield
    finally:
        for obj in objects:
            meta = obj["metadata"]
            api.delete(obj["kind"], meta["name"], meta.get("namespace"), grace=0)


def ensure_namespace(cluster: MeshCluster, name: str) -> None:
    cluster.api.ensure(core("Namespace", name))
    cluster.plane.await_namespace(name)


def injector_secret(pair: Pair) -> Json:
    data = {"tls.crt": base64.b64encode(pair.cert).decode(),
            "tls.key": base64.b64encode(pair.key).decode()}  # fmt: skip
    secret = core("Secret", "linkerd-proxy-injector-k8s-tls", "linkerd", data=data)
    return {**secret, "type": "kubernetes.io/tls"}


def test_a_namespace_that_is_not_enrolled(mesh_cluster: MeshCluster, diagnose: Diagnose) -> None:
    where = mesh_cluster.plane.new_namespace("other")
    found = await_exactly(diagnose, where, "not-enrolled", meshed_="no")
    assert "has no label mendix-mesh.io/mesh" in evidence(found, "not-enrolled")


def test_an_injector_that_is_called_before_us(api: Api, diagnose: Diagnose, where: str) -> None:
    with gone(api, MUTATING, LINKERD) as injector:
        early = copy.deepcopy(injector)
        early["metadata"]["name"] = "00-linkerd"
        with added(api, early):
            found = await_exactly(diagnose, where, "order-late", "probe-unmeshed", meshed_="no")
    assert evidence(found, "order-late") == f"{OURS} is called after 00-linkerd"
    assert "proxy-missing" in evidence(found, "probe-unmeshed")


def test_our_mutating_configuration_is_missing(api: Api, diagnose: Diagnose, where: str) -> None:
    with gone(api, MUTATING, OURS):
        found = await_exactly(diagnose, where, "webhook-missing", "probe-unmeshed", meshed_="no")
    assert "no mutating webhook" in evidence(found, "webhook-missing")


def test_our_validating_configuration_is_missing(api: Api, diagnose: Diagnose, where: str) -> None:
    with gone(api, VALIDATING, "mendix-mesh"):
        found = await_exactly(diagnose, where, "webhook-missing", meshed_="yes")
    assert "no validating webhook" in evidence(found, "webhook-missing")


def test_our_certificate_expires(
    mesh_cluster: MeshCluster, api: Api, diagnose: Diagnose, where: str
) -> None:
    authority = mesh_cluster.release.authority
    pair = authority.issue("mendix-mesh", hosts=[HOST], lifetime=HOUR, age=20 * HOUR)

    def change(secret: Json) -> None:
        secret["data"] = injector_secret(pair)["data"]

    with changed(api, "Secret", "mendix-mesh-tls", change, "mendix-mesh"):
        found = await_exactly(diagnose, where, "certificate-expiring", meshed_="yes")
    assert severities(found, "certificate-expiring") == {"warning"}


def test_the_injectors_certificate_has_expired(
    mesh_cluster: MeshCluster, api: Api, diagnose: Diagnose, where: str
) -> None:
    ensure_namespace(mesh_cluster, "linkerd")
    pair = Authority("x").issue("x", hosts=["x"], lifetime=-HOUR, age=20 * HOUR)
    with added(api, injector_secret(pair)):
        found = await_exactly(diagnose, where, "ca-bundle", "certificate-expiring", meshed_="yes")
    assert f"of the injector in {LINKERD}" in evidence(found, "ca-bundle")
    assert severities(found, "certificate-expiring") == {"error"}
    assert "k8s-tls expired on" in evidence(found, "certificate-expiring")


def test_our_server_is_not_there(
    mesh_cluster: MeshCluster, api: Api, diagnose: Diagnose, where: str
) -> None:
    def change(deployment: Json) -> None:
        deployment["spec"]["replicas"] = 0

    with changed(api, "Deployment", "mendix-mesh", change, "mendix-mesh"):
        found = await_exactly(diagnose, where, "unready", "probe-unmeshed", meshed_="no")
    mesh_cluster.kubelet.wait_ready(2)
    assert "scaled to zero" in evidence(found, "unready")
    assert "failed calling webhook" in evidence(found, "probe-unmeshed")


def test_the_injector_is_down(mesh_cluster: MeshCluster, diagnose: Diagnose, where: str) -> None:
    mesh_cluster.injector.stop()
    try:
        found = await_exactly(diagnose, where, "probe-unmeshed", meshed_="no")
    finally:
        mesh_cluster.injector.restart()
    assert "proxy-missing" in evidence(found, "probe-unmeshed")


def test_if_nothing_is_denied_the_probe_shows_that_it_is_not_meshed(
    mesh_cluster: MeshCluster, diagnose: Diagnose, where: str
) -> None:
    watching = mesh_cluster.enroll("warn")
    mesh_cluster.injector.stop()
    try:
        found = await_exactly(diagnose, watching, "probe-unmeshed", meshed_="no")
    finally:
        mesh_cluster.injector.restart()
    assert "was admitted outside the mesh" in evidence(found, "probe-unmeshed")


def test_there_is_no_injector(api: Api, diagnose: Diagnose, where: str) -> None:
    with gone(api, MUTATING, LINKERD):
        await_exactly(diagnose, where, "injector-missing", "probe-unmeshed", meshed_="no")


def test_the_injector_leaves_the_namespace_out(api: Api, diagnose: Diagnose, where: str) -> None:
    mark(api, where, labels={"config.linkerd.io/admission-webhooks": "disabled"})
    await_exactly(diagnose, where, "injector-skips", "probe-unmeshed", meshed_="no")


def test_pod_security_rejects_the_injected_pod(api: Api, diagnose: Diagnose, where: str) -> None:
    mark(api, where, labels={ENFORCE: "baseline"})
    found = await_exactly(diagnose, where, "pod-security", "probe-unmeshed", meshed_="no")
    assert "NET_ADMIN" in evidence(found, "pod-security")


def test_a_cni_plugin_that_is_counted_on_is_missing(
    mesh_cluster: MeshCluster, api: Api, diagnose: Diagnose, where: str
) -> None:
    ensure_namespace(mesh_cluster, "linkerd-cni")
    injector = mesh_cluster.injector
    before, injector.config = injector.config, replace(injector.config, cni=True)
    try:
        mark(api, where, labels={ENFORCE: "baseline"})
        found = await_exactly(diagnose, where, "agents-missing", meshed_="yes")
        assert evidence(found, "agents-missing") == "DaemonSet linkerd-cni does not exist"
        with added(api, daemon_set("linkerd-cni", "linkerd-cni")):
            await_exactly(diagnose, where, meshed_="yes")
    finally:
        injector.config = before


def test_an_injector_whose_image_we_do_not_trust(
    mesh_cluster: MeshCluster, diagnose: Diagnose, where: str
) -> None:
    injector = mesh_cluster.injector
    image = "registry.example.com/linkerd/proxy:edge-26.8.3"
    before, injector.config = injector.config, replace(injector.config, image=image)
    try:
        found = await_exactly(diagnose, where, "image-untrusted", "probe-unmeshed", meshed_="no")
    finally:
        injector.config = before
    assert "registry.example.com/linkerd/proxy" in evidence(found, "image-untrusted")


def daemon_set(namespace: str, name: str) -> Json:
    labels = {"app": name}
    template = pod(namespace, labels=labels)
    spec = {"metadata": {"labels": labels}, "spec": template["spec"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": labels}, "template": spec},
    }


def test_ambient_without_its_agents(
    mesh_cluster: MeshCluster, api: Api, diagnose: Diagnose
) -> None:
    ensure_namespace(mesh_cluster, "istio-system")
    where = mesh_cluster.enroll("enforce", mesh="ambient")
    found = await_exactly(diagnose, where, "agents-missing", meshed_="yes")
    assert evidence(found, "agents-missing") == (
        "DaemonSet istio-cni-node does not exist\nDaemonSet ztunnel does not exist"
    )
    agents = [daemon_set("istio-system", name) for name in ("istio-cni-node", "ztunnel")]
    nowhere = copy.deepcopy(agents[0])
    nowhere["spec"]["template"]["spec"]["nodeSelector"] = {"none": "such"}
    with added(api, agents[1]):
        with added(api, nowhere):
            found = await_exactly(diagnose, where, "agents-missing", meshed_="yes")
            assert "istio-cni-node is ready on 0 of 0 nodes" in evidence(found, "agents-missing")
        with added(api, agents[0]):
            await_exactly(diagnose, where, meshed_="yes")


def test_an_ingress_controller_on_the_nodes_network(
    mesh_cluster: MeshCluster, api: Api, diagnose: Diagnose, where: str
) -> None:
    outside = mesh_cluster.plane.new_namespace("ingress")
    labels = {"app.kubernetes.io/name": "ingress-nginx"}
    with added(api, pod(outside, "controller", labels=labels, hostNetwork=True)):
        found = await_exactly(diagnose, where, "ingress-host-network", meshed_="yes")
    assert severities(found, "ingress-host-network") == {"warning"}
    assert f"pod {outside}/controller" in evidence(found, "ingress-host-network")


def test_an_operator_whose_settings_contradict_the_mesh(
    api: Api, diagnose: Diagnose, where: str
) -> None:
    mendix.install_crds(api)
    spec = {"customPodAnnotations": {"general": {"config.linkerd.io/skip-outbound-ports": "443"}}}
    api.create(manifests.operator_configuration(where, **spec))
    found = await_exactly(diagnose, where, "operator-settings", meshed_="yes")
    assert "capture-bypassed" in evidence(found, "operator-settings")
    assert "customPodAnnotations" in evidence(found, "operator-settings")


Fix = Callable[..., Json]


@pytest.fixture(scope="module")
def fix(mesh_cluster: MeshCluster) -> Fix:
    """Run `doctor --fix --yes` in a namespace. Return the diagnosis after it."""
    admin = mesh_cluster.plane.kubeconfig

    def run(where: str, *arguments: str) -> Json:
        options = ["doctor", f"--kubeconfig={admin}", "-n", where, "-o", "json", "--fix"]
        done = CliRunner().invoke(main, [*options, *(arguments or ("--yes",))])
        assert done.exit_code in (0, 1), done.output
        found: Json = json.loads(done.stdout)
        return found

    return run


def test_misspelled_labels_are_fixed(
    mesh_cluster: MeshCluster, api: Api, diagnose: Diagnose, fix: Fix
) -> None:
    where = mesh_cluster.enroll("enforced", mesh="linkred")
    found = await_exactly(diagnose, where, "not-enrolled", "mode-unknown", meshed_="no")
    assert "mendix-mesh.io/mesh=linkred is not a mesh" in evidence(found, "not-enrolled")
    # The dry run calls the API server with our webhook and changes nothing.
    assert fix(where, "--dry-run")["fixed"] == []
    assert api.get("Namespace", where)["metadata"]["labels"]["mendix-mesh.io/mesh"] == "linkred"
    assert fix(where)["fixed"] == [
        f"namespace {where}: change label mendix-mesh.io/mode=enforced to enforce",
        f"namespace {where}: change label mendix-mesh.io/mesh=linkred to linkerd",
    ]
    await_exactly(diagnose, where, meshed_="yes")


def test_our_ca_bundles_are_fixed(
    mesh_cluster: MeshCluster, api: Api, diagnose: Diagnose, fix: Fix, where: str
) -> None:
    authority = base64.b64encode(mesh_cluster.release.authority.pem).decode()

    def with_authority(secret: Json) -> None:
        secret["data"]["ca.crt"] = authority

    def broken(configuration: Json) -> None:
        for webhook in configuration["webhooks"]:
            webhook["clientConfig"]["caBundle"] = base64.b64encode(Authority("x").pem).decode()

    with (
        changed(api, "Secret", "mendix-mesh-tls", with_authority, "mendix-mesh"),
        changed(api, MUTATING, OURS, broken),
        changed(api, VALIDATING, "mendix-mesh", broken),
    ):
        found = await_exactly(diagnose, where, "ca-bundle", "probe-unmeshed", meshed_="no")
        why = "does not verify the certificate in Secret mendix-mesh/mendix-mesh-tls"
        assert f"caBundle of mendix-mesh in {OURS} {why}" in evidence(found, "ca-bundle")
        assert len(fix(where)["fixed"]) == 2
        await_exactly(diagnose, where, meshed_="yes")
        for kind, name in ((MUTATING, OURS), (VALIDATING, "mendix-mesh")):
            webhooks = api.get(kind, name)["webhooks"]
            assert {one["clientConfig"]["caBundle"] for one in webhooks} == {authority}


class TestIstio:
    """The same with the real istiod."""

    @pytest.fixture
    def where(self, istio_cluster: IstioCluster, diagnose: Diagnose) -> Iterator[str]:
        yield istio_cluster.enroll("enforce")
        await_exactly(diagnose, istio_cluster.enroll("enforce"), meshed_="yes")

    def test_a_revision_that_is_not_installed(
        self, api: Api, diagnose: Diagnose, where: str
    ) -> None:
        mark(api, where, labels={"istio.io/rev": "canary"})
        found = await_exactly(
            diagnose, where, "revision-unknown", "injector-skips", "probe-unmeshed", meshed_="no"
        )
        assert evidence(found, "revision-unknown") == (
            "the namespace's label istio.io/rev is canary; installed: default"
        )

    def test_the_injector_leaves_the_namespace_out(
        self, api: Api, diagnose: Diagnose, where: str
    ) -> None:
        mark(api, where, labels={"istio-injection": "disabled"})
        found = await_exactly(diagnose, where, "injector-skips", "probe-unmeshed", meshed_="no")
        assert "istio-injection=disabled" in evidence(found, "injector-skips")

    def test_an_annotation_that_should_be_a_label(
        self, api: Api, diagnose: Diagnose, where: str
    ) -> None:
        mark(api, where, annotations={"istio-injection": "disabled"})
        await_exactly(diagnose, where, "label-not-annotation", meshed_="yes")

    def test_pod_security_rejects_the_injected_pod(
        self, api: Api, diagnose: Diagnose, where: str
    ) -> None:
        mark(api, where, labels={ENFORCE: "baseline"})
        found = await_exactly(diagnose, where, "pod-security", "probe-unmeshed", meshed_="no")
        assert "istio-init" in evidence(found, "pod-security")

    def test_istiod_is_down(
        self, istio_cluster: IstioCluster, diagnose: Diagnose, where: str
    ) -> None:
        istio_cluster.istiod.stop()
        try:
            found = await_exactly(diagnose, where, "probe-unmeshed", meshed_="no")
        finally:
            istio_cluster.istiod.start()
        assert "failed calling webhook" in evidence(found, "probe-unmeshed")

    def test_istiods_ca_bundle_is_not_its_own(
        self, istio_cluster: IstioCluster, api: Api, diagnose: Diagnose, where: str
    ) -> None:
        other = base64.b64encode(Authority("other").pem).decode()

        def change(configuration: Json) -> None:
            for webhook in configuration["webhooks"]:
                webhook["clientConfig"]["caBundle"] = other

        # If it ran, it would immediately restore its own.
        istio_cluster.istiod.stop()
        try:
            with changed(api, MUTATING, "istio-sidecar-injector", change):
                found = await_exactly(diagnose, where, "ca-bundle", "probe-unmeshed", meshed_="no")
        finally:
            istio_cluster.istiod.start()
        assert "ConfigMap istio-system/istio-ca-root-cert" in evidence(found, "ca-bundle")

    def test_a_revision_of_other_images_and_a_cni_plugin_that_is_missing(
        self, istio_cluster: IstioCluster, api: Api, diagnose: Diagnose, where: str
    ) -> None:
        hub = "registry.example.com/istio"
        values = {"pilot": {"cni": {"enabled": True}}, "global": {"hub": hub}}
        with Istiod(istio_cluster.plane, revision="other", values=values):
            mark(api, where, labels={"istio.io/rev": "other"})
            found = await_exactly(
                diagnose, where, "image-untrusted", "settings-differ", "probe-unmeshed",
                meshed_="no",
            )  # fmt: skip
            assert f"{hub}/proxyv2" in evidence(found, "image-untrusted")
            assert f"{hub}/proxyv2" in evidence(found, "settings-differ")
            watching = istio_cluster.enroll("warn")
            mark(api, watching, labels={"istio.io/rev": "other", ENFORCE: "baseline"})
            found = await_exactly(
                diagnose, watching, "image-untrusted", "settings-differ", "agents-missing",
                meshed_="no",
            )  # fmt: skip
            assert evidence(found, "agents-missing") == "DaemonSet istio-cni-node does not exist"

    def test_task_pods_without_native_sidecars_never_end(
        self, istio_cluster: IstioCluster, api: Api, diagnose: Diagnose, where: str
    ) -> None:
        cluster = istio_cluster
        values = {"settings": {"istio": {"nativeSidecars": False}}}
        with Istiod(cluster.plane, revision="old", native=False):
            mark(api, where, labels={"istio.io/rev": "old"})
            # The annotation that we add to task pods makes the difference.
            await_exactly(diagnose, where, meshed_="yes")

            def is_classic() -> bool:
                task = pod(where, restartPolicy="Never")
                return sidecar_of(api.create(task, dry_run=True)) == "classic"

            with configured(cluster, values, is_classic):
                found = await_exactly(diagnose, where, "task-never-ends", meshed_="yes")
            assert "istio-proxy of a task pod" in evidence(found, "task-never-ends")
