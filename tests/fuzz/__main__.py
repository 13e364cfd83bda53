"""Fuzz policy for longer: `python -m tests.fuzz [--minutes N] [--mesh MESH]`.

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
    """Look for pods that policy admits though their traffic goes past the mesh."""
    chosen = meshes or MESHES
    with_atheris = importlib.util.find_spec("atheris") is not None
    leader = "atheris" if with_atheris else "hypothesis alone"
    click.echo(f"Led by {leader}, {minutes:g} minutes: {', '.join(chosen)}.")
    failed = []
    for by in chosen:
        seconds = minutes * 60 / len(chosen)
        if not _ended_well(run.led if with_atheris else run.tried, by, seconds):
            failed.append(by)
            if with_atheris:
                _ended_well(run.tried, by, 0)
    if failed:
        raise SystemExit(f"Policy admits what goes past the mesh: {', '.join(failed)}.")
    click.echo("Whatever was admitted satisfies the oracle.")


def _ended_well(target: Callable[[str, float], None], by: str, seconds: float) -> bool:
    """Run in a process of its own, which atheris ends."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=(by, seconds))
    process.start()
    process.join()
    return process.exitcode == 0


if __name__ == "__main__":
    main()
