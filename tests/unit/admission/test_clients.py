"""Client certificates that may send reviews."""

import datetime
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.certificates import Authority
from tests.unit.admission.reviews import meshed, review
from tests.unit.serving.clients import Connection, ServerClient, request
from tests.unit.serving.server import running
from webhook.admission.clients import Clients

API_SERVER = {
    "subject": ((("organizationName", "system:masters"),), (("commonName", "kube-apiserver"),)),
    "subjectAltName": (("DNS", "webhooks.example"), ("IP Address", "10.0.0.1")),
}


@pytest.mark.parametrize("name", ["kube-apiserver", "webhooks.example"])
def test_a_certificate_of_an_allowed_name_will_do(name: str) -> None:
    assert Clients(frozenset({name, "other"})).knows(API_SERVER)


@pytest.mark.parametrize("name", ["system:masters", "10.0.0.1", "kube", "", "KUBE-APISERVER"])
def test_one_of_another_name_will_not(name: str) -> None:
    assert not Clients(frozenset({name})).knows(API_SERVER)


def test_without_names_any_certificate_will_do() -> None:
    assert Clients(frozenset()).knows(API_SERVER)


@pytest.mark.parametrize("certificate", [None, {}])
def test_none_at_all_will_not(certificate: dict[str, object] | None) -> None:
    assert not Clients(frozenset()).knows(certificate)


class TestServer:
    """A server that accepts reviews only from clients with a certificate of a CA."""

    PATHS = ("/validate/linkerd/enforce", "/mutate/linkerd", "//mutate/linkerd")

    @pytest.fixture
    def authority(self) -> Authority:
        return Authority("clients")

    @pytest.fixture
    def server(self, authority: Authority, tmp_path: Path) -> Iterator[ServerClient]:
        ca = tmp_path / "clients.crt"
        ca.write_bytes(authority.pem)
        arguments = ("--client-ca-file", ca, "--client-name", "kube-apiserver")
        with running(tmp_path, *arguments) as (_, client):
            yield client

    def caller(self, server: ServerClient, authority: Authority, name: str) -> ServerClient:
        """Return a client that shows a certificate of this name."""
        made = ServerClient(server.port, server.ca)
        with tempfile.TemporaryDirectory() as folder:
            made.context.load_cert_chain(*authority.issue(name).write(Path(folder), "client"))
        return made

    def test_the_name_that_is_allowed_gets_answers(
        self, server: ServerClient, authority: Authority
    ) -> None:
        caller = self.caller(server, authority, "kube-apiserver")
        assert caller.review(self.PATHS[0], review(meshed()))["allowed"]
        assert caller.send(self.PATHS[0], b"{}", headers={}).status == 415

    def test_another_name_and_none_get_no_review(
        self, server: ServerClient, authority: Authority
    ) -> None:
        for client in (server, self.caller(server, authority, "stranger")):
            assert client.get("/readyz").status == 200
            assert [client.send(path, b"{}").status for path in self.PATHS] == [403, 403, 403]
            chunked = {"Content-Type": "application/json", "Expect": "100-continue"}
            assert client.send(self.PATHS[0], b"{}", headers=chunked).status == 403

    def test_a_certificate_of_another_ca_is_rejected(self, server: ServerClient) -> None:
        caller = self.caller(server, Authority("others"), "kube-apiserver")
        with pytest.raises((OSError, AssertionError), match=r"(?i)alert|reset|ended|broken"):
            caller.get("/readyz")

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_no_session_outlives_its_certificate(
        self, server: ServerClient, authority: Authority, version: ssl.TLSVersion
    ) -> None:
        """TLS verifies a certificate only in a full handshake: a resumed session has none."""
        caller = self.caller(server, authority, "kube-apiserver")
        caller.context.minimum_version = caller.context.maximum_version = version
        session, statuses = None, []
        for _ in range(2):
            with (
                socket.create_connection(("127.0.0.1", server.port), 5) as plain,
                caller.context.wrap_socket(
                    plain, server_hostname="localhost", session=session
                ) as tls,
            ):
                connection = Connection(tls).send(request(self.PATHS[0], b"{}"))
                statuses.append((connection.reply().status, tls.session_reused))
                session = tls.session
        assert statuses in ([(200, False), (200, False)], [(200, False), (403, True)])

    def test_a_connection_does_not_outlive_its_certificate(
        self, server: ServerClient, authority: Authority
    ) -> None:
        made = ServerClient(server.port, server.ca)
        short = authority.issue("kube-apiserver", lifetime=datetime.timedelta(seconds=5))
        with tempfile.TemporaryDirectory() as folder:
            made.context.load_cert_chain(*short.write(Path(folder), "client"))
        with made.connect() as connection:
            ask = request(self.PATHS[0], b"{}")
            assert connection.send(ask).reply().status == 200
            time.sleep(5.2)
            assert connection.send(ask).reply().status == 403
