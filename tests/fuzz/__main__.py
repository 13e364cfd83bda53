"""Fuzz policy for longer: `python -m tests.fuzz [--minutes N] [--mesh MESH]`.

A third of the time searches for the pod whose review takes longest. A tenth tests meshes with an
admin's own configuration, whose pods must not be denied.

With atheris (the extra `fuzz`: CPython on Linux, x86-64), the search is guided by the branches of
webhook/policy that a pod executes. Without it, hypothesis tries as many pods as the time allows.
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
    """Search for pods that policy admits although they bypass the mesh, or that take too long."""
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
    """Return whether a run succeeds. It has its own process, because atheris ends the process."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=(by, seconds))
    process.start()
    process.join()
    return process.exitcode == 0


if __name__ == "__main__":
    main()
