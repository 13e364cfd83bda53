"""Loads and checks the serving certificate.

Python's ssl does it alone. It reads a certificate only from a peer, so the certificate is read from
a handshake in memory, which also shows that it can be served.
"""

import contextlib
import datetime
import errno
import os
import re
import ssl
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
    pem, key_pem = _read(files.cert), _read(files.key)
    client_ca = _read(files.client_ca) if files.client_ca else None
    found = _LEAF.search(pem)
    leaf, fits = found[0] if found else b"", False
    try:
        reader = _reader(leaf)
    except ValueError:
        raise CertificateError(f"{files.cert} has no certificate in PEM form") from None
    try:
        # The certificate alone first, to tell which file is wrong.
        alone, fits = _context(leaf, key_pem), True
        made = _context(pem, key_pem)
        start, end, names = _read_leaf(alone, reader)
    except ssl.SSLCertVerificationError as error:
        why = error.verify_message
        raise CertificateError(f"clients would reject {files.cert}: {why}") from None
    except ssl.SSLError as error:
        raise CertificateError(_why(error, files, fits=fits)) from None
    except ValueError as error:
        raise CertificateError(f"can't use {files.cert}: {error}") from None
    except Exception as error:
        raise CertificateError(f"can't serve {files.cert} now: {error}", ours=True) from None
    now = datetime.datetime.now(datetime.UTC)
    if now >= end:
        raise CertificateError(f"the certificate in {files.cert} expired on {end:%Y-%m-%d %H:%M}Z")
    if now < start:
        raise CertificateError(f"the certificate in {files.cert} starts on {start:%Y-%m-%d %H:%M}Z")
    if files.name and not any(_covers(name, files.name) for name in names):
        raise CertificateError(
            f"the certificate in {files.cert} is not for {files.name}, as clients call the server, "
            f"but for {', '.join(names) or 'no DNS name'}"
        )
    if client_ca is not None:
        _ask_clients(made, client_ca, files)
    return Certificate(made, start, end)


#: The server's own certificate, the first in its file.
_LEAF = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)
#: X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python does not name.
_AT_ANY_TIME = 0x200000


def _reader(leaf: bytes) -> ssl.SSLContext:
    """Return a client's context that trusts only this certificate. May raise ValueError."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _AT_ANY_TIME
    try:
        made.load_verify_locations(cadata=leaf.decode("ascii"))
    except ssl.SSLError:
        raise ValueError from None
    return made


def _read_leaf(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> tuple[datetime.datetime, datetime.datetime, list[str]]:
    """Return when the server's certificate becomes valid and expires, and its DNS names."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours, theirs = server.wrap_bio(there, back, server_side=True), client.wrap_bio(back, there)
    for peer in (theirs, ours, theirs, ours, theirs):
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.do_handshake()
    found: Any = theirs.getpeercert()
    start, end = (
        datetime.datetime.fromtimestamp(ssl.cert_time_to_seconds(found[key]), datetime.UTC)
        for key in ("notBefore", "notAfter")
    )
    return start, end, [name for kind, name in found.get("subjectAltName", ()) if kind == "DNS"]


def _why(error: ssl.SSLError, files: Files, *, fits: bool) -> str:
    """Return the reason in words. `fits` means that the certificate alone goes with the key."""
    reason = error.reason or "no reason given"
    if not fits and reason.endswith("_MISMATCH"):
        return f"{files.key} is not the key of the certificate in {files.cert}"
    if fits or reason.endswith(("_TOO_SMALL", "_TOO_WEAK")):
        return f"OpenSSL does not take {files.cert}: {reason.replace('_', ' ').lower()}"
    return f"{files.key} has no unencrypted private key in PEM form"


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
        # Without a password OpenSSL would ask for one at the terminal.
        made.load_cert_chain(cert_name, key_name, password="")
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
