"""Who may ask for a review, where the API server presents a client certificate.

By default an API server presents none (its --admission-control-config-file says otherwise). Probes
and metrics are for all: kubelets and Prometheus have no such certificate.
"""

from collections.abc import Iterator, Mapping
from typing import Any


class Clients:
    """Names of which a client's certificate must have one."""

    def __init__(self, names: frozenset[str]) -> None:
        """Without names any certificate of the CA will do."""
        self._names = names

    def knows(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether a certificate, which TLS has verified already, is of one that may ask.

        It comes as `ssl.SSLSocket.getpeercert` gives it; None or nothing where there was none.
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
