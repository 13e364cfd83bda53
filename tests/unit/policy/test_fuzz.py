"""A short run of the fuzzer (`make fuzz` runs for longer), and its oracle with the fixtures."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as configure
from hypothesis import strategies as st

from tests.fixtures import generate
from tests.fixtures.fixture import Fixture
from tests.fuzz import admins, costly, edits
from tests.fuzz.law import ORACLES, admits, complaints, holds
from tests.unit.policy.judge import mesh
from webhook.policy import checks

Json = dict[str, Any]

#: Denied to be safe: no traffic bypasses the mesh, or only in an older release.
CAUTIOUS = {
    "foreign-mesh/ambient-sidecar-label": "the injector handled it, or did not run",
    "foreign-mesh/ambient-linkerd-annotation": "the injector handled it, or did not run",
    "foreign-mesh/istio-linkerd-annotation": "the injector handled it, or did not run",
    "foreign-mesh/linkerd-istio-label": "the injector handled it, or did not run",
    "status-forged/ambient-redirection": "misleads people, not the agent",
    "status-forged/ambient-pending-redirection": "misleads people, not the agent",
    "capture-bypassed/istio-own-template": "the effect of an own template is unknown",
    "opted-out/istio-unknown-value-empty": "means yes to some releases, no to others",
    "proxy-uid/istio-proxy-user": "the proxy would capture itself, so no traffic passes",
    "proxy-brought/linkerd-copied": "it may be a true copy, which a pod does not show",
    "proxy-brought/istio-by-hand": "the pod does not show that one of many variables matters",
    "proxy-brought/istio-cni-by-hand": "it may be a true copy, which a pod does not show",
    "proxy-brought/istio-init-by-hand": "it may be a true copy, which a pod does not show",
    "mtls-disabled/linkerd-disable-identity": "a switch of Linkerd before 2.12",
}
CAUTIOUS |= {
    f"input-not-allowed/{name}": "what it does depends on the mesh's release, or on parsers"
    for name in (
        "ambient-unknown-key", "istio-config-alias", "istio-config-binary",
        "istio-config-key-twice",
        "istio-config-merge-key", "istio-config-text", "istio-config-two-documents",
        "istio-metadata-dual-stack", "istio-unknown", "linkerd-line-break",
        "linkerd-misspelled-policy", "linkerd-no-quantity", "linkerd-owner",
        "linkerd-trace-attribute", "linkerd-unknown",
    )
}  # fmt: skip
CAUTIOUS |= {
    f"proxy-image-untrusted/{name}": "it is the mesh's own program, if another one"
    for name in ("istio-mixed-versions", "istio-other-version", "linkerd-mixed-versions",
                 "linkerd-other-version")
}  # fmt: skip
CAUTIOUS |= {
    "input-not-allowed/istio-customised-hook": "whose hook it is, only an untouched pod shows",
    "mesh-label-removed/ambient-redirection-removed": "only what was there before shows it",
    "mesh-label-removed/istio-tunnel": "only what was there before shows it",
    "proxy-brought/istio-volume": "the injector gives the volume its own source",
    "proxy-brought/linkerd-changed-record": "misleads us alone",
    "proxy-brought/linkerd-preset-record": "misleads us alone",
    "proxy-uid/linkerd-uid-update": "only the CNI plugin reads it, of a pod that has not started",
}
FIXTURES = [fixture for fixture in generate.fixtures() if fixture.mesh in ORACLES]


def name(fixture: Fixture) -> str:
    return f"{fixture.check}/{fixture.name}"


@pytest.mark.parametrize("fixture", FIXTURES, ids=name)
def test_the_oracle_agrees_with_the_fixtures(fixture: Fixture) -> None:
    denied = not fixture.passes and checks.all_checks()[fixture.check].check.level == "deny"
    found = complaints(fixture.mesh, fixture.documents[-1])
    assert bool(found) == (denied and name(fixture) not in CAUTIOUS), found


def test_every_exception_is_still_one() -> None:
    assert {name(fixture) for fixture in FIXTURES} >= CAUTIOUS.keys()


@pytest.mark.parametrize("by", edits.MESHES)
@configure(max_examples=1_500)
@given(data=st.data())
def test_whatever_is_admitted_satisfies_the_oracle(by: str, data: st.DataObject) -> None:
    holds(by, data.draw(edits.lives(by)))


@pytest.mark.parametrize("by", edits.MESHES)
@configure(max_examples=300)
@given(data=st.data())
def test_what_an_admin_configured_is_admitted(by: str, data: st.DataObject) -> None:
    admits(by, data.draw(admins.pods(by)))


@pytest.mark.parametrize("by", edits.MESHES)
@configure(max_examples=15, deadline=None, database=None, derandomize=True,
           phases=[Phase.generate], suppress_health_check=list(HealthCheck))  # fmt: skip
@given(recipe=costly.recipes())
def test_the_search_for_the_longest_review_measures_one(
    by: str, recipe: list[tuple[str, int]]
) -> None:
    cost = costly.cost(by, recipe)
    assert cost.seconds > 0
    assert all(name in str(cost) for name, _ in recipe)


@pytest.fixture
def unbound() -> Iterator[None]:
    """Make the checks call the meshes' methods as they are in this test."""
    yield
    checks.looks.cache_clear()
    checks.finders.cache_clear()


# If it fails, as it must, hypothesis shows the pod. How long the one is that it finds differs.
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.usefixtures("unbound")
@pytest.mark.parametrize(
    ("by", "blinded"),
    [
        ("linkerd", "inputs"),
        ("linkerd", "capture_bypasses"),
        ("linkerd", "identity_clashes"),
        ("istio", "inputs"),
        ("istio", "capture_bypasses"),
        ("istio", "opt_in_removed"),
        ("istio", "exposed_identity"),
    ],
)
def test_a_policy_that_looks_away_is_caught(
    monkeypatch: pytest.MonkeyPatch, by: str, blinded: str
) -> None:
    monkeypatch.setattr(type(mesh(by)), blinded, lambda self, pod: {})  # noqa: ARG005
    checks.looks.cache_clear()
    checks.finders.cache_clear()

    @configure(max_examples=1_000, derandomize=True, database=None, phases=[Phase.generate],
               deadline=None, suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(edits.lives(by))
    def law(life: edits.Life) -> None:
        holds(by, life)

    with pytest.raises(AssertionError, match="of which the oracle says"):
        law()
