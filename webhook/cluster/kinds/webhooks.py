"""Webhook configurations: which webhooks the API server calls for a pod, and in which order."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from webhook.policy.settings import Selector

#: The prefix of the annotations that make cert-manager fill in caBundle.
CERT_MANAGER = "cert-manager.io/inject-ca-from"
#: The suffix of the names of our webhooks.
OURS = ".mendix-mesh.io"
#: The suffixes of the names of the meshes' injectors. The names of their configurations vary
#: (linkerd2 proxy-injector-rbac.yaml; istioctl/pkg/checkinject/checkinject.go).
INJECTORS: Mapping[str, str] = {
    "linkerd": "linkerd-proxy-injector.linkerd.io",
    "istio": "sidecar-injector.istio.io",
}


class Service(msgspec.Struct, frozen=True):
    """The Service through which a webhook is called."""

    namespace: str
    name: str
    path: str = ""


class ClientConfig(msgspec.Struct, frozen=True, rename="camel"):
    """How a webhook is called, and the CA that its server's certificate must have."""

    service: Service | None = None
    url: str = ""
    #: PEM. If empty, the API server trusts the CAs of its own machine.
    ca_bundle: bytes = b""


class Rule(msgspec.Struct, frozen=True):
    """The requests for which a webhook is called."""

    #: Plural names like `pods` or `pods/status`.
    resources: tuple[str, ...] = ()


class Webhook(msgspec.Struct, frozen=True, rename="camel"):
    """One webhook of a configuration."""

    name: str
    client_config: ClientConfig
    rules: tuple[Rule, ...] = ()
    namespace_selector: Selector = Selector()
    object_selector: Selector = Selector()

    def takes(self, namespace: Mapping[str, str], labels: Mapping[str, str] | None = None) -> bool:
        """Return whether it is called for an object with `labels` in a namespace with these labels.

        Without the labels of an object, only the namespace is checked.
        """
        return self.namespace_selector.matches(namespace) and (
            labels is None or self.object_selector.matches(labels)
        )

    @property
    def is_ours_for_pods(self) -> bool:
        """Return whether it is one of our webhooks and is called for pods."""
        return self.name.endswith(OURS) and any("pods" in rule.resources for rule in self.rules)

    @property
    def path(self) -> str:
        """Return its path, or its URL if it has one."""
        service = self.client_config.service
        return service.path if service else self.client_config.url


class _Meta(msgspec.Struct, frozen=True):
    name: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Configuration(msgspec.Struct, frozen=True):
    metadata: _Meta
    webhooks: list[Webhook] = []


class WebhookEntry(NamedTuple):
    """A webhook, with the name and labels of its configuration."""

    configuration: str
    labels: Mapping[str, str]
    webhook: Webhook
    #: The plural name of the configuration's kind, and the index of the webhook in it.
    plural: str
    number: int
    annotations: Mapping[str, str] = MappingProxyType({})


def entries(configurations: Iterable[msgspec.Raw], plural: str) -> list[WebhookEntry]:
    """Return webhooks in the order of their calls: the order of the configurations' names."""
    decoded = [msgspec.json.decode(raw, type=_Configuration) for raw in configurations]
    return [
        WebhookEntry(
            one.metadata.name,
            one.metadata.labels,
            webhook,
            plural,
            number,
            one.metadata.annotations,
        )
        for one in sorted(decoded, key=lambda one: one.metadata.name)
        for number, webhook in enumerate(one.webhooks)
    ]


class Binding(NamedTuple):
    """A binding of one of the API server's own validating policies."""

    policy: str
    actions: tuple[str, ...]
    selector: Selector


class _MatchResources(msgspec.Struct, frozen=True, rename="camel"):
    namespace_selector: Selector = Selector()


class _BindingSpec(msgspec.Struct, frozen=True, rename="camel"):
    policy_name: str
    validation_actions: tuple[str, ...] = ()
    match_resources: _MatchResources = _MatchResources()


class _Binding(msgspec.Struct, frozen=True):
    spec: _BindingSpec


def bindings(raw: Iterable[msgspec.Raw]) -> list[Binding]:
    """Return ValidatingAdmissionPolicyBindings."""
    decoded = (msgspec.json.decode(one, type=_Binding).spec for one in raw)
    return [
        Binding(one.policy_name, one.validation_actions, one.match_resources.namespace_selector)
        for one in decoded
    ]
