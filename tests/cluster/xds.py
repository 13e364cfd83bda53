"""A proxy without Envoy, connected to the real istiod.

It sends only the first xDS request, with which istiod recognizes the proxy. The proxy's
configuration is then read from istiod's own JSON dump, so that no Envoy types are needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import grpc

from tests.cluster.api import Json, wait_for
from tests.cluster.istiod import TAG, Istiod

_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
_LISTENERS = "type.googleapis.com/envoy.config.listener.v3.Listener"


class Proxy:
    """The sidecar of a pod, connected to istiod during a `with` block."""

    def __init__(
        self, istiod: Istiod, namespace: str, name: str, ip: str, labels: Mapping[str, str]
    ) -> None:
        self._istiod = istiod
        self._id = f"{name}.{namespace}"
        node = _text(1, f"sidecar~{ip}~{self._id}~{namespace}.svc.cluster.local")
        meta = {"NAMESPACE": namespace, "LABELS": dict(labels), "ISTIO_VERSION": TAG}
        node += _field(3, _struct(meta))
        self._request = _field(2, node) + _text(4, _LISTENERS)
        self._requests: SimpleQueue[bytes | None] = SimpleQueue()
        self._channel = grpc.insecure_channel(istiod.xds)

    def __enter__(self) -> Self:
        stream = self._channel.stream_stream(
            _METHOD, request_serializer=_same, response_deserializer=_same
        )
        self._requests.put(self._request)
        self._answers = stream(self._sent())
        next(self._answers)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._requests.put(None)
        self._channel.close()

    def _sent(self) -> Iterator[bytes]:
        while (request := self._requests.get()) is not None:
            yield request

    def take_plaintext(self, ports: Sequence[int]) -> list[bool]:
        """Return for each port whether it accepts clients without TLS, by any filter chain."""
        chains = self._inbound()["filterChains"]
        return [_takes(chains, port) for port in ports]

    def _inbound(self) -> Json:
        found: list[Json] = []

        def known() -> bool:
            found.extend(self._listeners())
            return bool(found)

        wait_for(known, why="istiod to know the proxy")
        return next(one for one in found if one["name"] == "virtualInbound")

    def _listeners(self) -> list[Json]:
        dump = self._istiod.debug(f"config_dump?proxyID={self._id}")
        (configs,) = (c for c in dump["configs"] if c["@type"].endswith("ListenersConfigDump"))
        return [one["activeState"]["listener"] for one in configs["dynamicListeners"]]


def _takes(chains: Sequence[Json], port: int) -> bool:
    """Return whether a port accepts plaintext, by its own chains or else the general ones."""
    found = [chain for chain in chains if _port(chain) == port]
    found = found or [chain for chain in chains if _port(chain) is None]
    assert found
    return any("transportSocket" not in chain for chain in found)


def _port(chain: Json) -> int | None:
    found: int | None = chain.get("filterChainMatch", {}).get("destinationPort")
    return found


def _same(data: bytes) -> bytes:
    return data


def _field(number: int, data: bytes) -> bytes:
    """Return a protobuf field with a length."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def _struct(values: Mapping[str, Any]) -> bytes:
    """Return a google.protobuf.Struct of strings and structs."""
    return b"".join(
        _field(1, _text(1, key) + _field(2, _value(value))) for key, value in values.items()
    )


def _value(value: Any) -> bytes:
    return _field(5, _struct(value)) if isinstance(value, dict) else _text(3, value)
