"""Fuzz policy for longer: `python -m tests.fuzz [--minutes N] [--mesh MESH]`.

With atheris (`pip install 'mendix-mesh[fuzz]'`: CPython on Linux) the search is led by the branches
of webhook/policy that a pod reaches; without it hypothesis tries as many pods as the time allows.
What is found is shown as the smallest pod that shows it, and kept in .hypothesis for `make unit`.
"""

import importlib.util
import multiprocessing

import click

from tests.fuzz import run


@click.command()
@click.option("--minutes", default=10.0, show_default=True, help="For how long, in all.")
@click.option(
    "--mesh",
    "meshes",
    multiple=True,
    type=click.Choice(["linkerd", "istio", "ambient"]),
    help="Which mesh; all if not given.",
)
def main(minutes: float, meshes: tuple[str, ...]) -> None:
    """Look for pods that policy admits though their traffic goes past the mesh."""
    chosen = meshes or ("linkerd", "istio", "ambient")
    atheris = importlib.util.find_spec("atheris") is not None
    click.echo(f"Led by {'atheris' if atheris else 'hypothesis alone'}: {', '.join(chosen)}.")
    failed = []
    for by in chosen:
        # A process of its own for each: atheris ends it.
        process = multiprocessing.get_context("spawn").Process(
            target=run.led if atheris else run.tried, args=(by, minutes * 60 / len(chosen))
        )
        process.start()
        process.join()
        if process.exitcode:
            failed.append(by)
    if failed:
        raise SystemExit(f"The law does not hold for: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
