"""`mendix-mesh serve`: invalid options, the mode --dev, and its end."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.unit.admission.reviews import meshed, pod, review
from tests.unit.serving.clients import ServerClient, request
from tests.unit.serving.server import Files, Server
from webhook.cli import main
from webhook.serving import trial


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A good certificate for localhost."""
    return Files(tmp_path_factory.mktemp("tls"))


def serve(*arguments: str | Path) -> Result:
    """Run the command with options that it must reject: otherwise it would run for ever."""
    return CliRunner().invoke(main, ["serve", *map(str, arguments)])


def assert_rejected(result: Result, message: str) -> None:
    """Assert that the error is one line, and the exit code is 2."""
    assert isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == 2
    assert result.stderr == f"Error: {message}\n"
    assert result.stdout == ""


class TestInvalidOptions:
    """One line, exit code 2, no traceback."""

    @pytest.mark.parametrize(
        "address",
        ["localhost", "10250", ":", "localhost:", "127.0.0.1:https", "127.0.0.1:-1",
         "127.0.0.1:65536", "127.0.0.1:99999999999999999999", "https://127.0.0.1:1/"],
    )  # fmt: skip
    def test_an_invalid_address(self, files: Files, address: str) -> None:
        result = serve("--listen", address, *files.arguments)
        assert_rejected(
            result, f"{address} is not HOST:PORT, as :10250, 0.0.0.0:10250 or [::]:10250 are"
        )

    def test_an_address_of_another_machine(self, files: Files) -> None:
        result = serve("--listen", "192.0.2.1:10250", *files.arguments)
        assert_rejected(result, "can't listen on 192.0.2.1:10250: Cannot assign requested address")

    def test_a_port_that_is_taken(self, files: Files) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            result = serve("--listen", address, *files.arguments)
            assert_rejected(result, f"can't listen on {address}: Address already in use")

    @pytest.mark.parametrize("host", ["no such host", "a..b", "x" * 70])
    def test_an_invalid_host(self, files: Files, host: str) -> None:
        result = serve("--listen", f"{host}:0", *files.arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"Error: can't listen on {host}:0: ")
        assert result.stderr.count("\n") == 1

    def test_a_certificate_that_cannot_be_served(self, files: Files, tmp_path: Path) -> None:
        """tests/unit/serving/test_tls.py has the text for each reason."""
        result = serve(
            *("--listen", "127.0.0.1:0", "--tls-cert-file", files.cert),
            *("--tls-private-key-file", tmp_path / "none"),
        )
        assert_rejected(result, f"can't read {tmp_path / 'none'}: No such file or directory")

    @pytest.mark.parametrize("name", ["", "a b", "x" * 300, "https://a.example.com"])
    def test_a_name_that_is_no_host_s(self, name: str) -> None:
        result = serve("--dev", "--listen", "127.0.0.1:0", "--dev-name", name)
        assert_rejected(
            result, f"{name!r} can't be in a certificate: it is no host name and no address"
        )

    def test_no_folder_for_the_throw_away_certificate(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
        assert_rejected(
            serve("--dev", "--listen", "127.0.0.1:0"),
            "--dev has no folder for its certificate: No such file or directory; "
            "name one in TMPDIR",
        )

    @pytest.mark.parametrize("given", ["", "cert", "key", "dev cert", "dev key", "dev cert key"])
    def test_half_a_pair_or_one_too_many(self, files: Files, given: str) -> None:
        known = {
            "dev": ("--dev",),
            "cert": files.arguments[:2],
            "key": files.arguments[2:],
        }
        result = serve(*(argument for word in given.split() for argument in known[word]))
        assert result.exit_code == 2
        assert result.stderr.endswith(
            "Error: give --tls-cert-file and --tls-private-key-file, or --dev alone\n"
        )

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--log-level", "loud"),
            ("--port", "1"),
            ("extra",),
            ("--settings", "/"),
            ("--drain-seconds", "nan"),
            ("--drain-seconds", "inf"),
            ("--drain-seconds", "-1"),
        ],
    )
    def test_what_the_command_line_does_not_know(self, arguments: tuple[str, ...]) -> None:
        result = serve("--dev", *arguments)
        assert result.exit_code == 2
        assert "Try 'main serve --help' for help." in result.stderr

    def test_a_real_process_says_it_without_a_traceback(self, tmp_path: Path) -> None:
        (tmp_path / "settings.yaml").write_text("optOut: [")
        command = (sys.executable, "-m", "webhook", "serve", "--dev", "--settings")
        done = subprocess.run(
            [*command, tmp_path / "settings.yaml"],
            check=False,
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr == (
            f"Error: {tmp_path / 'settings.yaml'}:2:1: not YAML: "
            "did not find expected node content\n"
        )


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_shows_an_example_and_every_option(option: str) -> None:
    result = serve(option)
    assert result.exit_code == 0
    assert "Example: mendix-mesh serve --dev " in " ".join(result.stdout.split())
    for name in ("listen", "tls-cert-file", "tls-private-key-file", "settings", "log-level", "dev"):
        assert f"--{name}" in result.stdout


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that made its own certificate, with one more name."""
    log = tmp_path_factory.mktemp("dev") / "server.log"
    server = Server(log, "--dev", "--dev-name", "mendix-mesh.mendix-mesh.svc")
    yield server
    server.stop()


class TestDev:
    """--dev creates a certificate, says how to trust it, and leaves no files."""

    def bundle(self, dev: Server) -> str:
        return base64.b64decode(dev.wait_for(r"caBundle: (\S+)\n"), validate=True).decode()

    def test_its_bundle_verifies_the_server(self, dev: Server) -> None:
        client = ServerClient(dev.port, self.bundle(dev))
        assert client.review("/validate/linkerd/enforce", review(meshed()))["allowed"]
        assert not client.review("/validate/linkerd/enforce", review(pod()))["allowed"]

    @pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "mendix-mesh.mendix-mesh.svc"])
    def test_it_verifies_by_each_name(self, dev: Server, name: str) -> None:
        context = ServerClient(dev.port, self.bundle(dev)).context
        with (
            socket.create_connection(("127.0.0.1", dev.port), 5) as plain,
            context.wrap_socket(plain, server_hostname=name) as connection,
        ):
            assert connection.version() == "TLSv1.3"

    def test_its_hint_works_as_it_stands(self, dev: Server) -> None:
        file, host, port = re.findall(
            r"^curl --cacert (\S+) https://(\S+):(\d+)/version$", dev.text, re.MULTILINE
        )[0]
        assert (host, int(port)) == ("127.0.0.1", dev.port)
        assert Path(file).read_text() == self.bundle(dev)

    def test_a_worker_that_died_is_replaced(self, dev: Server) -> None:
        os.kill(dev.workers[-1], signal.SIGKILL)
        end = time.monotonic() + 10
        while len(dev.workers) < 2 and time.monotonic() < end:
            time.sleep(0.02)
        client = ServerClient(dev.port, self.bundle(dev))
        assert client.get("/readyz").status == 200

    def test_it_leaves_nothing_behind(self, tmp_path: Path) -> None:
        server = Server(tmp_path / "server.log", "--dev")
        folder = Path(server.wait_for(r"--cacert (\S+)/ca\.crt "))
        assert folder.stat().st_mode & 0o077 == 0, "the key is only readable by its owner"
        assert server.stop() == 0
        assert not folder.exists()

    @pytest.mark.parametrize(
        ("address", "shown"),
        [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "localhost"), ("[::1]:0", "[::1]"),
         ("[::]:0", "localhost"), (":0", "localhost"), ("127.9.9.9:0", "127.9.9.9")],
    )  # fmt: skip
    def test_the_hint_names_an_address_that_answers(
        self, monkeypatch: pytest.MonkeyPatch, address: str, shown: str
    ) -> None:
        monkeypatch.setattr("webhook.cli.serve.serve", lambda *_: None)
        result = serve("--dev", "--listen", address)
        assert result.exit_code == 0, result.stderr
        port = re.findall(r"https://(\S+):(\d+)/version\n", result.stderr)
        assert port[0][0] == shown
        assert port[0][1] != "0"

    def test_an_address_of_this_machine_is_in_the_certificate(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[list[str]] = []

        def throw_away(names: list[str]) -> trial.Pair:
            made.append(names)
            return trial.Pair(b"", b"", b"")

        class Listener:
            def getsockname(self) -> tuple[str, int]:
                return "10.1.2.3", 8443

            def __enter__(self) -> "Listener":
                return self

            def __exit__(self, *_: object) -> None:
                pass

        monkeypatch.setattr("webhook.cli.serve.serve", lambda *_: None)
        monkeypatch.setattr("webhook.cli.serve.listen", lambda _: Listener())
        monkeypatch.setattr(trial, "throw_away", throw_away)
        result = serve("--dev", "--dev-name", "a.example.com")
        assert " https://10.1.2.3:8443/version\n" in result.stderr
        assert made == [["localhost", "127.0.0.1", "::1", "10.1.2.3", "a.example.com"]]


def test_what_has_lapsed_is_logged_at_the_start(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("allow: [{namespaces: [a], reason: moved, until: 2020-02-29}]")
    server = Server(tmp_path / "server.log", *Files(tmp_path).arguments, "--settings", settings)
    assert server.stop() == 0
    (warning,) = [entry for entry in server.logged() if entry["level"] == "warning"]
    assert warning["event"] == "lapsed"
    assert str(warning["what"]).startswith("settings.allow[0] expired on 2020-02-29 ")


class TestEnd:
    """SIGTERM ends it soon with code 0, whatever its clients do."""

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[Server]:
        server = Server(tmp_path / "server.log", *Files(tmp_path).arguments)
        yield server
        server.stop()

    def client(self, server: Server) -> ServerClient:
        ca = server.process.log.parent / "ca.crt"
        return ServerClient(server.port, ca.read_text())

    @pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
    def test_it_ends_at_once_and_with_code_0(self, server: Server, sent: signal.Signals) -> None:
        os.kill(server.process.pid, sent)
        end = time.monotonic() + 8
        while server.process.returncode is None and time.monotonic() < end:
            time.sleep(0.02)
        assert server.process.returncode == 0
        self.assert_calm(server)

    def test_idle_connections_do_not_hold_it_up(self, server: Server) -> None:
        client = self.client(server)
        with client.connect() as silent, client.connect() as used:
            used.send(request("/livez", method="GET", headers={})).reply()
            start = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - start < 8
            assert used.ended()
            assert silent.ended()
        self.assert_calm(server)

    def test_a_request_under_way_is_answered_before_the_end(self, server: Server) -> None:
        whole = request("/mutate/linkerd", json.dumps(review(pod())).encode())
        with self.client(server).connect() as connection:
            connection.send(whole[:-10])
            time.sleep(0.2)
            server.process.terminate()
            server.wait_for("Shutting down")
            reply = connection.send(whole[-10:]).reply()
            assert reply.status == 200
            assert reply.headers["connection"] == "close"
            assert connection.ended()
        assert server.stop() == 0
        self.assert_calm(server)

    def test_a_client_that_stalls_holds_it_up_no_longer_than_the_grace_period(
        self, server: Server
    ) -> None:
        with self.client(server).connect() as connection:
            connection.send(request("/mutate/linkerd", b"{}" * 500)[:-10])
            time.sleep(0.2)
            start = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - start < 15

    def assert_calm(self, server: Server) -> None:
        """Assert that nothing above level info was logged."""
        assert {entry["level"] for entry in server.logged()} == {"info"}
        assert "Error" not in server.text
