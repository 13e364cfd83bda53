"""`make scale`: what an audit and the dashboard of a big cluster cost.

A cluster of real programs with simulated nodes is filled step by step with namespaces of meshed
Mendix apps. At each step, `mendix-mesh audit` is run on all of them, and the dashboard's first page
is read. Memory must hardly grow with the cluster. At the end the auditor watches it: first nothing
changes, then a pod of another namespace does each second.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
from rich.console import Console
from rich.progress import Progress

from tests.cluster import auditor, build, netns
from tests.cluster.api import Json, core, wait_for
from tests.cluster.mesh import MESH_LABEL
from tests.cluster.plane import ControlPlane
from tests.cluster.process import Process
from tests.standins import mendix_manifests as manifests
from tests.standins.linkerd import InjectorConfig, inject

#: The number of threads that fill the cluster.
_HANDS = 4
#: The numbers of pods at which it is measured, and how many of them are in a namespace.
_SIZES, _EACH = (100, 1_000, 20_000, 100_000), 20
#: The number of namespaces that the real controllers fill.
_REAL = 50
#: Seconds for which the auditor is measured.
_LOOK = 60
#: Pods are assigned to these nodes directly. A scheduler would take as long as everything else, and
#: would find the nodes full.
_NODES = [f"node-{number}" for number in range(4)]
#: The API server's own copies of 100,000 pods would need more memory than a small machine has. So
#: it reads them from etcd.
_NO_CACHE_OF_PODS = {"watch_cache_sizes": "pods#0"}
_CONSOLE = Console(highlight=False)
RESULTS = Path(__file__).parents[1] / "bench/results/scale.json"


class Measured(msgspec.Struct):
    """What a number of pods costs. Memory is the peak of the resident memory in MiB."""

    namespaces: int
    pods: int
    audit_seconds: float
    audit_cpu: float
    audit_mib: float
    #: The first page after the first scan, and the median of those that follow, in milliseconds.
    first_page_ms: float
    page_ms: float
    dashboard_mib: float


def main() -> None:
    """Fill a cluster step by step, measure at each step, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=_SIZES[-1])
    most = parser.parse_args().pods
    sizes = sorted({size for size in _SIZES if size < most} | {most})
    binaries = build.ensure(build.CORE, _CONSOLE)
    netns.enter()
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="mendix-mesh-scale-") as folder,
        ControlPlane(
            Path(folder), binaries, nodes=_NODES, server_options=_NO_CACHE_OF_PODS
        ) as plane,
    ):
        _row(Measured.__struct_fields__)
        there = 0
        for size in sizes:
            namespaces = max(1, size // _EACH)
            fill(plane, range(there, namespaces))
            there = namespaces
            found.append(measure(plane, Path(folder) / f"dashboard-{size}.log", namespaces))
            _row(msgspec.structs.astuple(found[-1]))
        if most == _SIZES[-1]:
            lines = [msgspec.json.encode(one).decode() for one in found]
            RESULTS.write_text("[\n" + ",\n".join(lines) + "\n]\n")
            _CONSOLE.print(f"stored in {RESULTS}; the page: python -m tests.bench --page")
        watch(plane, Path(folder) / "auditor.log", there)


def _row(values: Iterable[object]) -> None:
    _CONSOLE.print(" ".join(f"{value!s:>13}" for value in values), soft_wrap=True)


def read() -> list[Measured]:
    """Return the stored measurements."""
    return msgspec.json.decode(RESULTS.read_bytes(), type=list[Measured])


def measure(plane: ControlPlane, log: Path, namespaces: int) -> Measured:
    """Run the audit and the dashboard on all namespaces."""
    seconds, cpu, mib = audit(plane)
    (port,) = netns.free_ports(1)
    where = f"127.0.0.1:{port}"
    program = [sys.executable, "-m", "webhook", "dashboard", "--no-open", "--listen", where]
    process = Process("dashboard", program, log=log, env=_environment(plane))
    try:
        wait_for(lambda: "in the mesh" in _page(where)[1], seconds=600, why="a first scan")
        # What a page read from the API server is fresh for five seconds.
        time.sleep(6)
        first, *others = (_page(where)[0] for _ in range(11))
        peak = _peak(process.pid)
    finally:
        process.stop()
    values = (seconds, cpu, mib, first, statistics.median(others), peak)
    return Measured(namespaces, namespaces * _EACH, *(round(value, 1) for value in values))


def _page(where: str) -> tuple[float, str]:
    """Read the first page. Return the milliseconds that it took, and the page."""
    began = time.monotonic()
    try:
        text = httpx.get(f"http://{where}/", timeout=60).raise_for_status().text
    except httpx.ConnectError:
        return 0.0, ""
    return (time.monotonic() - began) * 1000, text


def _environment(plane: ControlPlane) -> dict[str, str]:
    return {**os.environ, "KUBECONFIG": str(plane.kubeconfig)}


def watch(plane: ControlPlane, log: Path, namespaces: int) -> None:
    """Run the auditor. Print its cost without changes, and with a changed pod each second."""
    with auditor.running(plane.kubeconfig, log, "--events") as running:
        running.until("/readyz", patience=600)
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
                    where = _name(second % namespaces)
                    name = plane.api.list("Pod", where)[0]["metadata"]["name"]
                    labels = {"metadata": {"labels": {"changed": str(second)}}}
                    plane.api.patch("Pod", name, where, labels)
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


def fill(plane: ControlPlane, numbers: range) -> None:
    """Create more namespaces, each with one app whose pods run.

    The first ones are made by the real controllers. They would need more memory than the rest for
    all of them, so the others are copies of the first, and the controllers are ended before.
    """
    real = range(numbers.start, min(numbers.stop, _REAL))
    copied = range(max(numbers.start, _REAL), numbers.stop)
    with (
        Progress(console=_CONSOLE, transient=True) as progress,
        ThreadPoolExecutor(_HANDS) as hands,
    ):
        task = progress.add_task("filling", total=len(numbers))

        def make(step: Callable[[int], object]) -> Callable[[int], None]:
            def made(number: int) -> None:
                step(number)
                progress.update(task, advance=1)

            return made

        list(hands.map(make(lambda number: deploy(plane, number)), real))

        def all_run() -> bool:
            found = plane.api.list("Deployment")
            ready = sum(one.get("status", {}).get("readyReplicas", 0) == _EACH for one in found)
            return bool(ready >= numbers.stop or copied)

        wait_for(all_run, seconds=600, every=2, why="all pods to run")
        if copied:
            plane.end("kwok", "kube-scheduler", "kube-controller-manager")
            models = [
                plane.api.list(kind, _name(0)) for kind in ("Deployment", "ReplicaSet", "Pod")
            ]
            list(hands.map(make(lambda number: copy_to(plane, models, number)), copied))


def deploy(plane: ControlPlane, number: int) -> None:
    """Create a namespace with an app."""
    namespace(plane, number)
    plane.await_namespace(_name(number))
    plane.api.create(app(_name(number), _EACH, node=_NODES[number % len(_NODES)]))


def copy_to(plane: ControlPlane, models: Sequence[Sequence[Json]], number: int) -> None:
    """Create a namespace with copies of objects. Each list has the owners of the next."""
    namespace(plane, number)
    plane.api.create(core("ServiceAccount", "default", _name(number)))
    owner: Json = {}
    for kind in models:
        for model in kind:
            kept = ("name", "labels", "annotations", "ownerReferences")
            meta = {key: model["metadata"][key] for key in kept if key in model["metadata"]}
            references = [{**one, **owner} for one in meta.get("ownerReferences", ())]
            meta |= {"namespace": _name(number), "ownerReferences": references}
            made = plane.api.create({**model, "metadata": meta})
            if made["kind"] == "Pod":
                status = {"status": model["status"]}
                plane.api.patch("Pod", meta["name"], _name(number), status, subresource="status")
        owner = {"uid": made["metadata"]["uid"], "name": made["metadata"]["name"]}


def namespace(plane: ControlPlane, number: int) -> None:
    """Create an enrolled namespace."""
    plane.api.create(core("Namespace", _name(number), labels={MESH_LABEL: "linkerd"}))


def _name(number: int) -> str:
    return f"mendix-{number:05}"


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


def audit(plane: ControlPlane) -> tuple[float, float, float]:
    """Run the command on all namespaces. Return its seconds, CPU seconds and peak memory in MiB."""
    command = [sys.executable, "-m", "webhook", "audit", "-o", "json"]
    started = time.monotonic()
    process = subprocess.Popen(
        command, env=_environment(plane), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peak = 0.0
    # Do not use ru_maxrss, because it starts with the memory of the parent process.
    while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
        peak = max(peak, _peak(process.pid))
        time.sleep(0.01)
    _, status, used = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, "every pod is meshed, and the audit says otherwise"
    return time.monotonic() - started, used.ru_utime + used.ru_stime, peak


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
