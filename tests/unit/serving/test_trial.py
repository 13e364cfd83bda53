"""The certificate of a trial run: a CA, and a pair for the names of the server."""

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from tests.unit.serving.test_tls import DAY, NAMES, PAIR, written
from webhook.serving import tls, trial


def handshake(folder: Path, name: str, ca: bytes) -> None:
    """Connect a client that trusts `ca` to a server with the pair, without a network."""
    files = written(folder, PAIR)
    server_in, client_in = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.create_default_context(cadata=ca.decode())
    client = trusting.wrap_bio(client_in, server_in, server_hostname=name)
    server = tls.load(files).context.wrap_bio(server_in, client_in, server_side=True)
    open_sides = [client, server]
    for _ in range(10):
        for side in tuple(open_sides):
            try:
                side.do_handshake()
                open_sides.remove(side)
            except ssl.SSLWantReadError:
                pass
    assert not open_sides
    assert client.version() == "TLSv1.3"


@pytest.mark.parametrize("name", [*NAMES[:2], "any.example.com", *NAMES[3:]])
def test_it_verifies_for_each_name(tmp_path: Path, name: str) -> None:
    handshake(tmp_path, name, PAIR.ca)


@pytest.mark.parametrize("name", ["mendix-mesh", "a.b.example.com", "10.1.2.4", "::2"])
def test_it_verifies_for_no_other(tmp_path: Path, name: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(tmp_path, name, PAIR.ca)


def test_it_verifies_by_no_other_ca(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, "localhost", trial.throw_away(["localhost"]).ca)


def test_it_is_a_pair_that_can_be_served(tmp_path: Path) -> None:
    left = tls.load(written(tmp_path, PAIR)).end - datetime.datetime.now(datetime.UTC)
    assert 29 * DAY < left < 30 * DAY


def test_the_ca_signs_nothing_but_leaves() -> None:
    ca = x509.load_pem_x509_certificate(PAIR.ca)
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)


def test_a_name_that_is_no_ascii_is_rejected() -> None:
    with pytest.raises(tls.CertificateError) as error:
        trial.throw_away(["münchen.example.com"])
    assert str(error.value) == ("münchen.example.com can't be in a certificate: write it as xn--…")
