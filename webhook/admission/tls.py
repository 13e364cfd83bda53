"""The serving certificate: read, checked before use, and made for a try-out."""

import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class CertificateError(ValueError):
    """A certificate or key that can't be served; the text says what and why."""


def check_pair(cert_file: Path, key_file: Path) -> datetime.datetime:
    """When the certificate expires.

    Raises `CertificateError` where a file can't be read, the key is another certificate's, the
    certificate is not valid now, or OpenSSL would not serve it.
    """
    try:
        pem, key_pem = cert_file.read_bytes(), key_file.read_bytes()
    except OSError as error:
        raise CertificateError(f"can't read {error.filename}: {error.strerror}") from None
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise CertificateError(f"{cert_file} has no certificate in PEM form") from None
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError(f"{key_file} has no unencrypted private key in PEM form") from None
    if key.public_key() != certificate.public_key():
        raise CertificateError(f"{key_file} is not the key of the certificate in {cert_file}")
    now = datetime.datetime.now(datetime.UTC)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= end:
        raise CertificateError(f"the certificate in {cert_file} expired on {end:%Y-%m-%d %H:%M}Z")
    if now < start:
        raise CertificateError(f"the certificate in {cert_file} starts on {start:%Y-%m-%d %H:%M}Z")
    try:
        context(str(cert_file), str(key_file))
    except ssl.SSLError as error:
        # What cryptography reads, OpenSSL may still find too weak to serve.
        why = (error.reason or "no reason given").replace("_", " ").lower()
        raise CertificateError(f"OpenSSL does not take {cert_file}: {why}") from None
    return end


def context(cert_file: str, key_file: str) -> ssl.SSLContext:
    """A server's TLS context: TLS 1.2 and 1.3, HTTP/1.1 alone, as the API server dials webhooks."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(cert_file, key_file)
    made.set_alpn_protocols(["http/1.1"])
    return made


class Pair(NamedTuple):
    """A throw-away CA and the serving certificate that it signed, in PEM form."""

    ca: bytes
    cert: bytes
    key: bytes


def throw_away(names: list[str], *, days: int = 30) -> Pair:
    """Make a CA and a certificate for DNS names and IP addresses; the CA's key is forgotten.

    Raises `CertificateError` on a name that can't be in one.
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


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        if not name.isascii():
            raise CertificateError(f"{name} can't be in a certificate: write it as xn--…") from None
        return x509.DNSName(name)
