"""What a container runs, and what could make it run something else."""

import pytest

from webhook.policy import containers
from webhook.policy.objects import Container, Exec, Handler, Lifecycle

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
        # One parser takes --uid for the value of --port, another for a flag.
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


def test_hooks_are_the_commands_of_lifecycle_and_probes() -> None:
    def handler(*command: str) -> Handler:
        return Handler(Exec(list(command)))

    container = Container(
        lifecycle=Lifecycle(post_start=handler("a"), pre_stop=Handler()),
        liveness_probe=handler("b", "c"),
        readiness_probe=Handler(Exec()),
        startup_probe=handler("d"),
    )
    assert dict(containers.hooks(container)) == {
        "lifecycle.postStart.exec": ["a"],
        "livenessProbe.exec": ["b", "c"],
        "readinessProbe.exec": [],
        "startupProbe.exec": ["d"],
    }
    assert dict(containers.hooks(Container())) == {}


@pytest.mark.parametrize(
    ("path", "covers"),
    [
        ("/", True),
        ("", True),
        ("/usr/lib/linkerd", True),
        ("//usr/sbin/", True),
        ("usr/sbin", True),
        ("/var/../usr/bin", True),
        ("/lib64", True),
        ("/etc", True),
        ("/etc/ld.so.preload", True),
        ("/etc/ssl/certs", False),
        ("/var/run/linkerd/identity/end-entity", False),
        ("var/run/linkerd/podinfo", False),
        ("/run", False),
        ("/vault/secrets", False),
    ],
)
def test_a_volume_over_programs_or_libraries_is_noticed(path: str, covers: bool) -> None:
    assert containers.covers_programs(path) is covers


def test_capabilities_are_read_in_any_case_and_with_or_without_prefix() -> None:
    names = containers.capability_names(["cap_net_admin", "NET_RAW", "Cap_All"])
    assert names == {"NET_ADMIN", "NET_RAW", "ALL"}
    assert containers.capability_names(None) == set()


def test_neither_long_nor_many_arguments_are_remembered() -> None:
    before = containers._remembered.cache_info().currsize
    for args in ([""] * 5000, ["x" * 5000], ["xy"] * 1500):
        containers.flags(args, KNOWN)
    assert containers._remembered.cache_info().currsize == before
    containers.flags(["--port", "a port of this test alone"], KNOWN)
    assert containers._remembered.cache_info().currsize in (before + 1, containers._MOST)
