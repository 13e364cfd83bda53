"""The program of a container, and what could make it run another one."""

import pytest

from webhook.policy.inputs.istio import GUARDED_PATHS
from webhook.policy.pod import containers

KNOWN = frozenset({"--port", "--uid", "--wait"})


@pytest.mark.parametrize(
    ("args", "flags", "odd"),
    [
        ([], {}, []),
        (["--port", "4143", "--uid=2102"], {"--port": "4143", "--uid": "2102"}, []),
        (["--uid="], {"--uid": ""}, []),
        (["--port", "1", "--port", "2"], {"--port": "1"}, ["--port", "2"]),
        (["--port=1", "--port=2"], {"--port": "1"}, ["--port=2"]),
        (["--help"], {}, ["--help"]),
        (["-p", "1"], {}, ["-p", "1"]),
        (["--port"], {}, ["--port"]),
        # One parser reads --uid as the value of --port, another as a flag.
        (["--port", "--uid", "2102"], {}, ["--port", "--uid", "2102"]),
        (["--", "--uid=1"], {"--uid": "1"}, ["--"]),
        (["help"], {}, ["help"]),
    ],
)
def test_arguments_that_are_not_known_flags_with_one_value_are_odd(
    args: list[str], flags: dict[str, str], odd: list[str]
) -> None:
    assert containers.flags(args, KNOWN) == (flags, tuple(odd))


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


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("$(POD_NAME).svc", set()),
        ("$(APP)", {"APP"}),
        ("a $(POD_NAME) $(APP) $(B)", {"APP", "B"}),
        ("$$(APP)", {"APP"}),
        ("$(", {""}),
        ("$(POD_NAME", set()),
        ("$APP ${APP}", set()),
    ],
)
def test_references_that_the_kubelet_fills_in_are_found(text: str, names: set[str]) -> None:
    assert containers.unknown_references([text], {"POD_NAME"}) == names


def test_capabilities_are_read_in_any_case_and_with_or_without_prefix() -> None:
    names = containers.capability_names(["cap_net_admin", "NET_RAW", "Cap_All"])
    assert names == {"NET_ADMIN", "NET_RAW", "ALL"}
    assert containers.capability_names(None) == set()
