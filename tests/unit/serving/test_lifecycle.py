"""How a server ends, and how it goes on."""

import base64
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.admission.reviews import meshed, pod, review
from tests.unit.serving.clients import ServerClient, request
from tests.unit.serving.server import PATIENCE, Server, running

ENFORCE = "/validate/linkerd/enforce"
#: If a flag is repeated, the last value counts.
DRAIN = ("--drain-seconds", "5")


def until(holds: Callable[[], bool], why: str) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, why
        time.sleep(0.02)


class TestDraining:
    """After SIGTERM it continues for a while, and closes each connection after its answer."""

    @pytest.fixture
    def both(self, tmp_path: Path) -> Iterator[tuple[Server, ServerClient]]:
        with running(tmp_path, *DRAIN) as both:
            yield both

    def test_new_and_old_connections_are_served_once_more(
        self, both: tuple[Server, ServerClient]
    ) -> None:
        server, client = both
        with client.connect() as used, client.connect() as idle:
            assert used.send(request("/readyz", method="GET", headers={})).reply().status == 200
            server.process.terminate()
            server.wait_for("draining")
            reply = used.send(request("/readyz", method="GET", headers={})).reply()
            assert (reply.status, reply.body) == (503, b"about to end\n")
            assert reply.headers["connection"] == "close"
            assert used.ended()
            for path in (ENFORCE, "/mutate/linkerd"):
                assert client.review(path, review(meshed()))["allowed"]
            with client.connect() as fresh:
                reply = fresh.send(request("/livez", method="GET", headers={})).reply()
                assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert idle.ended()
        until(lambda: server.process.returncode is not None, "it does not end")
        assert server.process.returncode == 0

    def test_a_second_signal_ends_it_at_once(self, both: tuple[Server, ServerClient]) -> None:
        server, _ = both
        server.process.terminate()
        server.wait_for("draining")
        os.kill(server.workers[-1], signal.SIGTERM)
        server.wait_for("Shutting down: Master")
        until(lambda: server.process.returncode is not None, "it does not end")


def opts_in(answer: dict[str, Any]) -> bool:
    """Whether a pod is opted in by the patch of an answer."""
    patch = base64.b64decode(answer.get("patch", ""))
    return b"linkerd.io/inject" in patch or b"linkerd.io~1inject" in patch


class TestReload:
    """SIGHUP loads new settings without a gap, if they are valid."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Path:
        file = tmp_path / "settings.yaml"
        file.write_text("optOut: deny\n")
        return file

    @pytest.fixture
    def both(self, tmp_path: Path, settings: Path) -> Iterator[tuple[Server, ServerClient]]:
        with running(tmp_path, "--settings", settings) as both:
            yield both

    def hang_up(self, server: Server) -> None:
        before = len(server.workers)
        os.kill(server.process.pid, signal.SIGHUP)
        until(lambda: len(server.workers) > before, "no new worker")
        until(lambda: server.text.count("Finished server process") == before, "the old one stays")

    def opted_out(self) -> dict[str, object]:
        obj = pod()
        obj["metadata"]["annotations"] = {"linkerd.io/inject": "disabled"}
        return review(obj)

    def test_new_settings_count(self, both: tuple[Server, ServerClient], settings: Path) -> None:
        server, client = both
        assert not opts_in(client.review("/mutate/linkerd", self.opted_out()))
        settings.write_text("optOut: override\n")
        self.hang_up(server)
        assert opts_in(client.review("/mutate/linkerd", self.opted_out()))

    def test_bad_settings_leave_the_last_ones(
        self, both: tuple[Server, ServerClient], settings: Path
    ) -> None:
        server, client = both
        settings.write_text("optOut: perhaps\n")
        self.hang_up(server)
        assert "kept the last settings" in server.text
        assert not opts_in(client.review("/mutate/linkerd", self.opted_out()))


def test_a_worker_without_its_parent_ends(tmp_path: Path) -> None:
    with running(tmp_path) as (server, _):
        # Readable when the process has ended, also if it was reaped before.
        worker = os.pidfd_open(server.workers[0])
        os.kill(server.process.pid, signal.SIGKILL)
        assert select.select([worker], [], [], PATIENCE)[0], "the worker goes on"
        os.close(worker)
