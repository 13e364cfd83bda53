"""Real nodes: containerd, kubelet and kube-proxy, whose pods really run."""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tests.cluster.api import Json, wait_for
from tests.cluster.plane import ControlPlane, is_ready
from tests.cluster.process import Process, ProcessError
from tests.image import standin
from tests.image.buildah import Store
from tests.node import settings
from tests.node.machine import Machine

_UP = 60.0  # seconds in which each part must be up; it takes a few even on a busy machine
_PAUSE = "trap 'exit 0' INT TERM; sleep infinity & wait"


def pause(folder: Path, store: Store) -> Path:
    """Write the archive of the image that holds a pod's namespaces: a shell that waits."""
    root, archive = folder / "pause", folder / "pause.tar"
    root.mkdir()
    standin.skeleton(root)
    standin.add_programs(root, ("sh", "sleep"))
    store.add(root, "pause", f"--entrypoint={json.dumps(['/bin/sh', '-c', _PAUSE])}")
    store.save("pause", archive, settings.PAUSE)
    return archive


class Node:
    """One node of a control plane that has an `address`; the plane must outlive it.

    `dns` is the address of the cluster's DNS server; empty if there is none.
    """

    def __init__(self, number: int, plane: ControlPlane, dns: str = "") -> None:
        self.name = f"node-{number}"
        self.machine = Machine(number, plane.workdir / f"{self.name}-{secrets.token_hex(2)}")
        self._plane = plane
        self._dns = dns
        self._processes: list[Process] = []

    def start_containerd(self) -> None:
        """Create the machine, and start containerd."""
        self.machine.start()
        kubeconfig = self.machine.workdir / "cni.kubeconfig"
        settings.cni(
            self.machine, self._plane.write_kubeconfig(kubeconfig, "cni", ["system:masters"])
        )
        self._run_containerd()

    def reboot(self) -> None:
        """Kill everything, with what a real machine keeps in memory, and start it again."""
        self.machine.reboot()
        for process in self._processes:
            process.stop(grace=0)
        self._processes.clear()
        self._run_containerd()
        self.start_kubelet(self._plane.binaries)

    def _run_containerd(self) -> None:
        config = settings.containerd(self.machine)
        self._start("containerd", ["containerd", "--config", config])
        self._await(self._containerd_answers, "containerd")

    def load(self, archives: Iterable[Path]) -> None:
        """Import images, after which pods can be made of them with `imagePullPolicy: Never`."""
        for archive in archives:
            self.ctr("images", "import", str(archive))

    def start_kubelet(self, programs: Mapping[str, Path]) -> None:
        """Start the kubelet, which registers the node and runs its pods, and kube-proxy."""
        plane, folder = self._plane, self.machine.workdir
        kubeconfig = plane.write_kubeconfig(
            folder / "kubelet.kubeconfig", f"system:node:{self.name}", ["system:nodes"]
        )
        config = settings.kubelet(self.machine, plane.workdir / "ca.crt", self._dns)
        self._start(
            "kubelet",
            [
                programs["kubelet"],
                f"--config={config}",
                f"--kubeconfig={kubeconfig}",
                f"--root-dir={folder}/kubelet",
                f"--cert-dir={folder}/kubelet-certificates",
                f"--hostname-override={self.name}",
                f"--node-ip={self.machine.address}",
            ],
        )
        kubeconfig = plane.write_kubeconfig(folder / "proxy.kubeconfig", "system:kube-proxy")
        config = settings.kube_proxy(self.machine, self.name, kubeconfig)
        self._start("kube-proxy", [programs["kube-proxy"], f"--config={config}"])

    def await_ready(self) -> None:
        """Wait until the node is Ready."""
        self._await(lambda: is_ready(self._plane.api.get("Node", self.name)), self.name)

    def stop(self) -> None:
        """Kill everything; the Node object stays."""
        self.machine.stop()
        for process in self._processes:
            process.stop(grace=1.0)

    def check(self) -> None:
        """Raise ProcessError, with the end of its log, if a part of the node has died."""
        for process in self._processes:
            process.check()

    def ctr(self, *arguments: str) -> str:
        """Run containerd's own client, and return its output."""
        client = ["ctr", f"--address={settings.SOCKET}", "--namespace=k8s.io"]
        return self.machine.run(*client, *arguments)

    def _containerd_answers(self) -> bool:
        try:
            self.ctr("version")
        except ProcessError:
            return False
        return True

    def _start(self, name: str, argv: list[str | Path]) -> None:
        self._processes.append(self.machine.start_program(name, argv))

    def _await(self, what: Callable[[], bool], why: str) -> None:
        def up() -> bool:
            self.check()
            return what()

        wait_for(up, seconds=_UP, why=f"{why} (the logs are in {self.machine.workdir})")


def processes_of(pod: Json) -> list[int]:
    """Return the process ids, as seen from here, of a pod's containers, without its pause."""
    uid = pod["metadata"]["uid"]
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                groups = (folder / "cgroup").read_text().replace("_", "-")
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue  # it has ended since
            if uid in groups and b"sleep" not in command:
                found.append(int(folder.name))
    return found
