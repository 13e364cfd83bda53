"""Read a Dockerfile: its stages, and in each the instructions in order, with variables filled in.

Only what ours uses is known; anything else is refused, so that no step is passed over in silence.
"""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_STEPS = ("RUN", "COPY")
_SETTINGS = ("ENV", "LABEL", "USER", "EXPOSE", "ENTRYPOINT", "CMD")


class DockerfileError(Exception):
    """The Dockerfile says something that this reader does not know; the message quotes it."""


@dataclass(frozen=True)
class Step:
    """An instruction that changes files."""

    instruction: str  # RUN or COPY
    text: str  # of RUN: the shell's command; of COPY: its arguments
    arguments: dict[str, str]  # ARG and ENV as they stand at this step


@dataclass
class Stage:
    """One FROM and what follows it."""

    name: str
    base: str  # an image, or the name of an earlier stage
    steps: list[Step] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    user: str = ""
    ports: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def read(path: Path) -> list[Stage]:
    """Return the stages of a Dockerfile, the last of which is the image."""
    stages: list[Stage] = []
    given: dict[str, str] = {}  # ARG before the first FROM
    here: dict[str, str] = {}  # ARG and ENV of the stage
    for instruction, rest in _instructions(path.read_text()):
        if instruction == "ARG":
            # Without a default, and not given, a variable is not set.
            name, has_default, default = rest.partition("=")
            (here if stages else given).update({name: default} if has_default else {})
        elif instruction == "FROM":
            base, _, name = _filled(rest, given).partition(" AS ")
            stages.append(Stage(name or f"stage-{len(stages)}", base))
            parent = next((stage for stage in stages if stage.name == base), None)
            stages[-1].env.update(parent.env if parent else {})
            here = dict(stages[-1].env)
        elif instruction in _STEPS:
            text = rest if instruction == "RUN" else _filled(rest, here)
            stages[-1].steps.append(Step(instruction, text, dict(here)))
        elif instruction in _SETTINGS:
            _set(stages[-1], instruction, _filled(rest, here))
            here |= stages[-1].env
        else:
            raise DockerfileError(f"{path}: {instruction} {rest}")
    return stages


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield instruction and arguments; a line that ends in a backslash goes on in the next."""
    lines = [line for line in text.splitlines() if not re.match(r"\s*(#|$)", line)]
    for line in re.split(r"(?<!\\)\n", "\n".join(lines)):
        instruction, _, rest = line.strip().partition(" ")
        # To the shell a continued line is one line, as it is here.
        yield instruction.upper(), re.sub(r"\\\n", "", rest).strip()


def _filled(text: str, variables: dict[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        try:
            return variables[found[1]]
        except KeyError:
            raise DockerfileError(f"{text}: nothing is known of {found[0]}") from None

    return re.sub(r"\$\{(\w+)\}", value, text)


def _set(stage: Stage, instruction: str, rest: str) -> None:
    if instruction in ("ENV", "LABEL"):
        pairs = dict(pair.split("=", 1) for pair in shlex.split(rest))
        (stage.env if instruction == "ENV" else stage.labels).update(pairs)
    elif instruction == "USER":
        stage.user = rest
    elif instruction == "EXPOSE":
        stage.ports += rest.split()
    elif instruction == "ENTRYPOINT":
        stage.entrypoint = json.loads(rest)
    else:
        stage.command = json.loads(rest)
