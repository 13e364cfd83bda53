"""`make demo-install`: install, first meshed pod, first denial, upgrade, uninstall, by the guides.

The commands are those in the guides (docs/install.md, rollout.md, upgrade.md, quickstart.md). They
run on a real API server with the real helm and cert-manager. Linkerd's injector is a stand-in, and
kwok simulates the nodes.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from tests.cluster import build, netns, quickstart
from tests.cluster.api import StatusError, wait_for
from tests.cluster.certmanager import CertManager
from tests.cluster.demo import DemoError, answer, heading, say
from tests.cluster.guides import Reader, commands
from tests.cluster.helm import Release
from tests.cluster.kubelet import ServerKubelet
from tests.cluster.load import JOINS, Load
from tests.cluster.mesh import MeshCluster
from tests.cluster.plane import ControlPlane
from tests.cluster.workloads import pod, pods_of, ready_pods, sidecar_of, workload
from tests.standins.linkerd_server import LinkerdInjector


class Story:
    """A reader of the guides: the commands that they run, and the results."""

    def __init__(self, cluster: MeshCluster, home: Path) -> None:
        self.cluster = cluster
        self.home = home
        self.namespace = cluster.plane.new_namespace("mendix")
        self.reader = Reader(cluster.plane, home, self.namespace)
        self.typed: list[str] = []
        """The lines typed so far, as they are in the guides."""

    def type(self, block: str) -> None:
        """Show and run each line of a guide's block. Show its output without helm's notes."""
        for line in block.strip().splitlines():
            self.typed.append(line)
            say(f"$ {self.reader.of(line)}", "bold")
            answer(self.reader.run(line).partition("\nNOTES:")[0].strip(), good=True)

    def apply(self, name: str, *, denied: str = "", **spec: Any) -> None:
        """Show `kubectl apply` of a pod. `denied` is the check that must deny it."""
        say(f"$ kubectl apply -n {self.namespace} -f {name}.yaml", "bold")
        text = yaml.safe_dump(pod(self.namespace, name, **spec))
        done = self.cluster.plane.kubectl("apply", "--filename=-", input=text, check=False)
        answer((done.stdout + done.stderr).strip(), good=not done.returncode)
        if bool(done.returncode) != bool(denied) or denied not in done.stderr:
            raise DemoError(f"expected {denied or 'no denial'} of {name}")

    def show(self) -> None:
        """Print a line per pod of the app that says whether it is meshed."""
        for one in pods_of(self.cluster.api, self.namespace):
            shape = sidecar_of(one)
            said = f"meshed: linkerd-proxy, {shape} sidecar" if shape else "NOT meshed"
            answer(f"{one['metadata']['name']:<28} {said}", good=bool(shape))

    def await_mode(self, mode: str) -> None:
        self.cluster.await_judge(self.namespace, mode and f"linkerd.{mode}")


def before(story: Story) -> None:
    """Before: a Mendix namespace with an app, and Linkerd; the app is outside the mesh."""
    story.cluster.api.create(workload("Deployment", story.namespace, replicas=2))
    ready_pods(story.cluster.api, story.namespace, count=2)
    story.show()


def install(story: Story) -> None:
    """Install: one command, with cert-manager there already."""
    command, _ = commands("install.md", "Install")
    story.type(command)
    story.cluster.kubelet.wait_ready(2)
    story.type("kubectl -n mendix-mesh get certificates,pods")


def first_pods(story: Story) -> None:
    """Label the namespace. Running pods stay as they are; new pods are in the mesh."""
    label, restart = commands("rollout.md", "1. Audit: see what is outside")
    story.type(label)
    story.await_mode("audit")
    story.show()
    story.type(restart)

    def all_meshed() -> bool:
        found = pods_of(story.cluster.api, story.namespace)
        return len(found) == 2 and all(map(sidecar_of, found))

    wait_for(all_meshed, why="the app to be meshed")
    story.show()


def first_denial(story: Story) -> None:
    """Set mode warn, then enforce: the first pod is denied."""
    (warn,) = commands("rollout.md", "2. Warn: tell the authors")
    story.type(warn)
    story.await_mode("warn")
    story.apply("shop-warned", hostNetwork=True)
    enforce, _ = commands("rollout.md", "3. Enforce: close the gate")
    story.type(enforce)
    story.await_mode("enforce")
    story.apply("shop-debug", denied="host-network", hostNetwork=True)


def upgrade(story: Story) -> None:
    """Upgrade and roll back, while four clients create pods without pause."""
    where = story.cluster.enroll("enforce", mesh="ambient")
    story.cluster.await_judge(where, "ambient.enforce")
    change, back = commands("upgrade.md", "Upgrade")
    keep = "--reset-then-reuse-values"
    with Load(story.cluster.plane, where).running() as load:
        # The version is the same, so the values must change to replace the pods.
        story.type(change.replace(keep, f"{keep} --set logLevel=warning"))
        story.type(back)
        load.await_total(load.total + 200)
    summary = ", ".join(f"{what} {count}" for what, count in load.answers.items())
    answer(f"{load.total} pods created meanwhile: {summary}", good=True)
    if set(load.answers) != {JOINS}:
        raise DemoError("a pod was lost")


def emergency(story: Story) -> None:
    """In an emergency: take the gate away, and put it back."""
    away, back = commands("upgrade.md", "In an emergency")
    story.type(away)
    story.await_mode("")
    story.apply("shop-urgent", hostNetwork=True)
    story.type(back)
    story.await_mode("enforce")
    story.apply("shop-debug", denied="host-network", hostNetwork=True)


def uninstall(story: Story) -> None:
    """Uninstall: pods stay as they are, and nothing is denied any more."""
    for block in commands("upgrade.md", "Uninstall"):
        story.type(block)
    story.show()
    story.apply("shop-debug", hostNetwork=True)


def from_zero(story: Story) -> None:
    """The quickstart: from zero to an enforced namespace, with the output that the page shows."""
    cluster = story.cluster
    namespace = cluster.plane.new_namespace("mendix")
    shop = workload("Deployment", namespace, replicas=2)
    shop["spec"]["template"]["metadata"]["labels"]["component"] = "mendix-app"
    cluster.api.create(shop)
    ready_pods(cluster.api, namespace, count=2)
    reader = Reader(cluster.plane, story.home, namespace)

    def run(command: str) -> str:
        say(f"$ {reader.of(command)}", "bold")
        printed = reader.run(command)
        answer(printed.partition("\nNOTES:")[0].strip(), good=True)
        return printed

    seconds = quickstart.follow(run, namespace)
    say(f"From zero to an enforced namespace: {seconds:.0f} s, with simulated nodes.")
    for block in commands("upgrade.md", "Uninstall"):
        story.type(block)


SCENES = (before, install, first_pods, first_denial, upgrade, emergency, uninstall, from_zero)


def play(cluster: MeshCluster, home: Path) -> Story:
    """Play all scenes. Raise DemoError, AssertionError or StatusError if a scene fails."""
    story = Story(cluster, home)
    for number, scene in enumerate(SCENES, 1):
        heading(f"{number}. {(scene.__doc__ or '').strip()}")
        scene(story)
    return story


def main() -> None:
    """Run the demo. Exit with code 1 if a scene fails, 2 if the demo can't run here."""
    started = time.monotonic()
    try:
        binaries = build.ensure(build.CORE, Console())
        netns.enter()
    except (build.BuildError, netns.NetworkError) as error:
        say(str(error), "red")
        raise SystemExit(2) from None
    with tempfile.TemporaryDirectory(prefix="mendix-mesh-demo-") as folder:
        say("Starting a cluster, the real cert-manager and Linkerd's stand-in injector ...")
        home = Path(folder) / "home"
        home.mkdir()
        with ControlPlane(Path(folder) / "plane", binaries) as plane, CertManager(plane):
            release = Release(plane)
            injector = LinkerdInjector(plane.user("linkerd-proxy-injector", ["system:masters"]))
            kubelet = ServerKubelet(plane, release.namespace, release.labels)
            with injector, kubelet:
                try:
                    play(MeshCluster(plane, release, kubelet, injector), home)
                except (AssertionError, DemoError, StatusError, TimeoutError) as error:
                    say(f"The demo failed: {error}", "bold red")
                    raise SystemExit(1) from None
    heading(f"All of it held ({time.monotonic() - started:.0f} s).")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("Stopped; the cluster is gone.")
        raise SystemExit(130) from None
