"""Reads the meshes' policy objects, and the control plane's settings that affect them.

Every kind is listed once for all namespaces if that is allowed, else namespace by namespace.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from webhook.cluster.api.connection import Cluster, path
from webhook.cluster.api.errors import StatusError
from webhook.cluster.judge.outdated import at, parsed
from webhook.policy.plaintext import istio, linkerd, objects
from webhook.policy.plaintext.objects import PolicyKind
from webhook.policy.pod.objects import UndecodableError
from webhook.policy.settings import Settings


class Downgrade(msgspec.Struct, kw_only=True):
    """A DestinationRule that makes clients in the mesh send without its mutual TLS."""

    rule: str
    host: str
    field: str
    mode: str


class Unread(Exception):  # noqa: N818 - it says what it is: something could not be read
    """A policy that could not be read; the text says which one and why."""


class PolicyObjects:
    """The meshes' policy objects of a cluster. Raises `ClusterError` if the cluster fails."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self.settings = settings
        self._lists: dict[tuple[str, str], list[Any] | Unread] = {}
        self._configs: dict[tuple[str, str], Mapping[str, str] | Unread] = {}
        self._grouped: dict[str, dict[str, list[Any]]] = {}
        self._peers: dict[str, istio.Peers] = {}

    def _root(self) -> tuple[str, Unread | None]:
        """Return Istio's root namespace, by default the control plane's.

        The second value says why the mesh's configuration could not be read; None if it could.
        """
        own = self.settings.istio
        name = "istio" + (f"-{own.revision}" if own.revision else "")
        try:
            text = self._config(own.control_plane_namespace, name).get("mesh", "")
        except Unread as unread:
            return own.control_plane_namespace, unread
        return str(at(parsed(text), "rootNamespace") or own.control_plane_namespace), None

    def peers(self, namespace: str) -> istio.Peers:
        """Return Istio's PeerAuthentications that apply to a namespace. Raises `Unread`."""
        whole = not isinstance(self._listed(objects.PEER_AUTHENTICATION, ""), Unread)
        key = "" if whole else namespace
        root, unread = self._root()
        if key not in self._peers:
            found = self._of_kind(objects.PEER_AUTHENTICATION, namespace, root)
            self._peers[key] = istio.Peers(found, root)
        known = self._peers[key]
        # The namespace inherits its mode from the root namespace, which could not be determined.
        if unread and not known.has_own_mode(namespace):
            raise unread
        return known

    def authorizations(self, namespace: str) -> linkerd.LinkerdPolicies:
        """Return Linkerd's Servers of a namespace and their allowed clients. Raises `Unread`."""
        return linkerd.LinkerdPolicies(
            self._own(objects.SERVER, namespace),
            self._own(objects.SERVER_AUTHORIZATION, namespace),
            self._own(objects.AUTHORIZATION_POLICY, namespace),
            self._of_kind(objects.NETWORK_AUTHENTICATION, namespace),
        )

    def default_inbound(self) -> str | Unread:
        """Return the default inbound policy of the cluster, or why it is unknown."""
        where = self.settings.linkerd.control_plane_namespace
        try:
            values = parsed(self._config(where, "linkerd-config").get("values", ""))
        except Unread as unread:
            return unread
        return str(at(values, "proxy", "defaultInboundPolicy") or linkerd.DEFAULT)

    def downgrades(self, namespace: str) -> list[Downgrade]:
        """Return the downgrades by DestinationRules for a namespace. Raises `Unread`."""
        domain = self.settings.cluster_domain
        return [
            Downgrade(
                rule=f"{rule.metadata.namespace}/{rule.metadata.name}",
                host=rule.spec.host,
                field=occurrence.field,
                mode=occurrence.values[0],
            )
            for rule in self._of_kind(objects.DESTINATION_RULE, namespace)
            if istio.concerns(rule, namespace, domain)
            for occurrence in istio.downgrades(rule, domain)
            # The client's own TLS to a host that may be outside the mesh is not plaintext.
            if occurrence.level != "warning"
        ]

    def _of_kind(self, kind: PolicyKind, *namespaces: str) -> list[Any]:
        """Return the objects of a kind in all namespaces, or in these if only that is allowed."""
        whole = self._listed(kind, "")
        lists = [whole]
        if isinstance(whole, Unread):
            lists = [self._listed(kind, one) for one in dict.fromkeys(namespaces)]
        found: list[Any] = []
        for one in lists:
            if isinstance(one, Unread):
                raise one
            found += one
        return found

    def _own(self, kind: PolicyKind, namespace: str) -> list[Any]:
        """Return the objects of a kind in one namespace."""
        whole = self._listed(kind, "")
        if isinstance(whole, Unread):
            return self._of_kind(kind, namespace)
        if kind.name not in self._grouped:
            grouped = self._grouped[kind.name] = defaultdict(list)
            for one in whole:
                grouped[one.metadata.namespace].append(one)
        return self._grouped[kind.name].get(namespace, [])

    def _listed(self, kind: PolicyKind, namespace: str) -> list[Any] | Unread:
        key = (kind.name, namespace)
        if key not in self._lists:
            try:
                self._lists[key] = list(self._read(kind, namespace))
            except Unread as unread:
                self._lists[key] = unread
        return self._lists[key]

    def _read(self, kind: PolicyKind, namespace: str) -> Iterable[Any]:
        """Return the objects in the newest served version; empty if the kind does not exist."""
        for version in kind.versions:
            where = path(f"{kind.group}/{version}", kind.plural, namespace)
            try:
                return [objects.decode(raw, kind.type) for raw in self._cluster.items(where)]
            except StatusError as error:
                if error.is_forbidden:
                    raise Unread(str(error)) from None
                if error.code != 404:
                    raise
            except UndecodableError as error:
                raise Unread(f"a {kind.name} can't be read: {error}") from None
        return []

    def _config(self, namespace: str, name: str) -> Mapping[str, str]:
        key = (namespace, name)
        if key not in self._configs:
            try:
                found = self._cluster.find(path("v1", "configmaps", namespace, name)) or {}
                self._configs[key] = found.get("data") or {}
            except StatusError as error:
                if not error.is_forbidden:
                    raise
                self._configs[key] = Unread(str(error))
        data = self._configs[key]
        if isinstance(data, Unread):
            raise data
        return data
