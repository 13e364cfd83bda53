"""One run of the fuzzer for one mesh, in its own process.

The fuzzed modules are imported late, so that atheris can instrument them.
"""

import logging
import sys
import tempfile
import time
from typing import Any

import click


def _law(by: str, examples: int) -> Any:
    """Return the rule for one mesh as a hypothesis test."""
    from hypothesis import HealthCheck, given  # noqa: PLC0415
    from hypothesis import settings as configure  # noqa: PLC0415

    from tests.fuzz import edits  # noqa: PLC0415
    from tests.fuzz.law import holds  # noqa: PLC0415
    from webhook.policy import checks, meshes, settings  # noqa: PLC0415

    # loads the modules of checks and meshes, which otherwise load at the first use
    checks.all_checks()
    meshes.load(settings.Settings())

    @configure(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(edits.lives(by))
    def law(life: edits.Life) -> None:
        holds(by, life)

    return law


def led(by: str, seconds: float) -> None:
    """Run atheris. It never returns: it ends the process, with an error if it found a pod.

    Hypothesis stores such a pod, so `tried` immediately shows a small one.
    """
    import atheris  # noqa: PLC0415

    with atheris.instrument_imports(include=["webhook.policy"]):
        law = _law(by, 1)
    options = [f"-max_total_time={int(seconds)}", "-max_len=8192", "-len_control=0",
               "-print_final_stats=1", f"-artifact_prefix={tempfile.gettempdir()}/"]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], law.hypothesis.fuzz_one_input)
    atheris.Fuzz()


def tried(by: str, seconds: float) -> None:
    """Try pods in rounds until the time is over. The smallest failing pod is shown."""
    end, rounds = time.monotonic() + seconds, 0
    while rounds == 0 or time.monotonic() < end:
        _law(by, 1_000)()
        rounds += 1
    click.echo(f"{by}: {rounds},000 pods, and every one that was admitted satisfies the oracle")


def admitted(by: str, seconds: float) -> None:
    """Try many configurations of meshes until the time is over. No pod must be denied."""
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
    """Search for the pod whose review takes longest. Fail if it takes too long."""
    from hypothesis import HealthCheck, Phase, given, target  # noqa: PLC0415
    from hypothesis import settings as configure  # noqa: PLC0415

    from tests.fuzz import costly as search  # noqa: PLC0415

    # Each review would log why the pod is denied.
    logging.disable(logging.CRITICAL)
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
