"""A Kubernetes control plane of real programs on one machine, during a `with` block.

etcd, kube-apiserver, kube-controller-manager and kube-scheduler run as ordinary processes. kwok
simulates nodes and their kubelets. Authentication, RBAC, admission and all controllers are real.
Containers are not: a pod is only an object with an IP (see kwok.yaml).
"""

import base64
import contextlib
import json
import os
import secrets
import ssl
import subprocess
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPSConnection
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import httpx
import yaml

from tests.cluster import netns
from tests.cluster.api import Api, Json, StatusError, wait_for
from tests.cluster.build import ALL, KWOK_STAGES, kwok_stages
from tests.cluster.certificates import Authority, signing_key
from tests.cluster.part import Part
from tests.cluster.process import GO, Process, ProcessError

KUBELET_ANNOTATION = "tests.mendix-mesh.io/kubelet"
"""If a pod has it with the value "server", kubelet.py runs its process and sets its readiness."""
STAY_ANNOTATION = "tests.mendix-mesh.io/stay"
"""If a task pod has it with the value "true", the pod does not end by itself."""

SERVICE_RANGE, SERVICE_RANGE_6 = "10.96.0.0/16", "fd00:10:96::/112"
_SERVER_NAMES = (
    "127.0.0.1", "::1", "10.96.0.1", "fd00:10:96::1", "localhost", "kubernetes.default.svc",
)  # fmt: skip
_UP = 60.0  # seconds in which each part must be ready; it needs only a few, even on a busy machine

# Audit events of each write, without bodies. They contain the webhooks' audit annotations.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "None", "resources": [{"group": "coordination.k8s.io"}]},
        {"level": "Metadata"},
    ],
}


# The default limits of requests per second are for clusters. Here they would slow down each test.
_HURRY = {
    "bind_address": "127.0.0.1",
    "leader_elect": "false",
    "kube_api_qps": 300,
    "kube_api_burst": 600,
}

_FOR_SIMULATED_NODES = {
    "authorization_mode": "RBAC",
    # Without kube-proxy, the API server calls a Service at the addresses of its endpoints.
    "enable_aggregator_routing": "true",
    # It listens on the loopback device, which pods can't reach.
    "endpoint_reconciler_type": "none",
}


class Addresses(NamedTuple):
    """The addresses of a cluster with simulated nodes."""

    services: str
    pods: str
    host: str
    loopback: str


Family = Literal["IPv4", "IPv6", "dual"]
_IPV6 = Addresses(SERVICE_RANGE_6, netns.POD_RANGE_6, netns.HOST_IP_6, "::1")
ADDRESSES: Mapping[Family, Addresses] = {
    "IPv4": Addresses(SERVICE_RANGE, netns.POD_RANGE, netns.HOST_IP, "127.0.0.1"),
    "IPv6": _IPV6,
    # kwok gives a pod one address, which is of the first family.
    "dual": _IPV6._replace(services=f"{SERVICE_RANGE_6},{SERVICE_RANGE}"),
}


class CommandError(Exception):
    """Raised if kubectl or helm fails. The message has its output, `result` has everything."""

    def __init__(self, result: subprocess.CompletedProcess[str]) -> None:
        command = " ".join(map(str, result.args))
        super().__init__(f"`{command}` ended with {result.returncode}: {result.stderr.strip()}")
        self.result = result


class ControlPlane(Part):
    """A running cluster. All its files are in `workdir`, and all its processes end with it.

    The calling thread must be in the namespace of netns.py, and must outlive the cluster.
    """

    def __init__(
        self,
        workdir: Path,
        binaries: Mapping[str, Path],
        *,
        nodes: Sequence[str] = ("node-0",),
        address: str = "",
        family: Family = "IPv4",
        server_options: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """Set the folder, the programs (from build.ensure()) and the nodes to simulate.

        `server_options` are further options of the API server.

        `family` is that of its pods, Services and API server. With "dual", Services can have both.

        With `address`, the API server listens there for real nodes. They register themselves, and
        it authorizes them and connects to them. It calls Services at their cluster IPs, which the
        nodes' kube-proxy must route. Pods reach it by the Service `kubernetes`.
        """
        self.workdir = workdir
        self.binaries = binaries
        self.kubeconfig = workdir / "admin.kubeconfig"
        """The self-contained kubeconfig file of a member of system:masters."""
        self._nodes = nodes
        self._address = address
        self._server_options = server_options
        self._addresses = ADDRESSES[family]
        self._authority = Authority("mendix-mesh test cluster")
        self._stack = contextlib.ExitStack()
        self._processes: list[Process] = []
        self._starts: dict[str, Callable[[], Process]] = {}
        self._server = ""
        self.etcd = ""
        """The URL of etcd, which also speaks JSON over HTTP."""
        self._api: Api | None = None
        self._audit_read = 0  # bytes of the log that were read
        self._audit_events: list[Json] = []

    @property
    def api(self) -> Api:
        """Return the tests' own client, as cluster administrator."""
        assert self._api, "the cluster is not running: use it in a with block"
        return self._api

    @property
    def server(self) -> str:
        """Return the URL of the API server."""
        return self._server

    @property
    def ca(self) -> bytes:
        """Return the CA certificate of the API server and of all users."""
        return self._authority.pem

    def _begin(self) -> None:
        self._start()

    def _end(self) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop all processes, in the reverse order of their start."""
        for process in reversed(self._processes):
            # Their state is discarded, so an orderly end has no benefit.
            process.stop(grace=1.0)
        self._processes.clear()
        self._stack.close()

    def user(self, name: str, groups: Sequence[str] = ()) -> Api:
        """Return a client with a user's own certificate and the rights that RBAC gives this user.

        A name of the form system:serviceaccount:NAMESPACE:NAME is that service account for RBAC.
        """
        cert, key = self._client(name, groups)
        return self._stack.enter_context(Api(self._server, self.workdir / "ca.crt", cert, key))

    def _client(self, name: str, groups: Sequence[str] = ()) -> tuple[Path, Path]:
        """Write a certificate and its key for a client, and return their paths."""
        folder = self.workdir / "users" / secrets.token_hex(4)
        folder.mkdir(parents=True)
        return self._authority.issue(name, groups=groups).write(folder, "client")

    def connection(self, name: str, groups: Sequence[str] = ()) -> HTTPSConnection:
        """Return a plain connection as such a user, for load tests. It is cheaper than `user`."""
        context = ssl.create_default_context(cafile=str(self.workdir / "ca.crt"))
        context.load_cert_chain(*self._client(name, groups))
        return HTTPSConnection(urlsplit(self._server).netloc, timeout=35, context=context)

    def write_kubeconfig(
        self, path: Path, name: str, groups: Sequence[str] = (), *, namespace: str = "default"
    ) -> Path:
        """Write a kubeconfig file for a user, self-contained, and return its path."""
        pair = self._authority.issue(name, groups=groups)
        cluster = {"server": self._server, "certificate-authority-data": _base64(self.ca)}
        user = {
            "client-certificate-data": _base64(pair.cert),
            "client-key-data": _base64(pair.key),
        }
        context = {"cluster": "tests", "user": name, "namespace": namespace}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "tests", "context": context}],
            "current-context": "tests",
        }
        path.write_text(json.dumps(content))
        return path

    def kubectl(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002 - as subprocess.run calls it
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as administrator. With `check`, a failure raises CommandError."""
        return self._run("kubectl", args, input, check)

    def helm(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002 - as subprocess.run calls it
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run helm as administrator. With `check`, a failure raises CommandError."""
        return self._run("helm", args, input, check)

    def new_namespace(
        self,
        prefix: str = "t",
        *,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> str:
        """Create a namespace with a unique name, wait until it can have pods, and return its name.

        Namespaces are not deleted, because this takes ten seconds. They end with the cluster.
        """
        name = f"{prefix}-{base64.b32encode(secrets.token_bytes(4))[:6].decode().lower()}"
        metadata = {
            "name": name,
            "labels": dict(labels or {}),
            "annotations": dict(annotations or {}),
        }
        self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        self.await_namespace(name)
        return name

    def await_namespace(self, name: str) -> None:
        """Wait until a namespace has what a pod needs: its service account and the cluster's CA."""
        for kind, needed in (("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")):
            wait_for(
                lambda kind=kind, needed=needed: self.api.get(kind, needed, name),  # type: ignore[misc]
                why=f"{kind} {needed} in the namespace {name}",
            )

    def define(self, *files: Path) -> None:
        """Install the CRDs in files or folders, and wait until they are served."""
        named = [f"--filename={file}" for file in files]
        self.kubectl("apply", "--server-side", *named)
        wait = ("wait", "--for=condition=Established", *named)
        # kubectl fails at once if a CRD has no status yet.
        wait_for(lambda: not self.kubectl(*wait, check=False).returncode, why="served CRDs")

    def audit(self, **match: str) -> list[Json]:
        """Return the audit events of all writes whose objectRef has these values.

        Events are written before the request is answered. They contain no bodies.
        """
        with (self.workdir / "audit.log").open("rb") as log:
            log.seek(self._audit_read)
            # The last line may be incomplete. The next call reads it.
            lines, newline, _ = log.read().rpartition(b"\n")
        self._audit_read += len(lines) + len(newline)
        self._audit_events += map(json.loads, lines.splitlines())
        return [
            event
            for event in self._audit_events
            if match.items() <= event.get("objectRef", {}).items()
        ]

    def restart(self, program: str) -> None:
        """End a program as in a crash, start it again, and wait for the API server."""
        (old,) = (process for process in self._processes if process.name == program)
        old.stop(grace=0)
        self._processes[self._processes.index(old)] = self._starts[program]()
        self._await(lambda: self._answers("/readyz"), "the API server to be ready")

    def end(self, *programs: str) -> None:
        """End programs for good, if they run."""
        for process in [one for one in self._processes if one.name in programs]:
            process.stop(grace=1.0)
            self._processes.remove(process)

    def check(self) -> None:
        """Raise ProcessError, with the end of its log, if a part of the cluster has ended."""
        for process in self._processes:
            process.check()

    @property
    def pids(self) -> list[int]:
        """Return the process ids of the cluster's programs."""
        return [process.pid for process in self._processes]

    def _start(self) -> None:
        self.workdir.mkdir(parents=True, exist_ok=True)
        names = ("etcd", "peer", "api", "kcm", "scheduler")
        ports = dict(zip(names, netns.free_ports(len(names)), strict=True))
        host = self._address or self._addresses.loopback
        self._server = f"https://{f'[{host}]' if ':' in host else host}:{ports['api']}"
        (self.workdir / "ca.crt").write_bytes(self.ca)
        (self.workdir / "service-accounts.key").write_bytes(signing_key())
        self._start_api_server(ports)
        self.write_kubeconfig(self.kubeconfig, "admin", ["system:masters"])
        self._api = self.user("admin", ["system:masters"])
        self._await(lambda: self._answers("/readyz"), "the API server to be ready")
        self._start_controllers(ports)
        self._start_nodes()

    def _start_api_server(self, ports: Mapping[str, int]) -> None:
        etcd = self.etcd = f"http://127.0.0.1:{ports['etcd']}"
        peer = f"http://127.0.0.1:{ports['peer']}"
        self._run_in_background(
            "etcd",
            data_dir=self.workdir / "etcd",
            listen_client_urls=etcd,
            advertise_client_urls=etcd,
            listen_peer_urls=peer,
            initial_advertise_peer_urls=peer,
            initial_cluster=f"default={peer}",
            # The data is temporary, so it need not survive a crash of the machine.
            unsafe_no_fsync="true",
            # The default of 2 GiB is too little for `make scale` with very many pods.
            quota_backend_bytes=8 << 30,
            log_level="warn",
        )
        hosts = [*_SERVER_NAMES, *([self._address] if self._address else ())]
        serving = self._authority.issue("kube-apiserver", hosts=hosts)
        cert, key = serving.write(self.workdir, "apiserver")
        policy = self.workdir / "audit-policy.json"
        policy.write_text(json.dumps(_AUDIT_POLICY))
        self._run_in_background(
            "kube-apiserver",
            etcd_servers=etcd,
            bind_address=self._address or self._addresses.loopback,
            secure_port=ports["api"],
            advertise_address=self._addresses.host,
            service_cluster_ip_range=self._addresses.services,
            tls_cert_file=cert,
            tls_private_key_file=key,
            client_ca_file=self.workdir / "ca.crt",
            cert_dir=self.workdir / "apiserver",
            service_account_issuer="https://kubernetes.default.svc",
            service_account_key_file=self.workdir / "service-accounts.key",
            service_account_signing_key_file=self.workdir / "service-accounts.key",
            allow_privileged="true",
            profiling="false",
            audit_log_path=self.workdir / "audit.log",
            audit_log_maxsize=10_000,  # MB; `audit` must find all events in one file
            audit_policy_file=policy,
            **(self._for_real_nodes() if self._address else _FOR_SIMULATED_NODES),
            **self._server_options,
        )

    def _for_real_nodes(self) -> dict[str, object]:
        cert, key = self._client("kube-apiserver-kubelet-client", ["system:masters"])
        return {
            "authorization_mode": "Node,RBAC",
            "enable_admission_plugins": "NodeRestriction",
            "kubelet_client_certificate": cert,
            "kubelet_client_key": key,
            "kubelet_preferred_address_types": "InternalIP",
        }

    def _start_controllers(self, ports: Mapping[str, int]) -> None:
        # Each controller has its own service account, as in a real cluster. A webhook sees who
        # creates a pod, and RBAC applies to each controller.
        config = self.workdir / "kcm.kubeconfig"
        self._run_in_background(
            "kube-controller-manager",
            kubeconfig=self.write_kubeconfig(config, "system:kube-controller-manager"),
            use_service_account_credentials="true",
            secure_port=ports["kcm"],
            service_account_private_key_file=self.workdir / "service-accounts.key",
            root_ca_file=self.workdir / "ca.crt",
            cert_dir=self.workdir / "kcm",
            **_HURRY,
        )
        config = self.workdir / "scheduler.kubeconfig"
        self.write_kubeconfig(config, "system:kube-scheduler")
        self._run_in_background(
            "kube-scheduler",
            kubeconfig=config,
            authentication_kubeconfig=config,
            authorization_kubeconfig=config,
            secure_port=ports["scheduler"],
            cert_dir=self.workdir / "scheduler",
            **_HURRY,
        )

    def _start_nodes(self) -> None:
        if self._nodes:
            config = self.workdir / "kwok.yaml"
            config.write_text(yaml.safe_dump_all(_kwok_configuration(self._addresses)))
            self._run_in_background(
                "kwok", kubeconfig=self.kubeconfig, config=config, server_address="127.0.0.1:0"
            )
        for name in self._nodes:
            self.api.create(_node(name))
        try:
            self._await_nodes()
        except ProcessError as error:
            if not str(error).startswith("kwok "):
                raise
            # Seldom, two of kwok's threads write to one map when it starts, which ends it.
            self.restart("kwok")
            self._await_nodes()
        self.await_namespace("default")

    def _await_nodes(self) -> None:
        for name in self._nodes:
            self._await(lambda name=name: is_ready(self.api.get("Node", name)), f"node {name}")  # type: ignore[misc]

    def _run_in_background(self, program: str, **flags: object) -> None:
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
        home = self.workdir / program
        home.mkdir(exist_ok=True)
        self._starts[program] = lambda: Process(
            program,
            [self.binaries[program], *arguments],
            log=self.workdir / f"{program}.log",
            env={"PATH": os.defpath, "HOME": str(home)},
            cwd=home,
        )
        self._processes.append(self._starts[program]())

    def _await(self, what: Callable[[], bool], why: str) -> None:
        """Wait for a part of the cluster. Fail immediately if one of its programs ends."""

        def up() -> bool:
            self.check()
            return what()

        wait_for(up, seconds=_UP, why=f"{why} (the logs are in {self.workdir})")

    def _answers(self, path: str) -> bool:
        """Return whether the API server answers a path. It does not before it is ready."""
        try:
            self.api.text(path)
        except (httpx.TransportError, StatusError):
            return False
        return True

    def _run(
        self, program: str, args: Sequence[str], stdin: str | None, check: bool
    ) -> subprocess.CompletedProcess[str]:
        home = self.workdir / "home"
        home.mkdir(exist_ok=True)
        environment = {
            **GO,
            "PATH": os.defpath,
            "HOME": str(home),
            "KUBECONFIG": str(self.kubeconfig),
            "HELM_CACHE_HOME": str(home / "helm"),
            "HELM_CONFIG_HOME": str(home / "helm"),
            "HELM_DATA_HOME": str(home / "helm"),
        }
        result = subprocess.run(
            [self.binaries[program], *args],
            input=stdin,
            check=False,
            capture_output=True,
            text=True,
            env=environment,
        )
        if check and result.returncode:
            raise CommandError(result)
        return result


def _kwok_configuration(addresses: Addresses) -> list[Json]:
    """Return kwok's options and stages: its own, except those that ours replace, and ours."""
    ours = list(yaml.safe_load_all(Path(__file__).with_name("kwok.yaml").read_text()))
    ours[0]["options"] |= {"cidr": addresses.pods, "nodeIP": addresses.host}
    theirs = [yaml.safe_load((kwok_stages() / name).read_text()) for name in KWOK_STAGES]
    for stage in theirs:
        if stage["spec"]["resourceRef"]["kind"] == "Pod":
            stage["spec"]["selector"]["matchExpressions"].append(
                {
                    "key": f'.metadata.annotations["{KUBELET_ANNOTATION}"]',
                    "operator": "NotIn",
                    "values": ["server"],
                }
            )
    return [*ours, *theirs]


def _node(name: str) -> Json:
    """Return a node to simulate. Meshes read its kubelet's version to choose native sidecars."""
    major, minor, patch = ALL["kube-apiserver"].version
    # kwok sets no ephemeral storage by itself, and Mendix's pods request it.
    room = {"cpu": "1k", "memory": "1Ti", "pods": "1M", "ephemeral-storage": "1Pi"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {
            "nodeInfo": _node_info(f"v{major}.{minor}.{patch}"),
            "capacity": room,
            "allocatable": room,
        },
    }


def _node_info(kubelet: str) -> Json:
    empty = (
        "architecture bootID containerRuntimeVersion kernelVersion kubeProxyVersion machineID "
        "operatingSystem osImage systemUUID"
    )
    return {**dict.fromkeys(empty.split(), ""), "kubeletVersion": kubelet}


def is_ready(obj: Json) -> bool:
    """Return whether a node's or pod's status has the condition Ready."""
    conditions = obj.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
