"""A network namespace for the tests, in which each pod IP of the test cluster is local.

The API server calls a webhook at the addresses of its Service's endpoints, and rejects loopback
addresses there. In this namespace, the whole pod range is routed to the machine itself. So a
process of the test can listen on a simulated pod's IP, and the chart's own Service leads to it.

From inside, nothing outside can be reached, not even the outer loopback device. So programs must be
built, and files must be downloaded, before.
"""

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path

POD_RANGE = "10.244.0.0/16"
HOST_IP = "10.250.0.1"
"""The address that API server and nodes advertise. An EndpointSlice may contain it."""

POD_RANGE_6 = "fd00:10:244::/64"
HOST_IP_6 = "fd00:10:250::1"
"""The same in IPv6."""

_SOME_POD_IP = "10.244.255.254"
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000


class NetworkError(Exception):
    """Raised if the namespace can't be created. The message says why and how to fix it."""


def enter() -> None:
    """Move the calling thread, and all threads and children it starts later, into a namespace.

    It does nothing if the process, or a parent of it, is already inside. As root, you can call it
    at any time. Otherwise it also enters a user namespace, in which the process is root. Linux
    allows this only while the process has a single thread. Raise NetworkError.
    """
    if inside():
        return
    if not shutil.which("ip"):
        message = (
            "The test cluster needs the command `ip`: install iproute2 (apt-get install iproute2)."
        )
        raise NetworkError(message)
    if os.geteuid() == 0:
        _unshare(_CLONE_NEWNET)
    else:
        _unshare_as_user()
    for command in (
        "link set lo up",
        f"addr add {HOST_IP}/32 dev lo",
        f"route add local {POD_RANGE} dev lo",
    ):
        _ip(command)
    if has_ipv6():
        _ip(f"-6 addr add {HOST_IP_6}/128 dev lo")
        _ip(f"-6 route add local {POD_RANGE_6} dev lo")
        # In IPv6, that route alone does not allow to listen at these addresses.
        Path("/proc/sys/net/ipv6/ip_nonlocal_bind").write_text("1")


def has_ipv6() -> bool:
    """Return whether the kernel has IPv6."""
    return Path("/proc/net/if_inet6").exists()


def inside() -> bool:
    """Return whether pod IPs are local here, which is the purpose of the namespace."""
    for address in (HOST_IP, _SOME_POD_IP):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((address, 0))
            except OSError:
                return False
    return True


def free_ports(count: int) -> list[int]:
    """Return distinct TCP ports of 127.0.0.1 that are free now."""
    with contextlib.ExitStack() as probes:
        ports = []
        for _ in range(count):
            # All stay bound until the end. Otherwise the same port could be returned twice.
            probe = probes.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
        return ports


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        reason = os.strerror(ctypes.get_errno())
        message = (
            f"The test cluster needs a network namespace of its own, and unshare said: {reason}. "
            "Run it as root, or allow unprivileged user namespaces "
            "(sysctl kernel.unprivileged_userns_clone=1, and on Ubuntu "
            "kernel.apparmor_restrict_unprivileged_userns=0; in a container: --privileged)."
        )
        raise NetworkError(message)


def _unshare_as_user() -> None:
    threads = [thread.name for thread in threading.enumerate()]
    if len(threads) > 1:
        message = (
            "The test cluster needs a network namespace of its own. Without root that is possible "
            f"only before the first thread is started, and these run: {', '.join(threads)}. Start "
            "the cluster first, or run as root."
        )
        raise NetworkError(message)
    user, group = os.geteuid(), os.getegid()
    _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    # Run as root inside, because `ip` would lose its capabilities on exec as any other user.
    for file, content in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {user} 1"),
        ("gid_map", f"0 {group} 1"),
    ):
        with open(f"/proc/self/{file}", "w") as handle:
            handle.write(content)


def _ip(arguments: str) -> None:
    done = subprocess.run(["ip", *arguments.split()], capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"`ip {arguments}` failed in the new network namespace: {done.stderr.strip()}"
        raise NetworkError(message)
