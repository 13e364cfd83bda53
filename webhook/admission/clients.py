"""Which clients may ask for a review, if the API server presents a client certificate.

By default an API server presents none (its --admission-control-config-file says otherwise). Probes
and metrics are for all: kubelets and Prometheus have no such certificate.
"""

import ssl
from collections.abc import Iterator, Mapping
from typing import Any


class Clients:
    """Names of which a client's certificate must have one."""

    def __init__(self, names: frozenset[str]) -> None:
        """Without names any certificate of the CA will do."""
        self._names = names

    def trusts(self, peer: ssl.SSLSocket) -> float:
        """Return until when a client may ask, in seconds since 1970; 0 if it may not.

        TLS has verified its certificate in this handshake, but not if it resumed a session: then
        the certificate or its CA may have expired, so that no resumed session counts.
        """
        certificate = None if peer.session_reused else peer.getpeercert()
        if not self.knows(certificate):
            return 0.0
        return float(ssl.cert_time_to_seconds(str((certificate or {})["notAfter"])))

    def knows(self, certificate: Mapping[str, Any] | None) -> bool:
        """Return whether a certificate, which TLS has verified, is of a client that may ask.

        It comes as `ssl.SSLSocket.getpeercert` gives it; None or empty if there was none.
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
