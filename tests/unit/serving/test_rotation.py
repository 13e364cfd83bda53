"""A changed certificate is served without a restart, and a bad one never."""

import contextlib
import datetime
import os
import resource
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tests.cluster.certificates import Authority
from tests.unit.serving.server import PATIENCE, running
from webhook.admission.metrics import Metrics
from webhook.serving import tls, trial
from webhook.serving.health import Health
from webhook.serving.rotation import Rotation

PAIRS = [trial.throw_away(["localhost", "127.0.0.1"], days=days) for days in (10, 20)]


def served(context: ssl.SSLContext, *, name: str | None = "localhost") -> bytes:
    """Return the server's certificate as a client sees it, with or without SNI."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    anyone = ssl.create_default_context()
    anyone.check_hostname = False
    anyone.verify_mode = ssl.CERT_NONE
    client = anyone.wrap_bio(to_client, to_server, server_hostname=name)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server) * 3:
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    found = client.getpeercert(binary_form=True)
    assert found
    return found


def der(pair: trial.Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.cert.decode())


class Case:
    """A rotation of files in a folder, which has the first pair."""

    def __init__(self, folder: Path) -> None:
        self.files, self._times = tls.Files(folder / "tls.crt", folder / "tls.key"), count(1)
        self.write(PAIRS[0])
        self.metrics, self.health = Metrics("test"), Health()
        self.rotation = Rotation(self.files, tls.load(self.files), self.metrics, self.health)

    def write(self, pair: trial.Pair) -> None:
        for file, content in ((self.files.cert, pair.cert), (self.files.key, pair.key)):
            file.write_bytes(content)
            # Two writes within a tick of the kernel's clock would have the same time.
            os.utime(file, (0, next(self._times)))

    @property
    def served(self) -> trial.Pair:
        """The pair that a new connection gets."""
        found = served(self.rotation.context)
        return next(pair for pair in PAIRS if der(pair) == found)

    def count(self, result: str) -> float:
        return sample(self.metrics.registry, "mendix_mesh_certificate_reloads_total", result=result)


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float:
    value = registry.get_sample_value(name, labels)
    assert value is not None
    return value


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_new_files_are_served(case: Case) -> None:
    assert case.served == PAIRS[0]
    case.write(PAIRS[1])
    case.rotation.look()
    assert case.served == PAIRS[1]
    assert (case.count("loaded"), case.count("refused")) == (1, 0)


def test_clients_that_send_no_name_get_it_too(case: Case) -> None:
    case.write(PAIRS[1])
    case.rotation.look()
    assert served(case.rotation.context, name=None) == der(PAIRS[1])


def test_files_that_did_not_change_are_left_alone(case: Case) -> None:
    for _ in range(3):
        case.rotation.look()
    assert (case.count("loaded"), case.count("refused")) == (0, 0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda files: files.cert.write_bytes(PAIRS[1].cert),
        lambda files: files.key.write_bytes(PAIRS[1].key),
        lambda files: files.cert.write_bytes(PAIRS[1].cert[:200]),
        lambda files: files.key.write_bytes(b""),
        lambda files: files.key.unlink(),
    ],
    ids=["mismatched-certificate", "mismatched-key", "half-written", "empty", "gone"],
)
def test_a_pair_that_cannot_be_served_is_kept_out(
    case: Case, spoil: Callable[[tls.Files], object]
) -> None:
    spoil(case.files)
    case.rotation.look()
    assert case.served == PAIRS[0]
    case.rotation.look()
    assert (case.count("loaded"), case.count("refused")) == (0, 1), "reported more than once"
    case.write(PAIRS[1])
    case.rotation.look()
    assert case.served == PAIRS[1]


def test_kubernetes_swaps_a_symbolic_link(tmp_path: Path) -> None:
    for folder, pair in zip(("..one", "..two"), PAIRS, strict=True):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tls.crt").write_bytes(pair.cert)
        (tmp_path / folder / "tls.key").write_bytes(pair.key)
    (tmp_path / "..data").symlink_to("..one")
    files = tls.Files(tmp_path / "tls.crt", tmp_path / "tls.key")
    for file in (files.cert, files.key):
        file.symlink_to(f"..data/{file.name}")
    rotation = Rotation(files, tls.load(files), Metrics("test"), Health())
    (tmp_path / "..data_tmp").symlink_to("..two")
    os.rename(tmp_path / "..data_tmp", tmp_path / "..data")
    rotation.look()
    assert served(rotation.context) == der(PAIRS[1])


def test_the_metric_and_readiness_follow(case: Case) -> None:
    def expiry() -> float:
        return sample(case.metrics.registry, "mendix_mesh_certificate_expiry_timestamp_seconds")

    first = expiry()
    case.write(PAIRS[1])
    case.rotation.look()
    assert expiry() - first == pytest.approx(10 * 86400, abs=60)
    assert case.health.trouble() is None


def test_a_worker_that_starts_while_the_files_are_bad_has_the_last_pair(case: Case) -> None:
    last = tls.load(case.files)
    case.files.key.write_bytes(PAIRS[1].key)
    rotation = Rotation(case.files, last, Metrics("test"), Health())
    assert served(rotation.context) == der(PAIRS[0])
    case.write(PAIRS[1])
    rotation.look()
    assert served(rotation.context) == der(PAIRS[1])


def test_a_server_serves_the_new_certificate_and_keeps_its_connections(tmp_path: Path) -> None:
    def met(port: int) -> bytes:
        anyone = ssl._create_unverified_context()
        with (
            socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
            anyone.wrap_socket(plain) as connection,
        ):
            found = connection.getpeercert(binary_form=True)
        assert found
        return found

    with running(tmp_path) as (server, client), client.connect() as kept:
        (tmp_path / "tls.crt").write_bytes(PAIRS[1].cert)
        server.wait_for("kept the last certificate")
        assert met(server.port) != der(PAIRS[1])
        (tmp_path / "tls.key").write_bytes(PAIRS[1].key)
        server.wait_for("new certificate")
        assert met(server.port) == der(PAIRS[1])
        kept.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.reply().status == 200
        assert len(server.workers) == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_also_over_a_rotation(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """A ticket spares both sides most of a handshake."""

    def ask(
        context: ssl.SSLContext, port: int, session: ssl.SSLSession | None = None
    ) -> tuple[ssl.SSLSession | None, bool | None]:
        """Send a request. Return the session, and whether it is the given one."""
        with (
            socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
            context.wrap_socket(plain, session=session) as connection,
        ):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while connection.recv(1 << 16):
                pass
            return connection.session, connection.session_reused

    with running(tmp_path) as (server, _):
        anyone = ssl._create_unverified_context()
        anyone.minimum_version = anyone.maximum_version = version
        session, reused = ask(anyone, server.port)
        assert not reused
        session, reused = ask(anyone, server.port, session)
        assert reused
        (tmp_path / "tls.key").write_bytes(PAIRS[1].key)
        (tmp_path / "tls.crt").write_bytes(PAIRS[1].cert)
        server.wait_for("new certificate")
        assert ask(anyone, server.port, session)[0], "no answer after the rotation"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("webhook.serving.rotation.time", made)
    monkeypatch.setattr("webhook.serving.health.time", made)
    return made


def odd(case: Case) -> None:
    """Write a certificate that is like no other: its key's algorithm has no name."""
    body = ssl.PEM_cert_to_DER_cert(PAIRS[1].cert.decode())
    broken = body.replace(
        bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03017f")
    )
    case.files.cert.write_text(ssl.DER_cert_to_PEM_cert(broken))


def fifo(case: Case) -> None:
    case.files.key.unlink()
    os.mkfifo(case.files.key)


def folder(case: Case) -> None:
    case.files.cert.unlink()
    case.files.cert.mkdir()


def endless(case: Case) -> None:
    case.files.cert.unlink()
    case.files.cert.symlink_to("/dev/zero")


def huge(case: Case) -> None:
    with case.files.cert.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize("spoil", [odd, fifo, folder, endless, huge])
def test_the_watcher_survives_whatever_it_finds(
    case: Case, clock: Clock, spoil: Callable[[Case], None]
) -> None:
    spoil(case)
    case.rotation.look()
    assert case.count("refused") == 1
    assert case.served == PAIRS[0]
    for file in (case.files.cert, case.files.key):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    case.write(PAIRS[1])
    case.rotation.look()
    assert case.served == PAIRS[1]


def test_an_empty_client_ca_is_rejected_like_others(tmp_path: Path) -> None:
    ca = tmp_path / "clients.crt"
    ca.write_bytes(PAIRS[0].ca)
    case = Case(tmp_path)
    files = case.files._replace(client_ca=ca)
    rotation = Rotation(files, tls.load(files), Metrics("test"), Health())
    ca.write_bytes(b"")
    rotation.look()
    assert served(rotation.context) == der(PAIRS[0])
    with pytest.raises(tls.CertificateError, match="has no certificates in PEM form"):
        tls.load(files)


def test_what_is_in_the_way_is_tried_again_and_later_each_time(
    case: Case, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []
    load = tls.load

    def fail(files: tls.Files) -> tls.Certificate:
        tries.append(clock.now)
        if clock.now < 1600:
            raise RuntimeError("unexpected")
        return load(files)

    monkeypatch.setattr(tls, "load", fail)
    case.write(PAIRS[1])
    while clock.now < 2000:
        case.rotation.look()
        if clock.now == 1500:
            assert case.health.deadlock() is None
        clock.now += 0.5
    gaps = [after - before for before, after in pairwise(tries)]
    assert gaps == [1, 2, 4, 8, 16, 32, *[60] * 9]
    assert (case.count("loaded"), case.count("refused")) == (1, 1), "reported once"
    assert case.served == PAIRS[1]


@pytest.mark.parametrize(("ours", "trouble"), [(True, True), (False, False)])
def test_a_good_pair_that_is_not_served_for_ten_minutes_is_a_reason_to_restart(
    case: Case, clock: Clock, monkeypatch: pytest.MonkeyPatch, ours: bool, trouble: bool
) -> None:
    def fail(_: tls.Files) -> tls.Certificate:
        raise tls.CertificateError("no", ours=ours)

    monkeypatch.setattr(tls, "load", fail)
    case.write(PAIRS[1])
    for _ in range(1199):
        case.rotation.look()
        clock.now += 0.5
    assert case.health.deadlock() is None
    clock.now += 1
    assert bool(case.health.deadlock()) == trouble
    assert case.health.trouble() is None, "it still answers"
    monkeypatch.undo()
    case.rotation.look()
    assert case.health.deadlock() is None


def test_a_certificate_of_the_near_future_is_served_once_it_is_valid(
    case: Case, tmp_path: Path
) -> None:
    ahead = datetime.timedelta(seconds=3)
    pair = Authority("soon").issue("x", hosts=("localhost",), age=-ahead)
    case.write(trial.Pair(b"", pair.cert, pair.key))
    case.rotation.look()
    assert case.served == PAIRS[0]
    end = time.monotonic() + 10
    while served(case.rotation.context) == der(PAIRS[0]):
        assert time.monotonic() < end
        time.sleep(0.1)
        case.rotation.look()
    assert served(case.rotation.context) == ssl.PEM_cert_to_DER_cert(pair.cert.decode())


def test_without_descriptors_the_last_pair_is_served(case: Case) -> None:
    case.write(PAIRS[1])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(lowest_free := os.open("/dev/null", os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        case.rotation.look()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert case.served == PAIRS[0]
    end = time.monotonic() + 10
    while case.served == PAIRS[0]:
        assert time.monotonic() < end
        time.sleep(0.1)
        case.rotation.look()


@pytest.mark.parametrize("spoil", [fifo, folder])
def test_reload_and_a_killed_worker_survive_invalid_files(
    tmp_path: Path, spoil: Callable[[Case], None]
) -> None:
    with running(tmp_path) as (server, client):
        case = Case.__new__(Case)
        case.files = tls.Files(tmp_path / "tls.crt", tmp_path / "tls.key")
        spoil(case)
        os.kill(server.process.pid, signal.SIGHUP)
        end = time.monotonic() + PATIENCE
        while len(server.workers) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        os.kill(server.workers[1], signal.SIGKILL)
        while len(server.workers) < 3:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert client.get("/readyz").status == 200
        assert "Traceback" not in server.text
