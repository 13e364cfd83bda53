"""Fuzz policy for longer: `python -m tests.fuzz [--minutes N] [--mesh MESH]`.

A third of the time goes to the pod whose review takes longest, a tenth to meshes that an admin
configured in some way of his, whose pods must not be denied.

With atheris (the extra `fuzz`: CPython on Linux, x86-64) the search is led by the branches of
webhook/policy that a pod takes; without it hypothesis tries as many pods as the time allows.
"""

import importlib.util
import multiprocessing
from collections.abc import Callable

import click

from tests.fuzz import run

MESHES = ("linkerd", "istio", "ambient")


@click.command()
@click.option("--minutes", default=10.0, show_default=True, help="For how long, in all.")
@click.option(
    "--mesh",
    "meshes",
    multiple=True,
    type=click.Choice(MESHES),
    help="Which mesh; all if not given.",
)
def main(minutes: float, meshes: tuple[str, ...]) -> None:
    """Look for pods that policy admits though they get past the mesh, or that cost much."""
    chosen = meshes or MESHES
    with_atheris = importlib.util.find_spec("atheris") is not None
    leader = "atheris" if with_atheris else "hypothesis alone"
    click.echo(f"Led by {leader}, {minutes:g} minutes: {', '.join(chosen)}.")
    failed = []
    for by in chosen:
        seconds = minutes * 60 / len(chosen)
        if not _ended_well(run.led if with_atheris else run.tried, by, seconds * 0.55):
            failed.append(f"policy admits what goes past {by}")
            if with_atheris:
                _ended_well(run.tried, by, 0)
        if not _ended_well(run.costly, by, seconds / 3):
            failed.append(f"a review for {by} takes too long")
        if not _ended_well(run.admitted, by, seconds / 10):
            failed.append(f"policy denies what {by}'s admin configured")
    if failed:
        raise SystemExit(f"Found: {'; '.join(failed)}.")
    click.echo("Whatever was admitted satisfies the oracle, and no review takes too long.")


def _ended_well(target: Callable[[str, float], None], by: str, seconds: float) -> bool:
    """Run in a process of its own, which atheris ends."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=(by, seconds))
    process.start()
    process.join()
    return process.exitcode == 0


if __name__ == "__main__":
    main()
