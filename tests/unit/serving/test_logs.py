"""The log lines, and their number."""

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import netns
from tests.unit.admission.reviews import pod, review
from tests.unit.serving.clients import ServerClient, request
from tests.unit.serving.server import PATIENCE, Files
from webhook.serving.logs import Json, Sparing

ENFORCE = "/validate/linkerd/enforce"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("webhook.serving.logs.time", made)
    return made


def record(text: str = "bad", *, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("test", level, __file__, 1, text, None, None)


def test_a_few_warnings_of_a_kind_are_written_each_second(clock: Clock) -> None:
    sparing = Sparing()
    for _ in range(3):
        assert sum(sparing.filter(record()) for _ in range(100)) == 10
        assert sparing.filter(record("another"))
        clock.now += 1


def test_the_next_event_has_the_number_of_suppressed_ones(clock: Clock) -> None:
    sparing = Sparing()
    for _ in range(25):
        sparing.filter(record())
    for held_back in ({"held_back": 15}, {}):
        clock.now += 1
        later = record()
        assert sparing.filter(later)
        assert getattr(later, "values", {}) == held_back


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.ERROR, logging.CRITICAL])
def test_verdicts_and_errors_are_all_written(level: int, clock: Clock) -> None:
    sparing = Sparing()
    assert all(sparing.filter(record(level=level)) for _ in range(100))


def test_kinds_without_end_fill_no_memory(clock: Clock) -> None:
    sparing = Sparing()
    for number in range(2000):
        sparing.filter(record(f"kind {number}"))
    assert len(sparing._seen) <= 256


def test_long_values_are_cut() -> None:
    """A client chooses them, and their text in JSON can be six times as long."""
    long = record("é" * 7_000_000)
    long.values = {"uid": "é" * 7_000_000, "checks": ["é"] * 7_000_000}
    line = Json().format(long)
    assert len(line) < 50_000
    assert json.loads(line)["uid"].endswith("é... (cut, 7000000 characters)")


def denials(client: ServerClient, count: int) -> None:
    """Log this many lines."""
    with client.connect() as connection:
        body = json.dumps(review(pod())).encode()
        for _ in range(count):
            assert connection.send(request(ENFORCE, body)).reply().status == 200


class TestOutput:
    """Standard output that can't be written to blocks nothing."""

    @contextmanager
    def serving(
        self, folder: Path, stdout: int | None, stderr: int
    ) -> Iterator[tuple[subprocess.Popen[bytes], ServerClient]]:
        (port,) = netns.free_ports(1)
        files = Files(folder)
        command = [sys.executable, "-m", "webhook", "serve", "--drain-seconds", "0", "--listen",
                   f"127.0.0.1:{port}", *files.arguments]  # fmt: skip
        if stdout is None:
            command = ["sh", "-c", 'exec "$@" >&-', "sh", *map(str, command)]
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr)
        client = ServerClient(port, files.ca.read_text())
        try:
            end = time.monotonic() + PATIENCE
            while True:
                with contextlib.suppress(OSError):
                    client.get("/livez")
                    break
                assert time.monotonic() < end
                time.sleep(0.05)
            yield process, client
        finally:
            process.kill()
            process.wait()

    def lines_lost(self, client: ServerClient) -> int:
        text = client.get("/metrics").body.decode()
        found = re.search(r"^mendix_mesh_log_lines_lost_total (\S+)$", text, re.M)
        assert found
        return int(float(found[1]))

    @pytest.mark.parametrize("how", ["full", "closed", "broken", "unread"])
    def test_reviews_and_the_end_do_not_wait_for_it(self, tmp_path: Path, how: str) -> None:
        reader, writer = os.pipe()
        full = os.open("/dev/full", os.O_WRONLY)
        errors = tmp_path / "stderr"
        stdout = {"full": full, "closed": None, "broken": writer, "unread": writer}[how]
        with errors.open("wb") as stderr, self.serving(tmp_path, stdout, stderr.fileno()) as both:
            process, client = both
            os.close(writer)
            os.close(full)
            if how == "broken":
                os.close(reader)
            denials(client, 1500)
            lost = self.lines_lost(client)
            assert lost > (0 if how == "unread" else 1000)
            process.terminate()
            assert process.wait(PATIENCE) == 0
        if how != "broken":
            os.close(reader)
        said = errors.read_text().splitlines()
        pattern = r"mendix-mesh: \d+ log lines were lost, because standard output is .*"
        assert said
        assert all(re.fullmatch(pattern, line) for line in said), said[:5]
        assert len(said) < 8
        assert max(int(line.split()[1]) for line in said) >= lost

    def test_a_pipe_that_is_read_again_gets_whole_lines(self, tmp_path: Path) -> None:
        reader, writer = os.pipe()
        with self.serving(tmp_path, writer, subprocess.DEVNULL) as (process, client):
            os.close(writer)
            denials(client, 1500)
            assert self.lines_lost(client)
            with open(reader, "rb") as pipe:
                os.set_blocking(reader, False)
                text = pipe.read()
                denials(client, 10)
                process.terminate()
                assert process.wait(PATIENCE) == 0
                text += pipe.read()
        events = [json.loads(line)["event"] for line in text.splitlines()]
        assert events.count("denied") > 10
        assert "Shutting down" in events
