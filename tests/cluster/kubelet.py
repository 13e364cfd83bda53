"""The part of a kubelet that kwok can't simulate: it really runs the server's processes.

For each pod of one Deployment, it starts the container's own command line as a process. The process
listens on the pod's IP, with the pod's volumes on disk. So the tests cover the chart's arguments,
probes, volumes and Service, and the API server calls the webhook as in a real cluster.

This module fully controls pods with the annotation KUBELET_ANNOTATION. They become ready when their
readiness probe succeeds. They lose their endpoint before their process is asked to end. They are
gone when it has ended. kwok controls all other pods: they become ready and are deleted immediately.
"""

import base64
import contextlib
import datetime as dt
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

import httpx

from tests.cluster.api import Api, Json, StatusError, wait_for
from tests.cluster.part import Part
from tests.cluster.plane import KUBELET_ANNOTATION, ControlPlane
from tests.cluster.process import Process, ProcessError

SERVER = (sys.executable, "-m", "webhook")
"""The image's entry point: the command that gets a container's args."""

_CHECKOUT = str(Path(__file__).parents[2])
_TICK = 0.2  # seconds between two checks of the pods
_SYNC = 1.0  # seconds between two checks of a pod's volumes, and of two probes of a ready pod


class ServerKubelet(Part):
    """Runs the processes of the pods that `labels` select, during a `with` block.

    Its own thread starts all processes, and they end with it. A process that ends by itself is not
    restarted. It is listed in `crashes`.
    """

    def __init__(
        self,
        plane: ControlPlane,
        namespace: str,
        labels: Mapping[str, str],
        *,
        command: Sequence[str] = SERVER,
    ) -> None:
        self.namespace = namespace
        self.trees: dict[str, Path] = {}
        """The source tree of the server in each image. Other images use this checkout."""
        self.crashes: list[str] = []
        """A description of each process that ended unexpectedly."""
        self._labels = ",".join(f"{key}={value}" for key, value in labels.items())
        self._command = command
        # Use a separate connection, because each client stores the `warnings` of its last response.
        self._api = plane.user("kubelet", ["system:masters"])
        self._home = plane.workdir / "pods"
        self._probe = httpx.Client(
            # As in a kubelet, a probe does not verify the server's certificate.
            verify=False,
            trust_env=False,
            timeout=1.0,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._pods: dict[str, _Pod] = {}
        self._failure: Exception | None = None
        self._paused = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kubelet-{namespace}", daemon=True)

    def _begin(self) -> None:
        self._thread.start()

    def _end(self) -> None:
        self.stop()

    @property
    def processes(self) -> dict[str, Process]:
        """Return the running processes by pod name."""
        return {pod.name: pod.process for pod in self._running()}

    def addresses(self) -> list[str]:
        """Return IP:PORT of each running server."""
        return [pod.address for pod in self._running()]

    def wait_ready(self, replicas: int = 1, *, seconds: float = 60.0) -> None:
        """Wait until all pods without deletion, at least `replicas`, answer GET /livez over TLS.

        Raise ProcessError, with the end of its log, if a server has crashed in the meantime.
        """
        before = len(self.crashes)

        def ready() -> bool:
            self._check_thread()
            for crash in self.crashes[before:]:
                raise ProcessError(crash)
            wanted = {pod["metadata"]["uid"] for pod in self._list() if not _leaving(pod)}
            running = {pod.uid: pod for pod in self._running() if pod.leaving_at is None}
            return (
                len(wanted) >= replicas
                and wanted <= running.keys()
                and all(self._alive(running[uid]) for uid in wanted)
            )

        wait_for(ready, seconds=seconds, why=f"{replicas} servers in {self.namespace} to answer")

    def wait_replaced(self, replicas: int) -> None:
        """Wait as `wait_ready`, and until all other servers have ended: they answer to the end."""
        self.wait_ready(replicas)
        wait_for(lambda: len(self._running()) == replicas, seconds=60, why="older servers to end")

    def pause(self) -> None:
        """End all processes, but keep Service, pods and their readiness. Connections are rejected.

        This simulates the moment after a crash, before a kubelet has noticed it.
        """
        self._paused.set()
        wait_for(lambda: not self._running(), seconds=60, why="the servers to stop")

    def resume(self, *, seconds: float = 60.0) -> None:
        """Start the processes again after `pause`, and wait until they respond."""
        self._paused.clear()
        self.wait_ready(seconds=seconds)

    def stop(self) -> None:
        """End all processes and the thread. Raise the thread's error, if any. The pods stay."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._probe.close()
        self._api.close()
        self._check_thread()

    def _check_thread(self) -> None:
        if self._failure:
            message = f"the kubelet of {self.namespace} failed: {self._failure!r}"
            raise RuntimeError(message) from self._failure

    def _running(self) -> list["_Pod"]:
        return [pod for pod in list(self._pods.values()) if pod.process.returncode is None]

    def _alive(self, pod: "_Pod") -> bool:
        return self._answers(f"https://{pod.address}/livez")

    def _answers(self, url: str) -> bool:
        try:
            return self._probe.get(url).is_success
        except httpx.TransportError:
            return False

    def _list(self) -> list[Json]:
        return self._api.list("Pod", self.namespace, labels=self._labels)

    def _run(self) -> None:
        try:
            while not self._stopping.wait(_TICK):
                # The API server may be restarting or ending. A kubelet would also continue.
                with contextlib.suppress(httpx.TransportError, StatusError):
                    self._tick()
        except Exception as error:  # raised in the tests' thread, where it is visible
            self._failure = error
        finally:
            self._end_all()

    def _tick(self) -> None:
        found = {pod["metadata"]["uid"]: pod for pod in self._list()}
        if self._paused.is_set():
            self._end_all()
        for uid, obj in found.items():
            if uid in self._pods:
                continue
            if _leaving(obj):
                self._forget(obj)
            elif self._to_be_started(obj):
                with _not_yet():
                    self._pods[uid] = self._start(obj)
        for uid, pod in list(self._pods.items()):
            self._care(pod, found.get(uid))

    def _care(self, pod: "_Pod", obj: Json | None) -> None:
        """Do what is due for one started pod. `obj` is None if the pod is deleted."""
        now = time.monotonic()
        if pod.leaving_at is None and (obj is None or _leaving(obj)):
            pod.leave(now, at_once=obj is None)
        if pod.leaving_at is not None:
            if pod.gone(now):
                del self._pods[pod.uid]
                if obj:
                    self._forget(obj)
            return
        if pod.process.returncode is not None and not pod.crashed:
            pod.crashed = True
            self.crashes.append(
                f"the server of pod {pod.name} ended with code {pod.process.returncode}; its last "
                f"words:\n{pod.process.tail()}"
            )
        if now >= pod.due:
            pod.due = now + (_SYNC if pod.ready else _TICK)
            with _not_yet():
                pod.volumes.sync(self._api)
            if obj and _ours(obj):
                self._tell_readiness(pod, obj)

    def _tell_readiness(self, pod: "_Pod", obj: Json) -> None:
        answers = pod.process.returncode is None and self._passes_probe(pod)
        pod.failures = 0 if answers else pod.failures + 1
        ready = answers or (pod.ready and pod.failures < pod.failure_threshold)
        if ready != pod.ready:
            pod.ready = ready
            status = obj["status"]
            containers = [{**c, "ready": ready} for c in status["containerStatuses"]]
            now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            conditions = [
                {"type": name, "status": str(ready), "lastTransitionTime": now}
                for name in ("Ready", "ContainersReady")
            ]
            self._api.patch(
                "Pod",
                pod.name,
                self.namespace,
                {"status": {"conditions": conditions, "containerStatuses": containers}},
                how="strategic",
                subresource="status",
            )

    def _passes_probe(self, pod: "_Pod") -> bool:
        return not pod.readiness_url or self._answers(pod.readiness_url)

    def _to_be_started(self, obj: Json) -> bool:
        status = obj.get("status", {})
        ip = status.get("podIP")
        # kwok immediately gives a free IP to the next pod, while the old process may still use it.
        taken = {pod.address.rpartition(":")[0].strip("[]") for pod in self._running()}
        running = status.get("phase") == "Running" and not self._paused.is_set()
        return bool(running and ip and ip not in taken)

    def _start(self, obj: Json) -> "_Pod":
        name, ip = obj["metadata"]["name"], obj["status"]["podIP"]
        container = obj["spec"]["containers"][0]
        tree = self.trees.get(container["image"], _CHECKOUT)
        home = self._home / f"{self.namespace}_{name}"
        home.mkdir(parents=True, exist_ok=True)
        volumes = _Volumes(obj, home / "volumes")
        volumes.sync(self._api)
        rewrite = volumes.rewriter(ip)
        args = [rewrite(arg) for arg in container.get("args", ())]
        process = Process(
            f"server of pod {name}",
            [*self._command, *args],
            log=home / "server.log",
            # Use the server of that tree, whatever is installed.
            env={"PATH": os.defpath, "TMPDIR": str(home), "PYTHONPATH": str(tree)}
            | _environment(obj, rewrite),
            cwd=home,
            # The server ends its own workers if it is asked to end, but not if it is killed.
            death_signal=SIGTERM,
        )
        return _Pod(
            name=name,
            uid=obj["metadata"]["uid"],
            process=process,
            volumes=volumes,
            address=_listens_at(args, container, ip),
            readiness_url=_probe_url(container, ip),
            failure_threshold=container.get("readinessProbe", {}).get("failureThreshold", 3),
            pre_stop=_pre_stop_seconds(container),
            grace=obj["spec"].get("terminationGracePeriodSeconds", 30),
        )

    def _forget(self, obj: Json) -> None:
        """Confirm that a deleted pod's containers have ended. The API server then removes it."""
        if _ours(obj):
            with contextlib.suppress(StatusError):
                self._api.delete("Pod", obj["metadata"]["name"], self.namespace, grace=0)

    def _end_all(self) -> None:
        for pod in self._pods.values():
            pod.process.stop(grace=0)
        self._pods.clear()


@dataclass
class _Pod:
    """A pod with a started process, and its state. Times are from the monotonic clock."""

    name: str
    uid: str
    process: Process
    volumes: "_Volumes"
    address: str
    readiness_url: str
    failure_threshold: int
    pre_stop: float
    grace: float
    ready: bool = False
    failures: int = 0
    crashed: bool = False
    due: float = 0.0
    leaving_at: float | None = None
    kill_at: float = 0.0
    terminating: bool = False

    def leave(self, now: float, *, at_once: bool) -> None:
        """Start the deletion: SIGTERM after the preStop hook, SIGKILL after the grace period.

        A pod that was deleted without a grace period has one second.
        """
        self.leaving_at = now if at_once else now + self.pre_stop
        self.kill_at = now + (1.0 if at_once else self.grace)

    def gone(self, now: float) -> bool:
        """Do what is due during the deletion. Return whether the process has ended."""
        assert self.leaving_at is not None
        if now >= self.leaving_at and not self.terminating:
            self.terminating = True
            self.process.terminate()
        if self.process.returncode is None and now < self.kill_at:
            return False
        self.process.stop(grace=0)
        return True


class _Volumes:
    """The ConfigMap, Secret and emptyDir volumes of a pod's first container, in a folder.

    They are stored and replaced as a kubelet does it, because programs that watch their files
    depend on it; see `swap`. A file mounted by subPath is never replaced.
    """

    def __init__(self, pod: Json, home: Path) -> None:
        self._namespace = pod["metadata"]["namespace"]
        self._volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
        self._mounts = pod["spec"]["containers"][0].get("volumeMounts", ())
        self._home = home
        self._written: dict[str, dict[str, bytes]] = {}

    def sync(self, api: Api) -> None:
        """Update the folder. Raise StatusError 404 while an object is missing."""
        for mount in self._mounts:
            name = mount["name"]
            if "subPath" in mount and name in self._written:
                continue
            folder = self._home / name
            folder.mkdir(parents=True, exist_ok=True)
            content = self._content(api, self._volumes[name])
            if content is not None and content != self._written.get(name):
                swap(folder, content)
                self._written[name] = content

    def rewriter(self, ip: str) -> "_Rewriter":
        """Return what replaces the container's paths and addresses by those of this machine."""
        paths = {
            mount["mountPath"].rstrip("/"): str(
                self._home / mount["name"] / mount.get("subPath", "")
            )
            for mount in self._mounts
        }
        return _Rewriter(paths, ip)

    def _content(self, api: Api, volume: Json) -> dict[str, bytes] | None:
        """Return a volume's files by name; None for a volume that the container itself fills."""
        if "emptyDir" in volume:
            return None
        if source := volume.get("configMap"):
            data = api.get("ConfigMap", source["name"], self._namespace).get("data", {})
            files = {name: text.encode() for name, text in data.items()}
        elif source := volume.get("secret"):
            data = api.get("Secret", source["secretName"], self._namespace).get("data", {})
            files = {name: base64.b64decode(text) for name, text in data.items()}
        else:
            message = f"tests/cluster/kubelet.py cannot mount this kind of volume yet: {volume}"
            raise NotImplementedError(message)
        items = source.get("items")
        return {item["path"]: files[item["key"]] for item in items} if items else files


class _Rewriter:
    """Replaces mount paths and the wildcard addresses by the real ones on this machine.

    A container has a network of its own, in which it can listen everywhere. Here, all pods share
    one, so each listens on its pod's address.
    """

    def __init__(self, paths: Mapping[str, str], ip: str) -> None:
        self._host = host_of(ip)
        self._to = {**paths, "0.0.0.0": self._host, "[::]": self._host}
        longest_first = sorted(self._to, key=len, reverse=True)
        # Replace in one pass, so that replacements are not replaced again. A path ends at a slash.
        self._from = re.compile(
            rf"(?<![\w.-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w.-])"
        )

    def __call__(self, text: str) -> str:
        text = re.sub(r"^(--[a-z-]+=)(?=:\d+$)", rf"\g<1>{self._host}", text)
        return self._from.sub(lambda found: self._to[found[0]], text)


def host_of(ip: str) -> str:
    """Return an address as URLs have it."""
    return f"[{ip}]" if ":" in ip else ip


@contextlib.contextmanager
def _not_yet() -> Iterator[None]:
    """Ignore a missing object that a pod mounts. As in a kubelet, the next check tries again."""
    try:
        yield
    except StatusError as denied:
        if denied.code != httpx.codes.NOT_FOUND:
            raise


def swap(folder: Path, content: Mapping[str, bytes]) -> None:
    """Replace the content of a mounted folder (k8s.io/kubernetes pkg/volume/util/atomic_writer.go).

    Its files are links into `..data`, a link that is swapped over to a new folder.
    """
    fresh = folder / f"..{time.time_ns()}"
    fresh.mkdir()
    for name, data in content.items():
        (fresh / name).write_bytes(data)
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(Path("..data") / name)
    data_link, new_link = folder / "..data", folder / "..data_tmp"
    old = data_link.resolve() if data_link.is_symlink() else None
    new_link.symlink_to(fresh.name)
    new_link.rename(data_link)
    if old:
        shutil.rmtree(old)


def _ours(obj: Json) -> bool:
    return bool(obj["metadata"].get("annotations", {}).get(KUBELET_ANNOTATION) == "server")


def _leaving(obj: Json) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def _environment(obj: Json, rewrite: "_Rewriter") -> dict[str, str]:
    """Return the container's environment: plain values and fields of the pod."""
    result = {}
    for entry in obj["spec"]["containers"][0].get("env", ()):
        if path := entry.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath"):
            value = obj
            for part in path.split("."):
                value = value[part]
            result[entry["name"]] = str(value)
        elif "valueFrom" in entry:
            message = f"tests/cluster/kubelet.py cannot fill this variable yet: {entry}"
            raise NotImplementedError(message)
        else:
            result[entry["name"]] = rewrite(entry.get("value", ""))
    return result


def _listens_at(args: Sequence[str], container: Json, ip: str) -> str:
    """Return the address of the server: from --listen, else from the container's first port."""
    said = re.search(r"--listen[= ](\S+)", " ".join(args))
    return said[1] if said else f"{host_of(ip)}:{container['ports'][0]['containerPort']}"


def _probe_url(container: Json, ip: str) -> str:
    probe = container.get("readinessProbe", {}).get("httpGet")
    if not probe:
        return ""
    ports = {port.get("name"): port["containerPort"] for port in container.get("ports", ())}
    port = ports.get(probe["port"], probe["port"])
    scheme, path = probe.get("scheme", "HTTP").lower(), probe.get("path", "/")
    return f"{scheme}://{host_of(ip)}:{port}{path}"


def _pre_stop_seconds(container: Json) -> float:
    return float(
        container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    )
