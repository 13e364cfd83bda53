"""The reader of Dockerfiles: what it fills in, and what it refuses to pass over."""

from pathlib import Path

import pytest

from tests.image.dockerfile import DockerfileError, read


def write(folder: Path, text: str) -> Path:
    file = folder / "Dockerfile"
    file.write_text(text)
    return file


def test_variables_of_a_stage_are_filled_in_if_a_builder_would(tmp_path: Path) -> None:
    text = """
ARG BASE=python:1
FROM ${BASE} AS first
ARG WHERE=/src
ARG NOT_GIVEN
# A comment
ENV A=1 \\
    B="two words"
COPY a b ${WHERE}/
RUN set -e; \\
    echo "$A ${WHERE}"
FROM first
ENTRYPOINT ["run"]
CMD ["--help"]
"""
    first, last = read(write(tmp_path, text))
    assert (first.name, first.base) == ("first", "python:1")
    assert [(step.instruction, step.text) for step in first.steps] == [
        ("COPY", "a b /src/"),
        ("RUN", 'set -e;     echo "$A ${WHERE}"'),
    ]
    assert first.steps[1].arguments == {"WHERE": "/src", "A": "1", "B": "two words"}
    assert (last.base, last.env) == ("first", {"A": "1", "B": "two words"})
    assert (last.entrypoint, last.command) == (["run"], ["--help"])


@pytest.mark.parametrize(
    "text",
    ["FROM a\nADD b /", "FROM a\nSHELL ['bash']", "FROM ${NOWHERE}", "FROM a\nCOPY b ${WHERE}"],
)
def test_unknown_steps_are_rejected(tmp_path: Path, text: str) -> None:
    with pytest.raises(DockerfileError):
        read(write(tmp_path, text))
