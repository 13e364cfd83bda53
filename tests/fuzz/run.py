"""One run of the fuzzer for one mesh, in a process of its own.

What is fuzzed is imported late, for atheris to instrument it.
"""

import sys
import time
from typing import Any

import click


def _law(by: str, examples: int) -> Any:
    """The law of one mesh, as a test of hypothesis; imported late, to be instrumented."""
    from hypothesis import HealthCheck, given  # noqa: PLC0415
    from hypothesis import settings as configure  # noqa: PLC0415

    from tests.fuzz import edits  # noqa: PLC0415
    from tests.fuzz.law import holds  # noqa: PLC0415

    @configure(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(edits.pods(by))
    def law(pair: tuple[Any, Any]) -> None:
        holds(by, *pair)

    return law


def led(by: str, seconds: float) -> None:
    """Let atheris lead: it never returns, but ends the process."""
    import atheris  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

    with atheris.instrument_imports(include=["webhook.policy"]):
        law = _law(by, 1)
    options = [sys.argv[0], f"-max_total_time={int(seconds)}", "-max_len=8192", "-verbosity=1"]
    atheris.Setup(options, law.hypothesis.fuzz_one_input)
    atheris.Fuzz()


def tried(by: str, seconds: float) -> None:
    """Try pods in rounds until the time is up."""
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        _law(by, 1_000)()
        rounds += 1
    click.echo(f"{by}: {rounds},000 pods, and every one that was admitted satisfies the oracle")
