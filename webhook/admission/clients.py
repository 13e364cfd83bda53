"""Checks which clients may send reviews, if the API server presents a client certificate.

By default an API server presents none. Its --admission-control-config-file can change this. Probes
and metrics are open to all, because kubelets and Prometheus have no such certificate.
"""

import ssl
from collections.abc import Iterator, Mapping
from typing import Any


class Clients:
    """The allowed names. A client's certificate must have one of them."""

    def __init__(self, names: frozenset[str]) -> None:
        """Without names, each certificate of the CA is accepted."""
        self._names = names

    def trusts(self, peer: ssl.SSLObject) -> float:
        """Return until when a client may send reviews, in seconds since 1970; 0 if not at all.

        TLS verifies a certificate only in a full handshake. In a resumed session, the certificate
        or its CA may have expired since then. So a client with a resumed session may not send
        reviews.
        """
        certificate = None if peer.session_reused else peer.getpeercert()
        if not self.knows(certificate):
            return 0.0
        return float(ssl.cert_time_to_seconds(str((certificate or {})["notAfter"])))

    def knows(self, certificate: Mapping[str, Any] | None) -> bool:
        """Return whether a verified certificate belongs to an allowed client.

        The certificate has the form of `ssl.SSLObject.getpeercert`; None or empty if there is none.
        """
        if not certificate:
            return False
        return not self._names or any(name in self._names for name in _names(certificate))


def _names(certificate: Mapping[str, Any]) -> Iterator[str]:
    for entry in certificate.get("subject", ()):
        for kind, value in entry:
            if kind == "commonName":
                yield value
    for kind, value in certificate.get("subjectAltName", ()):
        if kind in ("DNS", "URI"):
            yield value
