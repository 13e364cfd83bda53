"""`mendix-mesh audit --watch` as a process: what it serves, and how it ends."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from tests.cluster import auditor
from tests.cluster.auditor import PATIENCE, Auditor
from tests.cluster.certificates import Authority
from tests.unit.cluster import mendix
from tests.unit.cluster.apiserver import HttpRequest, Reply
from tests.unit.cluster.hospital import INJECTORS, MUTATING
from tests.unit.cluster.world import MESH, MODE, World, meshed, unmeshed
from webhook.cli import main
from webhook.serving import trial


class Idle(World):
    """A world in which nothing changes: watches wait for a moment, and end."""

    def answer(self, request: HttpRequest) -> Reply:
        if "watch=1" in request.target:
            time.sleep(0.2)
            return Reply(body=b"")
        return super().answer(request)


@contextmanager
def auditing(world: World, folder: Path, *arguments: str | Path) -> Iterator[Auditor]:
    with (
        world.serving(folder) as server,
        auditor.running(server.kubeconfig, folder / "log", *arguments) as started,
    ):
        yield started


def world() -> Idle:
    made = Idle()
    made.install()
    made.config_map("mendix-mesh", "mendix-mesh-settings", settings_yaml="{}")
    made.namespace("shop", "linkerd")
    made.pod("shop", "in", meshed())
    made.pod("shop", "out", unmeshed())
    return made


def test_it_serves_its_scans_and_ends_on_sigterm(tmp_path: Path) -> None:
    made = world()
    with auditing(made, tmp_path) as running:
        assert httpx.get(f"{running.http}/livez").text == "ok\n"
        running.until("/readyz", 200)
        metrics = running.until("/metrics", 200)
        assert 'mendix_mesh_coverage_ratio{mesh="linkerd",namespace="shop"} 0.5' in metrics
        with httpx.Client() as kept:
            kept.get(f"{running.http}/livez")
            running.process.stop(grace=PATIENCE)
    assert running.process.returncode == 0
    lines = [json.loads(line) for line in running.process.log.read_text().splitlines()]
    assert [one["coverage"] for one in lines if one["event"] == "first scan"] == [50]
    assert not any("events" in where for where in made.objects)


def test_it_creates_events_with_the_option(tmp_path: Path) -> None:
    made = world()
    with auditing(made, tmp_path, "--events") as running:
        running.until("/readyz", 200)
        end = time.monotonic() + PATIENCE
        while not any("/events/" in where for where in made.objects):
            assert time.monotonic() < end
            time.sleep(0.05)


def test_it_enrolls_mendix_namespaces_with_the_option(tmp_path: Path) -> None:
    made = world()
    made.add(f"{MUTATING}/linkerd", {"webhooks": [{"name": INJECTORS["linkerd"],
                                                   "clientConfig": {}}]})  # fmt: skip
    made.namespace("apps")
    mendix.define(made)
    mendix.resource(made, "StoragePlan", "apps", "postgres")
    with auditing(made, tmp_path, "--auto-enroll", "enforce") as running:
        running.until("/readyz", 200)
        end = time.monotonic() + PATIENCE
        while not running.samples("mendix_mesh_auto_enroll_namespaces", state="enrolled")[()]:
            assert time.monotonic() < end
            time.sleep(0.05)
    labels = made.objects["/api/v1/namespaces/apps"]["metadata"]["labels"]
    assert labels == {MESH: "linkerd", MODE: "enforce"}


def test_a_changed_certificate_is_served(tmp_path: Path) -> None:
    first, second = (trial.throw_away(["localhost", "auditor.ns.svc"]) for _ in range(2))
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    cert.write_bytes(first.cert)
    key.write_bytes(first.key)
    files = ("--tls-cert-file", cert, "--tls-private-key-file", key)
    name = ("--tls-server-name", "auditor.ns.svc")
    with auditing(world(), tmp_path, "--tls-listen", "127.0.0.1:0", *files, *name) as running:
        assert _alive(running, first)
        assert not _alive(running, second)
        assert httpx.post(f"{running.http}/labelled").status_code == 404
        cert.write_bytes(second.cert)
        key.write_bytes(second.key)
        end = time.monotonic() + PATIENCE
        while not _alive(running, second):
            assert time.monotonic() < end
            time.sleep(0.1)
        assert 'reloads_total{result="loaded"} 1.0' in running.until("/metrics", 200)


def _alive(running: Auditor, pair: trial.Pair) -> bool:
    """Return whether it answers a client that trusts the CA of a pair."""
    trusting = ssl.create_default_context(cadata=pair.ca.decode())
    try:
        answer = httpx.get(running.https.replace("127.0.0.1", "localhost") + "/livez",
                           verify=trusting)  # fmt: skip
    except httpx.ConnectError:
        return False
    return answer.text == "ok\n"


def test_a_certificate_for_another_name_is_rejected(tmp_path: Path) -> None:
    options = [*secured(tmp_path)[1], "--listen=127.0.0.1:0", "--tls-server-name=a.b.svc"]
    with world().serving(tmp_path) as server:
        given = ["audit", "--watch", f"--kubeconfig={server.kubeconfig}", *map(str, options)]
        found = CliRunner().invoke(main, given)
    assert found.exit_code == 2
    assert "is not for a.b.svc" in found.output


def test_a_port_that_is_taken_is_reported(tmp_path: Path) -> None:
    with world().serving(tmp_path) as server:
        port = server.url.rpartition(":")[2]
        found = CliRunner().invoke(
            main,
            ["audit", "--watch", "--kubeconfig", str(server.kubeconfig),
             "--listen", f"127.0.0.1:{port}"],
        )  # fmt: skip
    assert found.exit_code == 2
    assert f"can't listen on 127.0.0.1:{port}: " in found.output


class Stuck(Idle):
    """A world that answers no review of a token until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may = threading.Semaphore(0), threading.Event()

    def answer(self, request: HttpRequest) -> Reply:
        if request.target.endswith("/tokenreviews"):
            self.asked.release()
            self.may.wait(PATIENCE)
            return Reply(201, {"status": {"authenticated": False}})
        return super().answer(request)


def _took(url: str) -> float:
    """How long a probe takes."""
    began = time.monotonic()
    assert httpx.get(url, timeout=PATIENCE).text == "ok\n"
    return time.monotonic() - began


def secured(folder: Path, *names: str) -> tuple[trial.Pair, list[str | Path]]:
    """A certificate, and the options to serve it."""
    pair = trial.throw_away(["localhost", *names])
    (folder / "tls.crt").write_bytes(pair.cert)
    (folder / "tls.key").write_bytes(pair.key)
    files = (f"--tls-cert-file={folder}/tls.crt", f"--tls-private-key-file={folder}/tls.key")
    return pair, ["--tls-listen", "127.0.0.1:0", *files]


def trusting(pair: trial.Pair) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=pair.ca.decode())


def test_slow_bodies_do_not_delay_a_probe(tmp_path: Path) -> None:
    pair, options = secured(tmp_path)
    head = b"POST /labelled HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    with auditing(world(), tmp_path, *options) as running, ExitStack() as stack:
        running.until("/readyz", 200)
        port = int(running.https.rpartition(":")[2])
        for _ in range(24):
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            slow = stack.enter_context(
                trusting(pair).wrap_socket(plain, server_hostname="localhost")
            )
            slow.sendall(head + b'Content-Length: 1000\r\n\r\n{"request"')
        assert _took(f"{running.http}/livez") < 3
        assert _took(f"{running.http}/readyz") < 3


def test_requests_that_wait_for_the_api_server_do_not_delay_a_probe(tmp_path: Path) -> None:
    made = Stuck()
    made.objects |= world().objects
    options = ("--dashboard", "127.0.0.1:0", "--authenticate")
    with auditing(made, tmp_path, *options) as running, ThreadPoolExecutor(12) as many:
        running.until("/readyz", 200)
        dashboard = running.process.log.read_text().split('"address": "')[2].partition('"')[0]

        def ask(number: int) -> int:
            headers = {"Authorization": f"Bearer guess-{number}"}
            return httpx.get(dashboard, headers=headers, timeout=PATIENCE).status_code

        answers = [many.submit(ask, number) for number in range(12)]
        # The auditor answers so many at the same time.
        assert all(made.asked.acquire(timeout=PATIENCE) for _ in range(8))
        assert _took(f"{running.http}/livez") < 3
        made.may.set()
        codes = sorted(one.result() for one in answers)
        assert codes == [401] * 10 + [429] * 2


def test_metrics_can_be_limited_to_https_with_a_token(tmp_path: Path) -> None:
    pair, options = secured(tmp_path)
    made = Scraped()
    made.objects |= world().objects
    with auditing(made, tmp_path, *options, "--authenticate-metrics") as running:
        running.until("/readyz", 200)
        assert httpx.get(f"{running.http}/metrics").status_code == 403
        url = running.https.replace("127.0.0.1", "localhost") + "/metrics"
        with httpx.Client(verify=trusting(pair)) as client:
            assert client.get(url).status_code == 401
            for token, code in (("made-up", 401), ("guest", 403), ("prometheus", 200)):
                answer = client.get(url, headers={"Authorization": f"Bearer {token}"})
                assert (token, answer.status_code) == (token, code)
                assert ("mendix_mesh_coverage_ratio" in answer.text) == (code == 200)
            assert client.get(url.replace("/metrics", "/livez")).text == "ok\n"


class Scraped(Idle):
    """A world with two users, of whom `prometheus` may read the metrics."""

    def answer(self, request: HttpRequest) -> Reply:
        if request.target.endswith("/tokenreviews"):
            user = json.loads(request.body)["spec"]["token"]
            known = user in ("guest", "prometheus")
            return Reply(201, {"status": {"authenticated": known, "user": {"username": user}}})
        if request.target.endswith("/subjectaccessreviews"):
            spec = json.loads(request.body)["spec"]
            assert spec["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}
            return Reply(201, {"status": {"allowed": spec["user"] == "prometheus"}})
        return super().answer(request)


def test_reviews_can_be_limited_to_clients_with_a_certificate(tmp_path: Path) -> None:
    pair, options = secured(tmp_path)
    authority = Authority("clients")
    ca = tmp_path / "clients.crt"
    ca.write_bytes(authority.pem)
    files = {name: authority.issue(name).write(tmp_path, name) for name in ("api-server", "other")}
    limits = ("--client-ca-file", ca, "--client-name", "api-server")
    labels = {"mendix-mesh.io/mesh": "linkerd"}
    namespaces = [{"metadata": {"name": "shop", "labels": one}} for one in (labels, {})]
    request = {"uid": "u", "kind": {"kind": "Namespace"}, "operation": "UPDATE",
             "object": namespaces[0], "oldObject": namespaces[1]}  # fmt: skip
    envelope = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    body = {**envelope, "request": request}
    with auditing(world(), tmp_path, *options, *limits) as running:
        running.until("/readyz", 200)
        url = running.https.replace("127.0.0.1", "localhost")
        for name, code in (("", 403), ("other", 403), ("api-server", 200)):
            context = trusting(pair)
            if name:
                context.load_cert_chain(*files[name])
            with httpx.Client(verify=context) as client:
                answer = client.post(f"{url}/labelled", json=body)
                assert (name, answer.status_code) == (name, code)
                assert ("out: proxy-missing" in answer.text) == (code == 200)
                assert client.get(f"{url}/livez").status_code == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--watch", "--callers-limited"], "--callers-limited needs --tls-listen"),
        (["--watch", "--authenticate-metrics"], "--authenticate-metrics needs --tls-listen"),
        (["--watch", "--client-ca-file", "ca.crt"], "--client-ca-file needs --tls-listen"),
        (["--watch", "--client-name", "a"], "--client-name needs --client-ca-file"),
        (["--watch", "--authenticate"], "need --dashboard"),
        (["--watch", "--allowed-host", "x"], "need --dashboard"),
        (["--dashboard", "127.0.0.1:0"], "--dashboard needs --watch"),
        (["--allowed-host", "x"], "--allowed-host needs --watch"),
        (["--interval", "60"], "--interval needs --watch"),
        (["--tls-server-name", "a"], "--tls-server-name needs --watch"),
        (["--events"], "--events needs --watch"),
        (
            ["--watch", "--tls-listen", "127.0.0.1:0"],
            "give all of --tls-listen, --tls-cert-",
        ),
        (["--watch", "--tls-cert-file", "a"], "give all of --tls-listen, --tls-cert-"),
        (["--watch", "-o", "json"], "-l and -o can't be used with --watch"),
        (["--watch", "-l", "a=b"], "-l and -o can't be used with --watch"),
        (["--watch", "--interval", "1"], "is not in the range 5"),
        (["--auto-enroll", "warn"], "--auto-enroll needs --watch"),
        (["--watch", "--auto-enroll", "audit"], "'audit' is not one of 'warn', 'enforce'"),
        (
            ["--watch", "--auto-enroll", "warn", "-n", "a"],
            "--auto-enroll covers the whole cluster; remove -n",
        ),
    ],
)
def test_options_that_do_not_go_together_are_rejected(arguments: list[str], words: str) -> None:
    outcome = CliRunner().invoke(main, ["audit", *arguments])
    assert outcome.exit_code == 2
    assert words in outcome.output


def test_it_serves_the_dashboard_with_the_option(tmp_path: Path) -> None:
    options = ("--dashboard", "127.0.0.1:0", "--allowed-host", "mesh.example.com")
    with auditing(world(), tmp_path, *options) as running:
        running.until("/readyz", 200)
        addresses = [one["address"] for one in running.events("listens")]
        (pages,) = [address for address in addresses if address != running.http]
        for host in ("localhost", "mesh.example.com"):
            found = httpx.get(pages, headers={"Host": host})
            assert "1 of 2" in found.text
        assert httpx.get(pages, headers={"Host": "10.1.2.3"}).status_code == 403
        assert httpx.get(f"{pages}/metrics").status_code == 404


def test_without_a_host_every_port_listens_on_both_families(tmp_path: Path) -> None:
    with auditing(world(), tmp_path, "--listen", ":0", "--dashboard", ":0") as running:
        running.until("/readyz", 200)
        ports = [one["address"].rpartition(":")[2] for one in running.events("listens")]
        assert len(ports) == 2
        for port in ports:
            for host in ("127.0.0.1", "[::1]"):
                url = f"http://{host}:{port}/"
                assert httpx.get(url, headers={"Host": "localhost"}).status_code < 500


def test_with_authenticate_it_shows_nothing_without_a_token(tmp_path: Path) -> None:
    with auditing(world(), tmp_path, "--dashboard", "127.0.0.1:0", "--authenticate") as running:
        running.until("/readyz", 200)
        addresses = [one["address"] for one in running.events("listens")]
        (pages,) = [address for address in addresses if address != running.http]
        assert httpx.get(pages).status_code == 401
