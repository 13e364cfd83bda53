"""The configuration files of a node's programs."""

import base64
import json
import sys
from pathlib import Path

from tests.node.machine import CNI, Machine
from tests.standins import cni_status

PAUSE = "docker.io/library/pause:tests"
SOCKET = "/run/containerd.sock"
POD_RANGES = "10.245.0.0/16"
POD_LOGS = "pod-logs"
"""The folder of the containers' logs, in that of the node."""


def containerd(machine: Machine) -> Path:
    """Write the configuration of containerd 1.6 or later; version 2 is read by all of them."""
    return _write(
        machine.workdir / "containerd.toml",
        f"""\
version = 2
root = "{machine.workdir}/containerd"
state = "/run/containerd"
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
# The default of containerd 2: any user may listen on the ports below 1024.
enable_unprivileged_ports = true
sandbox_image = "{PAUSE}"
# Without CAP_SYS_RESOURCE, as in many sandboxes, no process may lower its score.
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{machine.workdir}/cni-programs"
conf_dir = "{machine.workdir}/cni"
""",
    )


def cni(machine: Machine, kubeconfig: Path) -> None:
    """Write the pods' network: a bridge, with addresses of the node's own range.

    After it comes a stand-in for plugins that write to the pod, as the user of the kubeconfig.
    """
    addresses = {
        "type": "host-local",
        "dataDir": f"{machine.workdir}/addresses",
        "ranges": [[{"subnet": machine.pod_range}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "pods",
        "isGateway": True,
        "hairpinMode": True,
        "ipMasq": False,
        "ipam": addresses,
    }
    folder = machine.workdir / "cni"
    folder.mkdir()
    plugins = [bridge, _status_writer(machine, kubeconfig)]
    content = {"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}
    _write(conflist(machine), json.dumps(content))


def conflist(machine: Machine) -> Path:
    """Return the file of the pods' network, which containerd reads again when it changes."""
    return machine.workdir / "cni/10-pods.conflist"


def _status_writer(machine: Machine, kubeconfig: Path) -> dict[str, str]:
    """Install the stand-in beside the real plugins, and return its part of the configuration."""
    programs = machine.workdir / "cni-programs"
    programs.mkdir()
    for program in CNI.iterdir():
        (programs / program.name).symlink_to(program)
    name = "tests-pod-status"
    source = Path(cni_status.__file__).read_text()
    _write(programs / name, f"#!{sys.executable} -I\n{source}").chmod(0o755)
    content = json.loads(kubeconfig.read_text())
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    files = {
        "ca": cluster["certificate-authority-data"],
        "cert": user["client-certificate-data"],
        "key": user["client-key-data"],
    }
    for file, encoded in files.items():
        (programs / f"{file}.pem").write_bytes(base64.b64decode(encoded))
    paths = {file: f"{programs}/{file}.pem" for file in files}
    return {"type": name, "server": cluster["server"], **paths}


def kubelet(machine: Machine, client_ca: Path, dns: str) -> Path:
    """Write the kubelet's configuration. `dns` is the cluster's DNS server; empty if none."""
    resolv = _write(machine.workdir / "resolv.conf", f"nameserver {dns or '127.0.0.1'}\n")
    none = {"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%"}
    content = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(client_ca)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{machine.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": ["pods"],
        # Disk and memory are those of this machine, so their limits do not matter.
        "evictionHard": none | {"imagefs.available": "0%", "imagefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100,
        # All images are imported. A pod that asks for a pull must not affect the others.
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        "serializeImagePulls": False,
        "resolvConf": str(resolv),
        "clusterDNS": [dns] if dns else [],
        "clusterDomain": "cluster.local",
        "podLogsDir": f"{machine.workdir}/{POD_LOGS}",
        "volumePluginDir": f"{machine.workdir}/volume-plugins",
        "makeIPTablesUtilChains": False,
        # A minute by default, which is how long a changed Secret takes to reach a pod.
        "syncFrequency": "1s",
        "configMapAndSecretChangeDetectionStrategy": "Watch",
    }
    return _write(machine.workdir / "kubelet.json", json.dumps(content))


def kube_proxy(machine: Machine, name: str, kubeconfig: Path) -> Path:
    """Write kube-proxy's configuration: nftables, and no limit that is the machine's to set."""
    content = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": name,
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        # Answers to clients from other networks also pass through this node.
        "clusterCIDR": POD_RANGES,
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
    return _write(machine.workdir / "kube-proxy.json", json.dumps(content))


def _write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path
