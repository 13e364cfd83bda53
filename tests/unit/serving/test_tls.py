"""The serving certificate: which ones are rejected with which text, and the one for --dev."""

import datetime
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from webhook.serving import tls, trial

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PEM = serialization.Encoding.PEM
DAY = datetime.timedelta(days=1)


def certificate(
    key: PrivateKey,
    *extensions: x509.ExtensionType,
    start: datetime.timedelta = -DAY,
    end: datetime.timedelta = DAY,
) -> bytes:
    """Return a self-signed certificate, valid from `start` to `end`, both counted from now."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mendix-mesh")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + start)
        .not_valid_after(now + end)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(PEM)


def private(key: PrivateKey, passphrase: bytes = b"") -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption)


KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
GOOD = certificate(KEY)


@pytest.fixture
def check(tmp_path: Path) -> Callable[[bytes, bytes], datetime.datetime]:
    """Checks a certificate and a key, written to the files `crt` and `key` of the test's folder."""

    def write_and_check(cert: bytes, key: bytes) -> datetime.datetime:
        (tmp_path / "crt").write_bytes(cert)
        (tmp_path / "key").write_bytes(key)
        return tls.load(tls.Files(tmp_path / "crt", tmp_path / "key")).end

    return write_and_check


Check = Callable[[bytes, bytes], datetime.datetime]


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-256", "P-384", "RSA", "Ed25519"],
)
def test_a_valid_pair_has_an_expiry(check: Check, key: PrivateKey) -> None:
    left = check(certificate(key), private(key)) - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(hours=23) < left < datetime.timedelta(hours=25)


@pytest.mark.parametrize(
    "cert",
    [
        GOOD + certificate(OTHER),
        b"Bag Attributes\n    friendlyName: x\n" + GOOD,
        GOOD.replace(b"\n", b"\r\n"),
        private(KEY) + GOOD,
    ],
    ids=["chain", "text before it", "line ends of Windows", "key before it"],
)
def test_a_certificate_may_come_in_company(check: Check, cert: bytes) -> None:
    check(cert, private(KEY))


REJECTED = {
    "of another key": (GOOD, private(OTHER), "{key} is not the key of the certificate in {crt}"),
    "after its CA": (
        certificate(OTHER) + GOOD,
        private(KEY),
        "{key} is not the key of the certificate in {crt}",
    ),
    "no certificate": (b"", private(KEY), "{crt} has no certificate in PEM form"),
    "text": (b"hello\n", private(KEY), "{crt} has no certificate in PEM form"),
    "bytes": (bytes(range(256)), private(KEY), "{crt} has no certificate in PEM form"),
    "garbage inside": (
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        private(KEY),
        "{crt} has no certificate in PEM form",
    ),
    "cut": (GOOD[:200], private(KEY), "{crt} has no certificate in PEM form"),
    "binary": (
        x509.load_pem_x509_certificate(GOOD).public_bytes(serialization.Encoding.DER),
        private(KEY),
        "{crt} has no certificate in PEM form",
    ),
    "no key": (GOOD, b"", "{key} has no unencrypted private key in PEM form"),
    "certificate for a key": (GOOD, GOOD, "{key} has no unencrypted private key in PEM form"),
    "encrypted key": (
        GOOD,
        private(KEY, b"secret"),
        "{key} has no unencrypted private key in PEM form",
    ),
    "cut key": (GOOD, private(KEY)[:100], "{key} has no unencrypted private key in PEM form"),
    "null bytes": (GOOD, bytes(100), "{key} has no unencrypted private key in PEM form"),
    "damaged chain": (
        GOOD + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        private(KEY),
        "OpenSSL does not take {crt}: no reason given",
    ),
}


@pytest.mark.parametrize("name", REJECTED)
def test_a_pair_that_cannot_be_served_is_rejected(check: Check, tmp_path: Path, name: str) -> None:
    cert, key, message = REJECTED[name]
    with pytest.raises(tls.CertificateError) as error:
        check(cert, key)
    assert str(error.value) == message.format(crt=tmp_path / "crt", key=tmp_path / "key")


def test_a_certificate_for_clients_alone_is_rejected(check: Check) -> None:
    made = certificate(KEY, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]))
    with pytest.raises(tls.CertificateError, match=r"^clients would reject .* purpose$"):
        check(made, private(KEY))


def test_a_weak_key_is_rejected_before_the_worker_would_fail(check: Check, tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 1024)
    with pytest.raises(tls.CertificateError) as error:
        check(certificate(key), private(key))
    assert str(error.value) == f"OpenSSL does not take {tmp_path / 'crt'}: ee key too small"


def test_an_expired_certificate_is_rejected_with_its_last_day(check: Check, tmp_path: Path) -> None:
    with pytest.raises(tls.CertificateError) as error:
        check(certificate(KEY, start=-2 * DAY, end=-DAY), private(KEY))
    day = datetime.datetime.now(datetime.UTC) - DAY
    text = str(error.value)
    assert text.startswith(f"the certificate in {tmp_path / 'crt'} expired on {day:%Y-%m-%d} ")
    assert text.endswith("Z")


def test_a_certificate_of_tomorrow_is_rejected_with_its_first_day(
    check: Check, tmp_path: Path
) -> None:
    with pytest.raises(tls.CertificateError) as error:
        check(certificate(KEY, start=DAY, end=2 * DAY), private(KEY))
    day = datetime.datetime.now(datetime.UTC) + DAY
    text = str(error.value)
    assert text.startswith(f"the certificate in {tmp_path / 'crt'} starts on {day:%Y-%m-%d} ")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Path.resolve, "No such file or directory"),
        (Path.mkdir, "Is a directory"),
        (lambda file: file.symlink_to(file), "Too many levels of symbolic links"),
    ],
    ids=["missing", "folder", "loop"],
)
@pytest.mark.parametrize("name", ["crt", "key"])
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, make: Callable[[Path], object], why: str, name: str
) -> None:
    (tmp_path / "crt").write_bytes(GOOD)
    (tmp_path / "key").write_bytes(private(KEY))
    (tmp_path / name).unlink()
    make(tmp_path / name)
    with pytest.raises(tls.CertificateError) as error:
        tls.load(tls.Files(tmp_path / "crt", tmp_path / "key"))
    assert str(error.value) == f"can't read {tmp_path / name}: {why}"


@pytest.fixture
def nobodys_folder() -> Iterator[Path]:
    """A folder that a normal user may enter, and that user, because root may read everything."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(was)


def test_a_file_whose_reading_is_forbidden_is_named(nobodys_folder: Path) -> None:
    was = os.geteuid()
    os.seteuid(os.getuid())
    (nobodys_folder / "crt").write_bytes(GOOD)
    (nobodys_folder / "key").touch()
    (nobodys_folder / "crt").chmod(0o644)
    (nobodys_folder / "key").chmod(0)
    os.seteuid(was)
    with pytest.raises(tls.CertificateError) as error:
        tls.load(tls.Files(nobodys_folder / "crt", nobodys_folder / "key"))
    assert str(error.value) == f"can't read {nobodys_folder / 'key'}: Permission denied"


NAMES = ("localhost", "mendix-mesh.mendix-mesh.svc", "*.example.com", "10.1.2.3", "::1")
PAIR = trial.throw_away([*NAMES])


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "any.example.com"])
def test_a_certificate_for_the_servers_name_will_do(tmp_path: Path, name: str) -> None:
    assert tls.load(written(tmp_path, PAIR)._replace(name=name))


@pytest.mark.parametrize("name", ["mendix-mesh", "example.com", "a.b.example.com", "local", "*"])
def test_a_certificate_for_another_name_is_rejected_with_its_names(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(tls.CertificateError) as error:
        tls.load(written(tmp_path, PAIR)._replace(name=name))
    assert str(error.value) == (
        f"the certificate in {tmp_path / 'crt'} is not for {name}, as clients call the server, "
        "but for localhost, mendix-mesh.mendix-mesh.svc, *.example.com"
    )


def written(folder: Path, pair: trial.Pair) -> tls.Files:
    """Write a pair into a folder."""
    files = tls.Files(folder / "crt", folder / "key")
    files.cert.write_bytes(pair.cert)
    files.key.write_bytes(pair.key)
    return files
