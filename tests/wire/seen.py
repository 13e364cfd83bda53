"""What the pod of each bypass does on the wire, if nothing denies it.

The key is the check and the name of a fixture of Istio's (tests/fixtures/meshes/istio.py) that its
author alone can submit. test_bypasses.py runs the pod in a namespace in mode warn, with mutual TLS
STRICT, and compares. docs/bypasses.md shows the same.
"""

import copy
from collections.abc import Mapping
from types import MappingProxyType

from tests.fixtures.fixture import Fixture, Json
from tests.fixtures.generate import fixtures
from webhook.policy.checks import all_checks

SENDS = "sends plaintext"
FIRST = "its init container sends plaintext"
ACCEPTS = "accepts plaintext in spite of STRICT"
MISTAKES = "takes the client for itself"
PEERS = "meshed clients send it plaintext"
ABSENT = "does not start"
NONE = "no plaintext"

_ELSEWHERE = "The test has no other control plane that would configure it"
_GROUP = "It takes a program in the image that changes its group"
_INJECTED = "The injector adds the proxy all the same"
_NO_FILES = "The ConfigMap or Secret does not exist in the test"
#: Why a row shows no plaintext.
NOTES: Mapping[str, str] = MappingProxyType(
    {
        "capture-bypassed/include-outbound-ranges": "All servers of the test are in 10.0.0.0/8",
        "capture-bypassed/status-port": "Istio's agent listens on the port before the app can",
        "capture-capability/net-admin": (
            "An ordinary user cannot use it. Root removed the rules with it, and sent plaintext"
        ),
        "input-not-allowed/discovery": _ELSEWHERE,
        "input-not-allowed/discovery-by-other-name": _ELSEWHERE,
        "input-not-allowed/other-namespace": _ELSEWHERE,
        "input-not-allowed/longer-name": _ELSEWHERE,
        "control-plane-elsewhere/annotation": _ELSEWHERE,
        "control-plane-elsewhere/hosts-entry": _ELSEWHERE,
        "input-not-allowed/customised-authority": _ELSEWHERE,
        "foreign-mesh/linkerd-proxy": "Its image is not available to the test",
        "foreign-mesh/ambient-label": "The test has no ambient mode, which reads the label",
        "input-not-allowed/metadata-dual-stack": "The pods of the test have no IPv6",
        "input-not-allowed/config-binary-path": "The program does not exist in the test",
        "input-not-allowed/unknown": "No proxy reads the key today",
        "proxy-env-overridden/metrics-of-another-host": "Nothing requested metrics",
        "input-not-allowed/customised": "A native sidecar's startup probe needs Envoy",
        "input-not-allowed/bootstrap-override": _NO_FILES,
        "input-not-allowed/customised-hook": "The program of the hook does not exist in the test",
        "input-not-allowed/volume-by-annotation": "The volume over the bootstrap is empty",
        "input-not-allowed/customised-volume": _NO_FILES,
        "proxy-forged/filled-workload-certs": _NO_FILES,
        "proxy-forged/filled-workload-socket": _NO_FILES,
        "proxy-forged/name-alone": "The startup probe of the native sidecar fails",
        "proxy-image-untrusted/annotation": "The image does not exist in the test",
        "input-not-allowed/customised-image": "The image does not exist in the test",
        "proxy-uid/volumes-group": _GROUP,
        "proxy-uid/further-group": _GROUP,
        "status-forged/preset": _INJECTED,
        "status-forged/empty": _INJECTED,
    }
)

_PLUGIN = "cni-"
_NOTHING: frozenset[str] = frozenset()
_ALL = frozenset({SENDS, ACCEPTS, PEERS})

#: Rows that another check denies when the author submits the pod: first comes what is not allowed
#: as input, or was brought.
DENIED_BY: Mapping[str, str] = MappingProxyType(
    {
        "proxy-env-overridden/metrics-of-another-host": "input-not-allowed",
        "proxy-forged/filled-workload-certs": "proxy-brought",
        "proxy-forged/filled-workload-socket": "proxy-brought",
        "proxy-forged/name-alone": "proxy-brought",
        "input-not-allowed/customised-image": "proxy-brought",
    }
)

SEEN: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "capture-bypassed/exclude-inbound-ports": frozenset({ACCEPTS}),
        "capture-bypassed/exclude-outbound-ports": frozenset({SENDS}),
        "capture-bypassed/exclude-ports-in-blanks": frozenset({ACCEPTS}),
        "capture-bypassed/exclude-outbound-ranges": frozenset({SENDS}),
        "capture-bypassed/exclude-interfaces": frozenset({SENDS, ACCEPTS}),
        "capture-bypassed/include-no-inbound-ports": frozenset({ACCEPTS}),
        "capture-bypassed/include-inbound-ports": frozenset({ACCEPTS}),
        "capture-bypassed/include-no-outbound-ranges": frozenset({SENDS}),
        "capture-bypassed/include-outbound-ranges": _NOTHING,
        "capture-bypassed/kubevirt-interfaces": frozenset({ACCEPTS, MISTAKES}),
        "capture-bypassed/reroute-interfaces": frozenset({ACCEPTS, MISTAKES}),
        "capture-bypassed/status-port": _NOTHING,
        "capture-bypassed/intercept-none": frozenset({SENDS}),
        "input-not-allowed/intercept-none-by-config": frozenset({SENDS}),
        "input-not-allowed/intercept-none-by-config-as-json": frozenset({SENDS}),
        "input-not-allowed/intercept-none-by-config-by-other-name": frozenset({SENDS}),
        "input-not-allowed/intercept-none-by-config-in-quotes": frozenset({SENDS}),
        "capture-bypassed/gateway-template": _ALL,
        "capture-capability/net-admin": _NOTHING,
        "input-not-allowed/discovery": frozenset({ABSENT}),
        "input-not-allowed/discovery-by-other-name": frozenset({ABSENT}),
        "input-not-allowed/other-namespace": frozenset({ABSENT}),
        "input-not-allowed/longer-name": frozenset({ABSENT}),
        "control-plane-elsewhere/annotation": frozenset({ABSENT}),
        "control-plane-elsewhere/hosts-entry": frozenset({ABSENT}),
        "input-not-allowed/customised-authority": frozenset({ABSENT}),
        "foreign-mesh/linkerd-proxy": _NOTHING,
        "foreign-mesh/ambient-label": _NOTHING,
        "host-network/host-network": _ALL,
        "mtls-disabled/disabled": frozenset({PEERS}),
        "mtls-disabled/unknown-value": frozenset({PEERS}),
        "opted-out/label": _ALL,
        "opted-out/annotation": _ALL,
        "input-not-allowed/metadata": frozenset({SENDS, ACCEPTS}),
        "input-not-allowed/metadata-owner-groups": frozenset({SENDS}),
        "input-not-allowed/metadata-dual-stack": _NOTHING,
        "input-not-allowed/config-binary-path": frozenset({ABSENT}),
        "input-not-allowed/unknown": _NOTHING,
        "proxy-env-overridden/metrics-of-another-host": _NOTHING,
        "input-not-allowed/customised": frozenset({ABSENT}),
        "input-not-allowed/bootstrap-override": frozenset({ABSENT}),
        "input-not-allowed/customised-hook": frozenset({ABSENT}),
        "input-not-allowed/volume-by-annotation": frozenset({ABSENT}),
        "input-not-allowed/customised-volume": frozenset({ABSENT}),
        "proxy-forged/filled-workload-certs": frozenset({ABSENT}),
        "proxy-forged/filled-workload-socket": frozenset({ABSENT}),
        "proxy-forged/name-alone": frozenset({ABSENT}),
        "proxy-image-untrusted/annotation": frozenset({ABSENT}),
        "input-not-allowed/customised-image": frozenset({ABSENT}),
        "proxy-uid/app": frozenset({SENDS}),
        "proxy-uid/app-group": frozenset({SENDS}),
        "proxy-uid/whole-pod": frozenset({SENDS}),
        "proxy-uid/volumes-group": _NOTHING,
        "proxy-uid/further-group": _NOTHING,
        "proxy-uid/init-container": frozenset({FIRST}),
        "status-forged/preset": _NOTHING,
        "status-forged/empty": _NOTHING,
    }
)


def rows() -> dict[str, Fixture]:
    """Return the fixtures that are tried, by name, without those of the CNI plugin."""
    return {name: one for name, one in _all().items() if not one.what.startswith(_PLUGIN)}


def plugin_rows() -> dict[str, Fixture]:
    """Return the fixtures of the CNI plugin, by the name of the row that shows the same."""
    every = _all().values()
    return {
        f"{one.check}/{one.what.removeprefix(_PLUGIN)}": one
        for one in every
        if one.what.startswith(_PLUGIN)
    }


def _all() -> dict[str, Fixture]:
    return {
        f"{fixture.check}/{fixture.what}": fixture
        for fixture in fixtures()
        if fixture.mesh == "istio"
        and fixture.author
        and not fixture.stored_only
        and all_checks()[fixture.check].check.level == "deny"
    }


def submitted(fixture: Fixture, namespace: str) -> Json:
    """Return the pod that the author of a fixture submits to a namespace."""
    pod: Json = copy.deepcopy(fixture.author or {})
    pod["metadata"] |= {"name": f"{fixture.check}-{fixture.what}", "namespace": namespace}
    return pod
