"""Loads and checks the serving certificate, and creates one for a trial run."""

import contextlib
import datetime
import errno
import ipaddress
import os
import re
import ssl
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: The maximum size in bytes of a certificate file. Chains and CA bundles have a few hundred KiB.
_LONGEST = 4 << 20


class CertificateError(ValueError):
    """Raised for a certificate or key that can't be served. The text says which one and why."""

    def __init__(self, why: str, *, ours: bool = False) -> None:
        """`ours` means that this process is at fault and the pair may be valid."""
        super().__init__(why)
        self.ours = ours


class Files(NamedTuple):
    """The files of the serving certificate, and the CA for client certificates."""

    cert: Path
    key: Path
    client_ca: Path | None = None
    #: The DNS name that clients use for the server. If empty, each certificate is accepted.
    name: str = ""

    @property
    def paths(self) -> Iterator[Path]:
        """The paths of the files that are set."""
        return (path for path in (self.cert, self.key, self.client_ca) if path is not None)


class Certificate(NamedTuple):
    """A loaded certificate. Its certificate and key were read at the same time."""

    context: ssl.SSLContext
    start: datetime.datetime
    end: datetime.datetime


def load(files: Files) -> Certificate:
    """Return the certificate in the files.

    Raise `CertificateError` in each of these cases: a file can't be read, the key belongs to
    another certificate, the certificate is not valid now, it is not for the server's name, or
    OpenSSL rejects it.
    """
    try:
        pem, key_pem = _read(files.cert), _read(files.key)
        client_ca = _read(files.client_ca) if files.client_ca else None
        start, end = _check(pem, key_pem, files)
    except CertificateError:
        raise
    except Exception as error:
        # cryptography raises many kinds of errors for unusual certificates.
        raise CertificateError(f"can't use {files.cert}: {error}") from None
    try:
        made = _context(pem, key_pem)
    except ssl.SSLError as error:
        # OpenSSL may reject a certificate as too weak that cryptography can read.
        why = (error.reason or "no reason given").replace("_", " ").lower()
        raise CertificateError(f"OpenSSL does not take {files.cert}: {why}") from None
    except Exception as error:
        raise CertificateError(f"can't serve {files.cert} now: {error}", ours=True) from None
    if client_ca is not None:
        _ask_clients(made, client_ca, files)
    return Certificate(made, start, end)


def _check(pem: bytes, key_pem: bytes, files: Files) -> tuple[datetime.datetime, datetime.datetime]:
    """Return when a pair becomes valid and when it expires. May raise any exception."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise CertificateError(f"{files.cert} has no certificate in PEM form") from None
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError(f"{files.key} has no unencrypted private key in PEM form") from None
    if key.public_key() != certificate.public_key():
        raise CertificateError(f"{files.key} is not the key of the certificate in {files.cert}")
    now = datetime.datetime.now(datetime.UTC)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= end:
        raise CertificateError(f"the certificate in {files.cert} expired on {end:%Y-%m-%d %H:%M}Z")
    if now < start:
        raise CertificateError(f"the certificate in {files.cert} starts on {start:%Y-%m-%d %H:%M}Z")
    names = _names(certificate)
    if files.name and not any(_covers(name, files.name) for name in names):
        raise CertificateError(
            f"the certificate in {files.cert} is not for {files.name}, as clients call the server, "
            f"but for {', '.join(names) or 'no DNS name'}"
        )
    return start, end


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return found.value.get_values_for_type(x509.DNSName)


def _covers(pattern: str, name: str) -> bool:
    """Return whether a name in a certificate covers the server's name. `*` matches one label."""
    pattern, name = pattern.lower(), name.lower()
    return pattern == name or (pattern.startswith("*.") and pattern[2:] == name.partition(".")[2])


def _read(file: Path) -> bytes:
    """Return the content of a regular file. Reading a FIFO would never end."""
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise CertificateError(f"can't read {file}: it is not a regular file")
            content = opened.read(_LONGEST + 1)
    except OSError as error:
        ours = error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
        raise CertificateError(f"can't read {file}: {error.strerror}", ours=ours) from None
    if len(content) > _LONGEST:
        raise CertificateError(f"can't read {file}: it has more than {_LONGEST >> 20} MiB")
    return content


def _context(pem: bytes, key_pem: bytes) -> ssl.SSLContext:
    """Return a server's TLS context: TLS 1.2 and 1.3, and only HTTP/1.1, as for API server calls.

    OpenSSL gets the bytes that were checked. The files themselves may be changing.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    with _in_memory(pem) as cert_name, _in_memory(key_pem) as key_name:
        made.load_cert_chain(cert_name, key_name)
    # Any client can choose the key exchange, and FFDHE with 8192 bits takes 100 ms. P-256 takes
    # 0.1 ms. All clients of Kubernetes have it, also in FIPS mode.
    made.set_ecdh_curve("prime256v1")
    made.set_alpn_protocols(["http/1.1"])
    return made


def memory_folder() -> str | None:
    """Return an in-memory folder if there is one. The root file system may be read-only."""
    folder = Path("/dev/shm")  # noqa: S108 - nothing is shared by name
    return str(folder) if folder.is_dir() and os.access(folder, os.W_OK) else None


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Yield the name of a file with the content, because OpenSSL reads only files."""
    if sys.platform == "linux":
        # This needs no file system, which may be full or read-only.
        with open(os.memfd_create("certificate"), "wb", buffering=0) as memory:
            memory.write(content)
            yield f"/proc/self/fd/{memory.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name


def _ask_clients(made: ssl.SSLContext, ca: bytes, files: Files) -> None:
    """Request a client certificate of a CA. Clients without one may still use probes and metrics.

    TLS verifies a certificate only in a full handshake, so sessions can't be resumed.
    """
    try:
        made.load_verify_locations(cadata=ca.decode("ascii"))
    except (ssl.SSLError, ValueError):
        # An empty file and a file that is not ASCII raise ValueError.
        raise CertificateError(f"{files.client_ca} has no certificates in PEM form") from None
    made.verify_mode = ssl.CERT_OPTIONAL
    made.num_tickets = 0
    made.options |= ssl.OP_NO_TICKET


class Pair(NamedTuple):
    """A temporary CA and the serving certificate that it signed, in PEM form."""

    ca: bytes
    cert: bytes
    key: bytes


def throw_away(names: list[str], *, days: int = 30) -> Pair:
    """Return a new certificate for these DNS names and IP addresses, and its CA without a key.

    Raise `CertificateError` if a certificate can't contain a name.
    """
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
    end = start + datetime.timedelta(days=days)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mendix-mesh throw-away CA")])
    ca = (
        _builder(ca_name, ca_name, ca_key, start, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), False)
        .sign(ca_key, hashes.SHA256())
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mendix-mesh")])
    leaf = (
        _builder(subject, ca_name, key, start, end)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False
        )
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return Pair(
        ca.public_bytes(pem),
        leaf.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


_CA_USAGE = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    start: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


_HOST = re.compile(r"(\*\.)?[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        if not name.isascii():
            raise CertificateError(f"{name} can't be in a certificate: write it as xn--…") from None
        if len(name) > 253 or not _HOST.fullmatch(name):
            raise CertificateError(
                f"{name!r} can't be in a certificate: it is no host name and no address"
            ) from None
        return x509.DNSName(name)
