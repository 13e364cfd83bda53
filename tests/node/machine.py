"""The parts of this machine that belong to a node: namespaces, a network cable, mounts, cgroups.

Network, mounts and process ids are in separate namespaces, so that kubelet and kube-proxy have a
machine that they may change. One end of a veth pair is in the network of the calling process, which
is that of tests/cluster/netns.py. The network, forwarding and DNS of this machine do not change.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.process import Process, ProcessError

PROGRAMS = ("runc", "containerd", "ctr", "nft", "iptables", "conntrack", "ip", "nsenter", "unshare")
PACKAGES = "runc containerd containernetworking-plugins nftables iptables conntrack iproute2"
CNI = Path("/usr/lib/cni")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CGROUPS = Path("/sys/fs/cgroup")

# Separate from the machine's mounts, so that nothing leaks out. Shared from here on, because the
# kubelet's volumes must reach containers.
_INIT = "mount --make-rshared /; while :; do sleep 3600 & wait $!; done"

# containerd, kubelet and CNI always write below these.
_MOUNTS = """
set -e
for place in /var /usr/libexec; do
  own=$1/overlay$place
  mkdir -p "$own/upper" "$own/work" "$place"
  mount -t overlay -o lowerdir=$place,upperdir=$own/upper,workdir=$own/work overlay $place
done
mount -t tmpfs tmpfs /run
"""


# A machine that is switched off loses its processes, its memory and its network. -l, because what
# is left of a process may still hold a mount.
_SWITCH_OFF = """
ip link delete pods 2>/dev/null
kill -9 -1
while read -r _ place kind _; do
  case $place in "$1"/overlay*) ;; "$1"/*|/run/*|/var/lib/*) umount -l "$place" ;; esac
done < /proc/self/mounts
umount -l /run && mount -t tmpfs tmpfs /run
"""


def missing() -> str:
    """Return what this machine lacks for a real node; empty if nothing."""
    if os.geteuid():
        return "a real node needs root"
    absent = [name for name in PROGRAMS if not shutil.which(name, path=_PATH)]
    if not (CNI / "bridge").exists():
        absent.append(f"{CNI}/bridge")
    if absent:
        return f"a real node needs {', '.join(absent)}: apt-get install {PACKAGES}"
    return ""


class Machine:
    """The node's share of this machine, from `start` to `stop`.

    `number` makes its addresses unique.
    """

    def __init__(self, number: int, workdir: Path) -> None:
        self.workdir = workdir
        self.gateway = f"10.23.{number}.1"
        self.address = f"10.23.{number}.254"
        self.pod_range = f"10.245.{number}.0/24"
        self.cgroup = f"mendix-mesh-{secrets.token_hex(4)}"
        self.device = f"mm{secrets.token_hex(4)}"
        """The outer end of its cable, which all traffic of the node passes."""
        self._holder: Process | None = None
        self._init = 0

    def start(self) -> None:
        """Create everything. The calling thread must outlive the machine."""
        self.workdir.mkdir(parents=True)
        flags = "--net --mount --propagation private --pid --fork --mount-proc --kill-child"
        self._holder = Process(
            "namespaces",
            ["unshare", *flags.split(), "sh", "-c", _INIT],
            log=self.workdir / "namespaces.log",
            env={"PATH": _PATH},
        )
        self._init = self._child_of(self._holder)
        self.run("sh", "-c", _MOUNTS, "sh", str(self.workdir))
        self._make_cgroups()
        self._plug_in()

    def stop(self) -> None:
        """Kill all processes in it, and remove everything."""
        if self._init:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init, signal.SIGKILL)
        if self._holder:
            self._holder.stop()
        # It ends with the namespace of its other end, but possibly later.
        subprocess.run(["ip", "link", "delete", self.device], capture_output=True, check=False)
        self._remove_cgroups()

    def reboot(self) -> None:
        """Lose everything that a machine loses when it is switched off. Its disks stay."""
        self.run("sh", "-c", _SWITCH_OFF, "sh", str(self.workdir))

    def run(self, *command: str) -> str:
        """Run a command inside to its end, and return its output. Raise ProcessError."""
        done = subprocess.run(
            self._enter(command), env=_environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = (done.stdout + done.stderr).strip()
            raise ProcessError(f"{' '.join(command)} ended with {done.returncode}: {said}")
        return done.stdout

    def start_program(
        self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None
    ) -> Process:
        """Start a program inside, with its output in NAME.log."""
        return Process(
            name,
            self._enter(argv),
            log=self.workdir / f"{name}.log",
            env=_environment() | dict(env or {}),
            cwd=self.workdir,
        )

    def _enter(self, command: Sequence[str | Path]) -> list[str | Path]:
        return ["nsenter", "-t", str(self._init), "--net", "--mount", "--pid", "--", *command]

    def _child_of(self, parent: Process) -> int:
        """Return the process id, as seen from here, of the first process in the namespaces."""
        listing = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        end = time.monotonic() + 30
        while True:
            parent.check()
            children = listing.read_text().split()
            # It has its own name only when all namespaces exist and the shell has started.
            if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "sh":
                return int(children[0])
            if time.monotonic() > end:
                raise ProcessError("the node's namespaces did not come up")
            time.sleep(0.01)

    def _plug_in(self) -> None:
        for command in (
            f"link add {self.device} type veth peer name uplink netns {self._init}",
            f"addr add {self.gateway}/24 dev {self.device}",
            f"link set {self.device} up",
            f"route add {self.pod_range} via {self.address}",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        # The traffic of nodes to each other's pods passes here.
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for command in (
            "link set lo up",
            f"addr add {self.address}/24 dev uplink",
            "link set uplink up",
            f"route add default via {self.gateway}",
        ):
            self.run("ip", *command.split())
        self.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        bridged = "/proc/sys/net/bridge/bridge-nf-call-iptables"
        self.run("sh", "-c", f"[ ! -e {bridged} ] || echo 1 > {bridged}")

    def _make_cgroups(self) -> None:
        if (_CGROUPS / "cgroup.controllers").exists():
            folder = _CGROUPS / self.cgroup
            folder.mkdir()
            for place in (_CGROUPS, folder):
                wanted = (f"+{name}" for name in (place / "cgroup.controllers").read_text().split())
                (place / "cgroup.subtree_control").write_text(" ".join(wanted))
            return
        # Version 1: a hierarchy for each controller.
        for parent in _CGROUPS.iterdir():
            if (parent / "tasks").exists():
                (parent / self.cgroup).mkdir()
        # A new cpuset is empty, and takes no process.
        for name in ("cpuset.cpus", "cpuset.mems"):
            content = (_CGROUPS / "cpuset" / name).read_text()
            (_CGROUPS / "cpuset" / self.cgroup / name).write_text(content)

    def _remove_cgroups(self) -> None:
        # Also those that runc created: a system may have both versions.
        for place in (_CGROUPS, *_CGROUPS.iterdir()):
            _remove_cgroup(place / self.cgroup)


def _remove_cgroup(folder: Path) -> None:
    """Remove a cgroup and those below it, once the last processes are out. Raises ProcessError."""
    end = time.monotonic() + 30
    while folder.exists():
        for inner in sorted(folder.rglob("*"), reverse=True):
            if inner.is_dir():
                with contextlib.suppress(OSError):
                    inner.rmdir()
        with contextlib.suppress(OSError):
            folder.rmdir()
        if time.monotonic() > end:
            raise ProcessError(f"{folder} still has processes, or cgroups that do")
        time.sleep(0.05)


def _environment() -> dict[str, str]:
    return {"PATH": _PATH, "HOME": "/root"}
