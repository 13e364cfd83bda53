"""Whether a client that trusts some CAs trusts a server's certificate."""

import pytest

from tests.cluster.certificates import Authority
from webhook.cluster.kinds import certificates

AUTHORITY, OTHER = Authority("authority"), Authority("authority")
SERVING = AUTHORITY.issue("server", hosts=["server.example.com"]).cert


@pytest.mark.parametrize(
    ("chain", "roots", "trusted"),
    [
        (SERVING, AUTHORITY.pem, True),
        (SERVING, SERVING, True),
        (SERVING, OTHER.pem + AUTHORITY.pem, True),
        (SERVING + AUTHORITY.pem, AUTHORITY.pem, True),
        (SERVING, OTHER.pem, False),
        (SERVING, b"", False),
    ],
    ids=["issued", "itself", "by one of two", "with its authority", "of the same name", "nobody"],
)
def test_a_certificate_is_trusted_by_who_trusts_its_issuer(
    chain: bytes, roots: bytes, trusted: bool
) -> None:
    parsed = certificates.parse(chain)
    assert parsed
    assert certificates.is_trusted(parsed, certificates.parse(roots)) == trusted


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nxx\n"])
def test_other_files_are_not_certificates(pem: bytes) -> None:
    assert certificates.parse(pem) == []
