"""Parses certificates that are stored in the cluster, and checks whether they are trusted."""

from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature


def parse(pem: bytes) -> list[x509.Certificate]:
    """Return the certificates in a PEM text; an empty list if it can't be parsed."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        return []


def is_trusted(chain: Iterable[x509.Certificate], roots: Sequence[x509.Certificate]) -> bool:
    """Return whether a server's chain contains one of `roots`, or a certificate issued by one."""
    return any(one == root or _is_issued_by(one, root) for one in chain for root in roots)


def _is_issued_by(one: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
