"""The webhook's denials, read from Events."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cluster.apiserver import HttpRequest, Reply, serving
from webhook.cluster.dashboard import denials
from webhook.policy import messages
from webhook.policy.checks import all_checks
from webhook.policy.occurrences import Occurrence
from webhook.policy.validate import Verdict

DENIED = 'Error creating: admission webhook "linkerd.enforce.mendix-mesh.io" denied the request: '


def event(message: str, name: str = "shop-7fd5", **more: Any) -> dict[str, Any]:
    return {
        "involvedObject": {"kind": "ReplicaSet", "namespace": "mendix", "name": name},
        "message": message, "reason": "FailedCreate", "count": 3,
        "firstTimestamp": "2026-01-02T03:00:00Z", "lastTimestamp": "2026-01-02T03:04:00Z",
        "metadata": {"name": f"{name}.1", "namespace": "mendix"}, **more,
    }  # fmt: skip


def parse(obj: dict[str, Any]) -> denials.Denial | None:
    return denials.parse(json.dumps(obj).encode())


def denial(*checks: str) -> str:
    """The message as the webhook itself writes it."""
    known = all_checks()
    made = (known[one].check for one in checks)
    violations = tuple(check.violation(Occurrence(check.fields[0])) for check in made)
    verdict = Verdict(
        "denied", mode="enforce", subject="pod shop-7fd5-x", mesh="linkerd", violations=violations
    )
    return DENIED + messages.denial(verdict)


@pytest.mark.parametrize("check", sorted(all_checks()))
def test_every_check_is_found_again_in_its_message(check: str) -> None:
    made = parse(event(denial(check)))
    assert made is not None
    found = [cause.check for cause in made.causes]
    assert found == ([check] if all_checks()[check].check.level == "deny" else [])


def test_a_message_that_was_cut_is_shown_as_far_as_it_goes() -> None:
    made = parse(event(denial("host-network")[:-60] + "…"))
    assert made is not None
    assert made.causes[0].check == "host-network"
    made = parse(event(DENIED + "pod x would run outside the linkerd mesh:\n  host-net"))
    assert made is not None
    assert [(cause.check, cause.text) for cause in made.causes] == [("", "host-net")]


@pytest.mark.parametrize(
    "message",
    [
        "",
        "Error creating: pods is forbidden: exceeded quota",
        'Error creating: admission webhook "x.example.com" denied the request: mendix-mesh.io',
        'admission webhook "evil mendix-mesh.io" denied the request: no',
    ],
)
def test_events_of_others_are_left_out(message: str) -> None:
    assert parse(event(message)) is None


def test_an_event_of_strange_types_is_left_out() -> None:
    assert parse({"message": 3}) is None
    assert parse(event(denial("host-network"), lastTimestamp=[])) is None


def test_the_newer_kind_of_event_counts_in_its_series() -> None:
    made = parse(
        event(
            denial("host-network"), count=None, firstTimestamp=None, lastTimestamp=None,
            eventTime="2026-01-02T03:00:00.123456Z",
            series={"count": 9, "lastObservedTime": "2026-01-02T03:09:00.5Z"},
        )
    )  # fmt: skip
    assert made is not None
    assert made.times == 9
    assert made.last is not None
    assert (made.last.minute, made.first and made.first.minute) == (9, 0)


def test_the_newest_come_first_and_no_more_than_a_thousand_are_read(tmp_path: Path) -> None:
    message = denial("host-network")
    every = [
        event(message, f"rs-{n}", lastTimestamp=f"2026-01-02T{n // 60:02}:{n % 60:02}:00Z")
        for n in range(1200)
    ]  # fmt: skip
    targets: list[str] = []

    def answer(request: HttpRequest) -> Reply:
        targets.append(request.target)
        start = int(request.target.partition("continue=")[2].partition("&")[0] or 0)
        meta = {"continue": str(start + 250), "remainingItemCount": 1200 - start - 250}
        return Reply(
            body={
                "metadata": meta if start + 250 < 1200 else {},
                "items": every[start : start + 250],
            }
        )

    with serving(answer, tmp_path) as server:
        found = denials.read(server.cluster)
    assert found.cut
    assert (len(found.all), len(targets)) == (1000, 4)
    assert found.all[0].name == "rs-999"
    assert "reason%3DFailedCreate" in targets[0]
