"""`make demo`: mendix-mesh on a real API server, shown in scenes; MESH=istio uses Istio.

Every scene shows the command and the API server's response. The demo fails if a response is not the
expected one. Linkerd's injector and the Mendix Operator are stand-ins, and kwok simulates nodes and
containers. Everything else is real, including cert-manager and istiod.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.text import Text

from tests.cluster import build, mesh, netns, workloads
from tests.cluster.api import Api, Json, StatusError, wait_for
from tests.cluster.certmanager import CertManager
from tests.cluster.istiod import Istiod
from tests.cluster.mesh import MESH_LABEL, MODE_LABEL, MeshCluster
from tests.cluster.plane import ControlPlane, is_ready
from tests.standins import mendix
from tests.standins import mendix_manifests as manifests
from webhook.cli import dashboard
from webhook.cli._cluster import cluster_settings
from webhook.cluster.api.connection import Cluster
from webhook.cluster.auditor.scan import ScanOptions

SAMPLES = Path(__file__).parents[1] / "fixtures" / "mendix"
ENV = "shop"
APP: Json = {
    "name": "app",
    "image": "registry.example.com/app:1",
    "securityContext": {"runAsNonRoot": True},
}
COMMAND = Path(sys.executable).parent / "mendix-mesh"
DATAPLANE = "istio.io/dataplane-mode"
#: Read before the process enters the network namespace, in which each user is root.
ORDINARY_USER = os.geteuid() != 0

console = Console(highlight=False, markup=False, soft_wrap=True)


class DemoError(Exception):
    """Raised if the cluster does not do what a scene says."""


def main() -> None:
    """Play the demo. Exit with code 1 if a scene fails, 2 if the demo can't run here."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the cluster up afterwards")
    parser.add_argument("--dashboard", action="store_true", help="serve the dashboard afterwards")
    parser.add_argument("--mesh", choices=("linkerd", "istio"), default="linkerd")
    options = parser.parse_args()
    istio = options.mesh == "istio"
    started = time.monotonic()
    console.print("mendix-mesh: every pod in a Mendix namespace joins the mesh, or does not start.")
    try:
        _review_offline(options.mesh)
        binaries = build.ensure([*build.CORE, build.ISTIOD] if istio else build.CORE, console)
        # A socket that is created outside the network namespace can be reached from outside.
        listener = socket.create_server(("127.0.0.1", 0)) if options.dashboard else None
        netns.enter()
    except (build.BuildError, netns.NetworkError) as error:
        console.print(str(error), style="red")
        raise SystemExit(2) from None
    with tempfile.TemporaryDirectory(prefix="mendix-mesh-demo-") as folder:
        say("")
        say("Starting etcd, kube-apiserver, controllers and a node (about 5 s) ...")
        say("The node is simulated: pods get the status Running, but no container runs.")
        with ControlPlane(Path(folder), binaries) as plane, contextlib.ExitStack() as stack:
            say("Starting the real cert-manager ...")
            stack.enter_context(CertManager(plane))
            beside = "" if istio else ", beside Linkerd's stand-in injector"
            say(f"Installing mendix-mesh from its chart{beside} ...")
            cluster = stack.enter_context(mesh.installed(plane, source="certManager"))
            say(f"$ kubectl -n {cluster.release.namespace} get certificates", "bold")
            certificates = plane.kubectl("-n", cluster.release.namespace, "get", "certificates")
            answer(certificates.stdout.strip(), good=True)
            if istio:
                say("Starting the real istiod ...")
                stack.enter_context(Istiod(plane))
            demo = Demo(cluster, options.mesh)
            try:
                for number, scene in enumerate(SCENES[options.mesh], 1):
                    heading(f"{number}. {(scene.__doc__ or '').splitlines()[0]}")
                    scene(demo)
            except (DemoError, StatusError, TimeoutError) as error:
                console.print(f"\nThe demo failed: {error}", style="bold red")
                raise SystemExit(1) from None
            _epilogue(time.monotonic() - started)
            if listener:
                _show(plane, listener)
            if options.keep:
                _keep(plane)


def _review_offline(mesh_name: str) -> None:
    """Show `mendix-mesh review`, which needs no cluster, at once."""
    heading("0. First without a cluster: mendix-mesh review, on a Mendix namespace's manifests")
    arguments = ["review", "-f", os.path.relpath(SAMPLES), "--mesh", mesh_name]
    command = [sys.executable, "-m", "webhook", *arguments]
    say(f"$ mendix-mesh {' '.join(arguments)}", "bold")
    done = subprocess.run(command, check=False, env={**os.environ, "COLUMNS": "200"})
    if done.returncode not in (0, 1):
        raise SystemExit("mendix-mesh review could not read the samples")


@dataclass
class Demo:
    """The cluster and the namespaces that the scenes share."""

    cluster: MeshCluster
    mesh: str
    namespace: str = ""

    def __post_init__(self) -> None:
        self.namespace = self.enroll()
        mendix.install_crds(self.cluster.plane.api)
        plane = self.cluster.plane
        self.operator = mendix.MendixOperator(
            plane.user("mendix-operator", ["system:masters"]), self.namespace
        )

    def enroll(self, mode: str = "") -> str:
        """Return a new namespace that is enrolled in the mesh of this demo."""
        return self.cluster.enroll(mode, mesh=self.mesh)

    def apply(self, obj: Json, *, denied: str = "") -> str:
        """Show `kubectl apply` of an object and its output. `denied` is the expected check."""
        name = obj["metadata"]["name"]
        say(f"$ kubectl apply -f {name}.yaml", "bold")
        done = self.cluster.plane.kubectl(
            "apply", "-f", "-", input=yaml.safe_dump(obj), check=False
        )
        said = (done.stdout + done.stderr).strip()
        answer(said, good=done.returncode == 0)
        if (done.returncode != 0) != bool(denied) or denied not in said:
            expected = f"a denial by {denied}" if denied else "no denial"
            raise DemoError(f"expected {expected} of {name}")
        return said

    def command(self, *arguments: str, code: int = 0) -> str:
        """Show a command of mendix-mesh and its output. Fail on another exit code."""
        say(f"$ mendix-mesh {' '.join(arguments)}", "bold")
        done = subprocess.run(
            [sys.executable, "-m", "webhook", *arguments],
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "KUBECONFIG": str(self.cluster.plane.kubeconfig)},
        )
        answer(done.stdout.strip(), good=done.returncode == 0)
        if done.returncode != code:
            raise DemoError(f"{arguments[0]} ended with {done.returncode}, not {code}")
        return done.stdout

    def pods(self, *, ready: int, namespace: str = "", contains: str = "") -> list[Json]:
        """Return the ready pods with `contains` in their names, when there are that many."""
        where = namespace or self.namespace

        def found() -> list[Json]:
            pods = [
                pod
                for pod in self.cluster.plane.api.list("Pod", where)
                if contains in pod["metadata"]["name"] and is_ready(pod)
            ]
            return pods if len(pods) >= ready else []

        return wait_for(found, why=f"{ready} ready pods {contains or 'there'}")

    def show(self, pods: list[Json]) -> None:
        """Print a line per pod: its containers, and the evidence. Fail if a pod is not meshed."""
        for pod in pods:
            proxy = _proxy(pod)
            if not proxy:
                raise DemoError(f"{pod['metadata']['name']} is not meshed")
            phase = pod["status"].get("phase", "")
            answer(f"{pod['metadata']['name']:<36} {phase:<10} meshed: {proxy}", good=True)


def operator_and_agent(demo: Demo) -> None:
    """Apply Mendix's own operator and agent as usual: they join the mesh."""
    api = demo.cluster.plane.api
    for obj in manifests.service_accounts(demo.namespace):
        api.ensure(obj)
    api.create(manifests.operator_configuration(demo.namespace))
    demo.apply(manifests.operator_deployment(demo.namespace))
    demo.apply(manifests.agent_deployment(demo.namespace))
    demo.show(demo.pods(ready=2, contains="mendix-"))


def mendix_app(demo: Demo) -> None:
    """A Mendix app: the operator (a stand-in) creates its pods. All of them join the mesh.

    Task pods get a native sidecar and end. The operator's Deployment itself is not changed, because
    the operator would revert the change.
    """
    demo.apply(manifests.mendix_app(ENV, demo.namespace, replicas=2))
    api = demo.cluster.plane.api
    with demo.operator.run():
        for task in ("database", "file", "build"):
            pod = wait_for(
                lambda task=task: _ended(api, f"{ENV}-{task}", demo.namespace),  # type: ignore[misc]
                why=f"{ENV}-{task} to end",
            )
            demo.show([pod])
        demo.show(demo.pods(ready=1, contains=f"{ENV}-master"))
        before = demo.operator.reconciles
        wait_for(lambda: demo.operator.reconciles >= before + 20, why="20 more reconciles")
    deployment = api.get("Deployment", f"{ENV}-master", demo.namespace)
    generation = deployment["metadata"]["generation"]
    answer(
        f"deployment {ENV}-master after 20 more reconciles: generation {generation}, "
        "its template untouched",
        good=generation == 1,
    )
    if generation != 1:
        raise DemoError("the operator and the webhook fight over the Deployment")


def plain_app(demo: Demo) -> None:
    """An app that a user applies joins too."""
    demo.apply(_deployment("reports", demo.namespace))
    demo.show(demo.pods(ready=1, contains="reports-"))


def _privileged(user: int, **more: Json) -> Json:
    """Return the spec of a pod that runs as the proxy's user."""
    return {"containers": [{**APP, "securityContext": {"runAsUser": user, **more}}]}


#: Attempts to stay outside, by mesh: the check that denies each, the pod's name and its fields.
ATTEMPTS: dict[str, tuple[tuple[str, str, Json], ...]] = {
    "linkerd": (
        ("host-network", "shop-debug", {"hostNetwork": True}),
        ("opted-out", "shop-legacy", {"annotations": {"linkerd.io/inject": "disabled"}}),
        ("capture-bypassed", "shop-export",
         {"annotations": {"config.linkerd.io/skip-inbound-ports": "8080"}}),
        ("proxy-brought", "shop-fake", {"containers": [APP, {
            "name": "linkerd-proxy", "image": "evil.example/cr.l5d.io/linkerd/proxy:v1"}]}),
        ("proxy-uid", "shop-root", _privileged(2102, capabilities={"add": ["NET_ADMIN"]})),
    ),
    "istio": (
        ("host-network", "shop-debug", {"hostNetwork": True}),
        ("opted-out", "shop-legacy", {"labels": {"sidecar.istio.io/inject": "false"}}),
        ("capture-bypassed", "shop-export",
         {"annotations": {"traffic.sidecar.istio.io/excludeInboundPorts": "8080"}}),
        ("capture-bypassed", "shop-quiet",
         {"annotations": {"sidecar.istio.io/interceptionMode": "NONE"}}),
        ("capture-bypassed", "shop-grpc",
         {"annotations": {"inject.istio.io/templates": "grpc-agent"}}),
        ("mtls-disabled", "shop-plain", {"labels": {"security.istio.io/tlsMode": "disabled"}}),
        ("proxy-uid", "shop-root", _privileged(1337)),
    ),
}  # fmt: skip


def denials(demo: Demo) -> None:
    """Attempts to stay outside are denied, with reason and fix (mendix-mesh explain bypasses)."""
    for check, name, fields in ATTEMPTS[demo.mesh]:
        demo.apply(_pod(name, demo.namespace, **fields), denied=check)


def injector_down(demo: Demo) -> None:
    """Linkerd's injector is down. Linkerd alone would start the pod in plaintext; here it waits."""
    api, plane = demo.cluster.plane.api, demo.cluster.plane
    outside = plane.new_namespace("not-enrolled", annotations={"linkerd.io/inject": "enabled"})
    demo.cluster.injector.stop()
    try:
        say(f"In {outside}, which only Linkerd watches (failurePolicy: Ignore):")
        bare = _deployment("orders", outside)
        demo.apply(bare)
        pod = demo.pods(ready=1, namespace=outside)[0]
        answer(f"{pod['metadata']['name']:<36} {'Running':<10} NOT meshed, without any message",
                good=False)  # fmt: skip
        if _proxy(pod):
            raise DemoError("the injector was not down")
        say(f"In {demo.namespace}, which mendix-mesh guards:")
        demo.apply(_deployment("orders", demo.namespace))
        say("$ kubectl get events --field-selector reason=FailedCreate", "bold")
        message = wait_for(
            lambda: workloads.failed_create(api, demo.namespace, "orders-"),
            why="the ReplicaSet's event",
        )
        answer(message, good=False)
        if "proxy-missing" not in message:
            raise DemoError("expected proxy-missing in the event")
    finally:
        demo.cluster.injector.restart()
    say("The injector is back. Everything recovers by itself:")
    demo.show(demo.pods(ready=1, contains="orders-"))


def modes(demo: Demo) -> None:
    """Before you enforce: mode warn shows warnings to the author, audit only in the audit log."""
    for mode in ("warn", "audit"):
        where = demo.enroll(mode)
        # A pod that is created in the second of the enrollment counts as older.
        time.sleep(1)
        say(f"In {where}, labelled {MODE_LABEL}={mode}:")
        demo.apply(_pod("shop-debug", where, hostNetwork=True))


def day_two(demo: Demo) -> None:
    """Existing pods: a namespace full of plaintext pods is found, enrolled, restarted and audited.

    mendix-mesh restarts the pods that are outside one at a time, within every budget. It evicts the
    pods of the operator's own workloads, because the operator would revert a change of their
    template.
    """
    api, plane = demo.cluster.plane.api, demo.cluster.plane
    where = plane.new_namespace("mendix-old")
    mendix.install(api, where)
    api.create(manifests.custom_resource("StoragePlan", "postgres", where, {}))
    api.create(manifests.mendix_app(ENV, where, replicas=2))
    api.create(_deployment("reports", where))
    operator = mendix.MendixOperator(plane.user("operator", ["system:masters"]), where)
    with operator.run():
        demo.pods(ready=5, namespace=where)
        demo.command("discover", "-n", where)
        demo.command("discover", "--enroll", "--mesh", demo.mesh, "-n", where, "--yes")
        demo.cluster.await_judge(where, f"{demo.mesh}.warn")
        demo.command("audit", "-n", where, code=1)
        demo.command("doctor", "-n", where)
        demo.command("restart", "-n", where, "--yes")
        if "100% of " not in demo.command("audit", "-n", where):
            raise DemoError("not every pod is in the mesh after the restart")


def untouched(demo: Demo) -> None:
    """A namespace that is not enrolled is untouched."""
    where = demo.cluster.plane.new_namespace("other")
    demo.apply(_pod("anything", where, hostNetwork=True))
    stored = demo.cluster.plane.api.get("Pod", "anything", where)
    # Apart from kubectl's own annotation, the pod is what its author wrote.
    touched = {"linkerd.io/inject", "sidecar.istio.io/inject"} & {
        *stored["metadata"].get("annotations", {}),
        *stored["metadata"].get("labels", {}),
    }
    if touched or _proxy(stored):
        raise DemoError("a namespace that is not enrolled was touched")


def unknown_revision(demo: Demo) -> None:
    """A namespace names a revision that is not installed. Only mendix-mesh reports it."""
    plane = demo.cluster.plane
    labels = {"istio.io/rev": "canary"}
    outside = plane.new_namespace("not-enrolled", labels=labels)
    say(f"In {outside}, which only Istio watches:")
    demo.apply(_pod("orders", outside))
    if _proxy(plane.api.get("Pod", "orders", outside)):
        raise DemoError("the revision is installed after all")
    answer("orders runs NOT meshed, without any message", good=False)
    inside = plane.new_namespace("mendix", labels={**labels, MESH_LABEL: "istio"})
    say(f"In {inside}, which mendix-mesh guards:")
    demo.apply(_pod("orders", inside), denied="proxy-missing")


def ambient(demo: Demo) -> None:
    """Ambient mode: no sidecar. A label enrolls the pod, and must not be removed."""
    where = demo.cluster.enroll(mesh="ambient")
    demo.apply(_pod("orders", where))
    labels = demo.cluster.plane.api.get("Pod", "orders", where)["metadata"]["labels"]
    answer(f"orders is labelled istio.io/dataplane-mode={labels[DATAPLANE]}", good=True)
    say(f"$ kubectl label pod orders {DATAPLANE}-", "bold")
    unlabel = ("label", "pod", "orders", f"{DATAPLANE}-", "-n", where)
    done = demo.cluster.plane.kubectl(*unlabel, check=False)
    answer((done.stdout + done.stderr).strip(), good=done.returncode == 0)
    if "mesh-label-removed" not in done.stderr:
        raise DemoError("a running pod could be taken out of ambient")


Scene = Callable[[Demo], None]
_JOINS: tuple[Scene, ...] = (operator_and_agent, mendix_app, plain_app)
SCENES: dict[str, tuple[Scene, ...]] = {
    "linkerd": (*_JOINS, denials, injector_down, modes, untouched, day_two),
    "istio": (*_JOINS, denials, unknown_revision, ambient, modes, untouched, day_two),
}


def _pod(name: str, namespace: str, **spec: Any) -> Json:
    return workloads.pod(namespace, name, **{"containers": [APP], **spec})


def _deployment(name: str, namespace: str) -> Json:
    return workloads.workload("Deployment", namespace, name, containers=[APP])


def _proxy(pod: Json) -> str:
    """Return the kind of the pod's proxy; empty if it has none."""
    for kind, shape in (("initContainers", "native sidecar"), ("containers", "classic sidecar")):
        for container in pod["spec"].get(kind, ()):
            if container["name"] in ("linkerd-proxy", "istio-proxy"):
                return f"{container['name']}, {shape}"
    return ""


def _ended(api: Api, name: str, namespace: str) -> Json | None:
    with contextlib.suppress(StatusError):
        pod: Json = api.get("Pod", name, namespace)
        if pod["status"].get("phase") == "Succeeded":
            return pod
    return None


def heading(text: str) -> None:
    console.print()
    console.print(text, style="bold cyan")


def say(text: str, style: str = "") -> None:
    console.print(f"  {text}" if text else "", style=style)


def answer(text: str, *, good: bool) -> None:
    for line in text.splitlines():
        console.print(Text(textwrap.indent(line, "    "), style="green" if good else "red"))


def _epilogue(seconds: float) -> None:
    heading(f"All scenes succeeded ({seconds:.0f} s). Next:")
    for line in (
        "make test                      every test, on the same kind of cluster",
        "make demo KEEP=1               the cluster stays up for you to try things",
        "make demo DASHBOARD=1          ends with the dashboard of its cluster in your browser",
        "make demo MESH=istio           with the real istiod (the first time about 8 min more)",
        ".venv/bin/mendix-mesh review -f DIR",
        "                               what the webhook would do with your manifests",
        ".venv/bin/mendix-mesh discover",
        "                               your Mendix namespaces, and what keeps them outside",
        f"kubectl label ns NAME {MESH_LABEL}=linkerd {MODE_LABEL}=warn",
        "                               after an install (README.md): start by watching",
    ):
        say(line)


def _show(plane: ControlPlane, listener: socket.socket) -> None:
    """Serve the dashboard for the cluster until Ctrl-C."""
    heading(f"The dashboard of this cluster: {dashboard.url(listener)}")
    say("End it, and the cluster, with Ctrl-C or SIGTERM.")
    cluster = Cluster.connect(str(plane.kubeconfig))
    settings = cluster_settings(cluster, "mendix-mesh")
    dashboard.run(cluster, settings, ScanOptions(interval=15.0), listener)


def _keep(plane: ControlPlane) -> None:
    """Keep the cluster until the user ends it: a shell on a terminal, else until a signal."""
    kubectl = plane.binaries["kubectl"]
    heading("The cluster stays up.")
    say("Its node is simulated, so kubectl logs and kubectl exec have nothing to show.")
    # An ordinary user must first enter the user namespace that netns.py created.
    user = "--user --preserve-credentials " if ORDINARY_USER else ""
    enter = f"nsenter -t {os.getpid()} {user}--net"
    say("From another terminal, as the same user:")
    for command in (f"{kubectl} get pods -A", f"{COMMAND} audit", f"{COMMAND} doctor"):
        say(f"  {enter} {command} --kubeconfig {plane.kubeconfig}")
    if sys.stdin.isatty():
        say("This shell has kubectl, mendix-mesh and KUBECONFIG; leave it to end the cluster.")
        path = os.pathsep.join(
            (str(kubectl.parent), str(COMMAND.parent), os.environ.get("PATH", os.defpath))
        )
        environment = {**os.environ, "KUBECONFIG": str(plane.kubeconfig), "PATH": path}
        subprocess.run([os.environ.get("SHELL", "/bin/sh")], check=False, env=environment)
        return
    say("End it with Ctrl-C or SIGTERM.")
    with _until_signalled() as wait:
        wait()


@contextlib.contextmanager
def _until_signalled() -> Iterator[Callable[[], object]]:
    signals = {signal.SIGINT, signal.SIGTERM}
    old = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield lambda: signal.sigwait(signals)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        console.print("\nStopped; the cluster is gone.")
        raise SystemExit(130) from None
