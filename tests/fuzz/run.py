"""One run of the fuzzer for one mesh, in a process of its own.

What is fuzzed is imported late, for atheris to instrument it.
"""

import logging
import sys
import tempfile
import time
from typing import Any

import click


def _law(by: str, examples: int) -> Any:
    """The law of one mesh, as a test of hypothesis."""
    from hypothesis import HealthCheck, given  # noqa: PLC0415
    from hypothesis import settings as configure  # noqa: PLC0415

    from tests.fuzz import edits  # noqa: PLC0415
    from tests.fuzz.law import holds  # noqa: PLC0415
    from webhook.policy import checks, meshes, settings  # noqa: PLC0415

    checks.all_checks()  # their modules, and the meshes', are loaded when they are first asked for
    meshes.load(settings.Settings())

    @configure(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(edits.lives(by))
    def law(life: edits.Life) -> None:
        holds(by, life)

    return law


def led(by: str, seconds: float) -> None:
    """Let atheris lead: it never returns, but ends the process, badly if it found a pod.

    Hypothesis remembers such a pod, so that `tried` shows a small one at once.
    """
    import atheris  # noqa: PLC0415

    with atheris.instrument_imports(include=["webhook.policy"]):
        law = _law(by, 1)
    options = [f"-max_total_time={int(seconds)}", "-max_len=8192", "-len_control=0",
               "-print_final_stats=1", f"-artifact_prefix={tempfile.gettempdir()}/"]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], law.hypothesis.fuzz_one_input)
    atheris.Fuzz()


def tried(by: str, seconds: float) -> None:
    """Try pods in rounds until the time is up; the smallest that breaks the law is shown."""
    end, rounds = time.monotonic() + seconds, 0
    while rounds == 0 or time.monotonic() < end:
        _law(by, 1_000)()
        rounds += 1
    click.echo(f"{by}: {rounds},000 pods, and every one that was admitted satisfies the oracle")


def admitted(by: str, seconds: float) -> None:
    """Try meshes that an admin configured in many ways until the time is up: no pod is denied."""
    from hypothesis import HealthCheck, given  # noqa: PLC0415
    from hypothesis import settings as configure  # noqa: PLC0415

    from tests.fuzz import admins  # noqa: PLC0415
    from tests.fuzz.law import admits  # noqa: PLC0415

    @configure(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
    @given(admins.pods(by))
    def law(pod: Any) -> None:
        admits(by, pod)

    end, rounds = time.monotonic() + seconds, 0
    while rounds == 0 or time.monotonic() < end:
        law()
        rounds += 1
    click.echo(f"{by}: {rounds * 500:,} meshes, and no pod denied for what their admin configured")


def costly(by: str, seconds: float) -> None:
    """Look for the pod whose review takes longest; fail if it takes too long."""
    import structlog  # noqa: PLC0415
    from hypothesis import HealthCheck, Phase, given, target  # noqa: PLC0415
    from hypothesis import settings as configure  # noqa: PLC0415

    from tests.fuzz import costly as search  # noqa: PLC0415

    # Each review would log why it is denied.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    found: list[search.Cost] = []
    end = time.monotonic() + seconds

    @configure(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck),
               phases=[Phase.generate, Phase.target], database=None)  # fmt: skip
    @given(search.recipes())
    def look(recipe: list[tuple[str, int]]) -> None:
        if found and time.monotonic() > end:
            return
        cost = search.cost(by, recipe)
        target(cost.seconds)
        found.append(cost)

    while not found or time.monotonic() < end:
        look()
    worst = max(found)
    again = min(search.cost(by, list(worst.what)) for _ in range(3))
    click.echo(f"{by}: the longest review of {len(found):,} pods took {worst}; again {again}")
    if again.seconds > search.limit():
        raise SystemExit(f"A review may take {search.MOST} s.")
