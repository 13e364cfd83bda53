"""Webhook configurations: whom the API server calls for a pod, in which order, whom it trusts."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from webhook.policy.settings import Selector

#: End of the names of our webhooks.
OURS = ".mendix-mesh.io"
#: Ends of the names of the meshes' injectors, whatever their configurations are called
#: (linkerd2 proxy-injector-rbac.yaml; istioctl/pkg/checkinject/checkinject.go).
INJECTORS: Mapping[str, str] = {
    "linkerd": "linkerd-proxy-injector.linkerd.io",
    "istio": "sidecar-injector.istio.io",
}


class Service(msgspec.Struct, frozen=True):
    """The Service by which a webhook is called."""

    namespace: str
    name: str
    path: str = ""


class ClientConfig(msgspec.Struct, frozen=True, rename="camel"):
    """How a webhook is called, and by which authorities its server is known."""

    service: Service | None = None
    url: str = ""
    #: PEM; empty, the API server trusts what its own machine does.
    ca_bundle: bytes = b""


class Rule(msgspec.Struct, frozen=True):
    """Some of the requests that a webhook is called for."""

    #: Plural names: `pods`, `pods/status`.
    resources: tuple[str, ...] = ()


class Webhook(msgspec.Struct, frozen=True, rename="camel"):
    """One webhook of a configuration."""

    name: str
    client_config: ClientConfig
    rules: tuple[Rule, ...] = ()
    namespace_selector: Selector = Selector()
    object_selector: Selector = Selector()

    def takes(self, namespace: Mapping[str, str], labels: Mapping[str, str] | None = None) -> bool:
        """Whether it is called in a namespace with these labels, for an object with those.

        Without the object's labels the namespace alone is asked for.
        """
        return self.namespace_selector.matches(namespace) and (
            labels is None or self.object_selector.matches(labels)
        )

    @property
    def is_ours_for_pods(self) -> bool:
        """Whether it is one of ours that is called for pods, not for other objects alone."""
        return self.name.endswith(OURS) and any("pods" in rule.resources for rule in self.rules)

    @property
    def path(self) -> str:
        """The path that it is called at; with a URL, that."""
        service = self.client_config.service
        return service.path if service else self.client_config.url


class _Meta(msgspec.Struct, frozen=True):
    name: str
    labels: dict[str, str] = {}


class _Configuration(msgspec.Struct, frozen=True):
    metadata: _Meta
    webhooks: list[Webhook] = []


class WebhookEntry(NamedTuple):
    """A webhook, and the name and labels of the configuration that it is in."""

    configuration: str
    labels: Mapping[str, str]
    webhook: Webhook
    #: The plural name of the configuration's kind, and the webhook's place in it.
    plural: str
    number: int


def entries(configurations: Iterable[msgspec.Raw], plural: str) -> list[WebhookEntry]:
    """The webhooks in the order in which they are called: that of their configurations' names."""
    decoded = [msgspec.json.decode(raw, type=_Configuration) for raw in configurations]
    return [
        WebhookEntry(one.metadata.name, one.metadata.labels, webhook, plural, number)
        for one in sorted(decoded, key=lambda one: one.metadata.name)
        for number, webhook in enumerate(one.webhooks)
    ]
