"""Runs docs/quickstart.md as a reader does, and compares each output with the one on the page."""

import re
import time
from collections.abc import Callable
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"
#: Not run: it would replace the command that the tests run. tests/image installs the package.
NOT_RUN = {"pipx install ."}

#: A block of commands, and the block of its output if one follows.
_STEP = re.compile(r"```sh\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)
#: Commands that only read, so they can be run again until the cluster has settled.
_READS = re.compile(r"mendix-mesh audit |kubectl .* --dry-run=server ")


class UnlikeError(AssertionError):
    """Raised if an output is not the one on the page."""


def steps() -> list[tuple[str, str]]:
    """Return the command of each step that is run, and the output that the page shows."""
    found = [(command.strip(), output) for command, output in _STEP.findall(PAGE.read_text())]
    assert all("\n" not in command for command, _ in found), "one command for each block"
    return [step for step in found if step[0] not in NOT_RUN]


def is_like(printed: str, shown: str, namespace: str) -> bool:
    """Return whether an output is as the page shows it.

    A line `…` stands for any lines, and … within a line for any text. The widths of columns do not
    count.
    """
    pattern = ""
    for line in shown.splitlines():
        if line == "…":
            pattern += r"(?:.*\n)*?"
            continue
        words = re.escape(" ".join(line.split())).replace("…", ".*")
        # The title of a column is NAMESPACE, too.
        pattern += words.replace("NAMESPACE", f"(?:NAMESPACE|{re.escape(namespace)})") + r"\n"
    text = "".join(f"{' '.join(line.split())}\n" for line in printed.strip().splitlines())
    return bool(re.fullmatch(pattern, text))


def follow(run: Callable[[str], str], namespace: str, *, patience: float = 30) -> float:
    """Run each step and return the seconds of all. Raise UnlikeError if an output is unlike."""
    started = time.monotonic()
    for command, shown in steps():
        end = time.monotonic() + patience
        reads = bool(_READS.match(command))
        # Exit code 1 is what they report.
        typed = f"{command} || test $? = 1" if reads else command
        while not is_like(printed := run(typed), shown, namespace):
            if not reads or time.monotonic() > end:
                raise UnlikeError(f"$ {command}\nprinted:\n{printed}\nthe page:\n{shown}")
            time.sleep(1)
    return time.monotonic() - started
