"""`make scale`: how long an audit of a big cluster takes, and how much memory.

A cluster of real programs with simulated nodes is filled with namespaces of meshed Mendix apps, and
`mendix-mesh audit` is run on one namespace, on a tenth, and on all. The peak of its resident memory
must hardly grow with the cluster. Then the auditor watches it: first nothing changes, then a pod of
another namespace does each second.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress

from tests.cluster import auditor, build, netns
from tests.cluster.api import Json, wait_for
from tests.cluster.mesh import MESH_LABEL
from tests.cluster.plane import ControlPlane
from tests.standins import mendix_manifests as manifests
from tests.standins.linkerd import InjectorConfig, inject

#: The number of threads that fill the cluster.
_HANDS = 4
#: Seconds for which the auditor is measured.
_LOOK = 60
#: Pods are assigned to these nodes directly. A scheduler would take as long as everything else, and
#: would find the nodes full.
_NODES = [f"node-{number}" for number in range(4)]
_CONSOLE = Console(highlight=False)


class Measured(NamedTuple):
    """The measurements of one run of the command."""

    seconds: float
    processor: float
    #: The peak of the resident memory in MiB.
    peak: float
    code: int


def main() -> None:
    """Build the cluster, fill it, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespaces", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=20_000)
    given = parser.parse_args()
    binaries = build.ensure(build.CORE, _CONSOLE)
    netns.enter()
    each = max(1, given.pods // given.namespaces)
    with (
        tempfile.TemporaryDirectory(prefix="mendix-mesh-scale-") as folder,
        ControlPlane(Path(folder), binaries, nodes=_NODES) as plane,
    ):
        started = time.monotonic()
        fill(plane, given.namespaces, each)
        total = len(plane.api.list("Pod"))
        _CONSOLE.print(
            f"{given.namespaces} namespaces and {total} pods in {time.monotonic() - started:.0f} s"
        )
        _CONSOLE.print(
            f"{'namespaces':>10} {'pods':>7} {'seconds':>8} {'cpu s':>7} {'peak MiB':>9}"
        )
        for count in sorted({1, given.namespaces // 10 or 1, given.namespaces}):
            one = audit(plane, count, all_of_them=count == given.namespaces)
            assert one.code == 0, "every pod is meshed, and the audit says otherwise"
            _CONSOLE.print(
                f"{count:>10} {count * each:>7} {one.seconds:>8.1f} {one.processor:>7.1f}"
                f" {one.peak:>9.1f}"
            )
        watch(plane, Path(folder) / "auditor.log", given.namespaces)


def watch(plane: ControlPlane, log: Path, namespaces: int) -> None:
    """Run the auditor. Print its cost without changes, and with a changed pod each second."""
    with auditor.running(plane.kubeconfig, log, "--events") as running:
        running.until("/readyz")
        pid = running.process.pid
        # The doctor runs after the audit. Wait until it is done.
        used = 0.0
        while (now := _used(pid)) - used > 0.1:
            used = now
            time.sleep(5)
        seconds = running.samples("mendix_mesh_scan_duration_seconds")[()]
        _CONSOLE.print(f"auditor: first scan {seconds:.1f} s, {used:.1f} CPU s in all")
        for words, change in (("idle", False), ("a changed pod a second", True)):
            before = _used(pid)
            for second in range(_LOOK):
                if change:
                    namespace = f"mendix-{second % namespaces:05}"
                    name = plane.api.list("Pod", namespace)[0]["metadata"]["name"]
                    labels = {"metadata": {"labels": {"changed": str(second)}}}
                    plane.api.patch("Pod", name, namespace, labels)
                time.sleep(1)
            share = (_used(pid) - before) / _LOOK
            status = Path(f"/proc/{pid}/status").read_text()
            resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
            _CONSOLE.print(
                f"auditor, {words}: {share:.2%} of a core, {int(resident.split()[1]) / 1024:.1f} "
                f"MiB, peak {_peak(pid):.1f}"
            )


def _used(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fill(plane: ControlPlane, namespaces: int, pods: int) -> None:
    """Create the namespaces, each with one app of this many pods. Wait until all run."""
    with Progress(console=_CONSOLE, transient=True) as progress:
        task = progress.add_task("filling", total=2 * namespaces)

        def make(number: int) -> None:
            name = f"mendix-{number:05}"
            labels = {MESH_LABEL: "linkerd"}
            plane.api.create(
                {
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {"name": name, "labels": labels},
                }
            )
            plane.await_namespace(name)
            plane.api.create(app(name, pods, node=_NODES[number % len(_NODES)]))
            progress.update(task, advance=1)

        with ThreadPoolExecutor(_HANDS) as hands:
            list(hands.map(make, range(namespaces)))

        def all_run() -> bool:
            found = plane.api.list("Deployment")
            ready = sum(one.get("status", {}).get("readyReplicas", 0) == pods for one in found)
            progress.update(task, completed=namespaces + ready)
            return bool(ready == namespaces)

        wait_for(all_run, seconds=3600, every=5, why="all pods to run")


def app(namespace: str, pods: int, *, node: str) -> Json:
    """Return a Mendix app on a node. Its template is already injected, so no injector is needed."""
    deployment = manifests.app_deployment("shop", namespace, replicas=pods)
    template = deployment["spec"]["template"]
    template["metadata"].setdefault("annotations", {})["linkerd.io/inject"] = "enabled"
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    marks = {"metadata": {"name": namespace}}
    done = inject(pod, namespace=marks, config=InjectorConfig())
    deployment["spec"]["template"] = {key: done.pod[key] for key in ("metadata", "spec")}
    deployment["spec"]["template"]["spec"]["nodeName"] = node
    return deployment


def audit(plane: ControlPlane, count: int, *, all_of_them: bool) -> Measured:
    """Run the command on the first namespaces, or on all enrolled ones."""
    names = [] if all_of_them else [f"--namespace=mendix-{number:05}" for number in range(count)]
    command = [sys.executable, "-m", "webhook", "audit", "-o", "json", *names]
    environment = {**os.environ, "KUBECONFIG": str(plane.kubeconfig)}
    started = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peak = 0.0
    # Do not use ru_maxrss, because it starts with the memory of the parent process.
    while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
        peak = max(peak, _peak(process.pid))
        time.sleep(0.01)
    _, status, used = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    return Measured(seconds, used.ru_utime + used.ru_stime, peak, process.returncode)


def _peak(pid: int) -> float:
    """Return the peak of a process's resident memory so far, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    # A cluster of this size needs many open files.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    main()
