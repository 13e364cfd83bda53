"""`mendix-mesh dashboard` as a process: it serves, warns, and ends."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from tests.cluster.api import wait_for
from tests.unit.cluster import mendix
from tests.unit.cluster.hospital import Hospital
from tests.unit.cluster.world import meshed, owned
from webhook.cli import main


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """A cluster with a namespace of Mendix's in which all is well."""
    world = Hospital()
    world.config_map("mendix-mesh", "mendix-mesh-settings", settings_yaml="{}")
    mendix.define(world)
    world.namespace("mendix", "linkerd")
    mendix.resource(world, "StoragePlan", "mendix", "postgres")
    world.pod("mendix", "shop-a", owned(meshed(), "Deployment", "shop"))
    with world.serving(tmp_path) as server:
        yield server.kubeconfig


@contextmanager
def running(kubeconfig: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "webhook", "dashboard", "--no-open"]
    with subprocess.Popen(
        [*command, "--kubeconfig", str(kubeconfig), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def address(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    printed = re.match(r"(http://localhost:\d+/)  \(stop with Ctrl-C\)", process.stdout.readline())
    assert printed, process.stderr and process.stderr.read()
    return printed[1]


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_what_it_sees_until_a_signal(kubeconfig: Path, ends: signal.Signals) -> None:
    with running(kubeconfig, "--listen", "127.0.0.1:0") as process:
        url = address(process)
        wait_for(
            lambda: "pod in Mendix namespaces is in the mesh" in httpx.get(url, timeout=60).text,
            why="the first look",
        )
        assert httpx.get(f"{url}static/dashboard.css").status_code == 200
        assert httpx.get(url, headers={"Host": "evil.example"}).status_code == 403
        assert httpx.post(url).status_code == 405
        process.send_signal(ends)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_taken_port_is_an_error_unless_it_is_the_default(
    kubeconfig: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = CliRunner().invoke(
            main, ["dashboard", "--kubeconfig", str(kubeconfig), "--listen", listen]
        )
    assert done.exit_code == 2
    assert done.stderr == f"Error: can't listen on {listen}: Address already in use\n"
    with running(kubeconfig) as first, running(kubeconfig) as second:
        assert address(first) != address(second)


def test_opening_it_to_others_prints_a_warning(kubeconfig: Path) -> None:
    with running(kubeconfig, "--listen", "0.0.0.0:0") as process:
        address(process)
        process.terminate()
        _, err = process.communicate(timeout=20)
    assert "everyone who can reach" in err
    assert "--authenticate" in err
    with running(kubeconfig, "--listen", "0.0.0.0:0", "--authenticate") as process:
        assert httpx.get(address(process), timeout=60).status_code == 401
        process.terminate()
        _, err = process.communicate(timeout=20)
    assert err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-A", "--mendix"), "give only one of -n, -A and --mendix"),
        (("--interval", "1"), "not in the range x>=5"),
        (("-n", "mendx"), "namespace mendx does not exist; did you mean mendix? kubectl get "),
        (("--listen", "nowhere"), "nowhere is not HOST:PORT"),
        (("--kubeconfig", "/nonexistent"), "no cluster: there is no kubeconfig /nonexistent"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(
    kubeconfig: Path, arguments: tuple[str, ...], words: str
) -> None:
    given = ["--kubeconfig", str(kubeconfig), *arguments]
    done = CliRunner().invoke(main, ["dashboard", *given])
    assert done.exit_code == 2
    assert words in done.stderr
