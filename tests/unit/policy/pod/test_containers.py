"""The program of a container, and what could make it run another one."""

import pytest

from webhook.policy.inputs.istio import GUARDED_PATHS
from webhook.policy.pod import containers

KNOWN = frozenset({"--port", "--uid", "--wait"})


@pytest.mark.parametrize(
    ("text", "number"),
    [("2102", {2102}), (" 2102 ", {2102}), ("02102", set()), ("0", set()), ("+1", set()),
     ("", set()), ("9" * 5000, set()), ("٢", set())],
)  # fmt: skip
def test_a_number_is_one_that_all_programs_read_alike(text: str, number: set[int]) -> None:
    assert containers.number(text) == number


@pytest.mark.parametrize(
    ("path", "covers"),
    [
        ("/", True),
        ("", True),
        ("/usr", True),
        ("//usr/sbin/", True),
        ("usr/sbin", True),
        ("/var/../usr/bin/envoy", True),
        ("/lib64", True),
        ("/etc", True),
        ("/etc/ld.so.preload", True),
        ("/run/secrets/istio", True),
        ("/var/lib/istio/envoy", True),
        ("/libs/wasm", False),
        ("/usrdata/lua", False),
        ("/binaries", False),
        ("/usr/local/share/lua", False),
        ("/vault/secrets", False),
    ],
)
def test_a_mount_at_above_or_below_a_guarded_folder_is_noticed(path: str, covers: bool) -> None:
    assert containers.covers(path, GUARDED_PATHS) is covers


def test_capabilities_are_read_in_any_case_and_with_or_without_prefix() -> None:
    names = containers.capability_names(["cap_net_admin", "NET_RAW", "Cap_All"])
    assert names == {"NET_ADMIN", "NET_RAW", "ALL"}
    assert containers.capability_names(None) == set()
