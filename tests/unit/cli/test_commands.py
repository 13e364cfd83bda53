"""The command line as a process: output that can't be written, Ctrl-C, unknown commands."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from webhook.cli import main

COMMAND = (sys.executable, "-m", "webhook")
POD = """\
kind: Pod
metadata: {name: shop}
spec: {hostNetwork: true, containers: [{name: app, image: app}]}
"""


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    file = tmp_path / "pöd.yaml"
    file.write_text(POD)
    return file


def run(*arguments: str | Path, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    environment = {**os.environ, **options.pop("env", {})}
    return subprocess.run(
        [*COMMAND, *arguments], check=False, timeout=30, env=environment, **{**streams, **options}
    )


@pytest.mark.parametrize(
    "arguments",
    [("review", "-f"), ("review", "-o", "json", "-f"), ("review", "-o", "yaml", "-f"), ("--help",),
     ("--version",), ("review", "--help")],
)  # fmt: skip
def test_output_that_cannot_be_written_is_one_line_and_exit_code_2(
    pod: Path, arguments: tuple[str, ...]
) -> None:
    with open("/dev/full", "wb") as full:
        done = run(*arguments, *([pod] if arguments[-1] == "-f" else []), stdout=full)
    assert done.stderr == b"Error: can't write the output: No space left on device\n"
    assert done.returncode == 2


def test_no_place_for_the_error_either_is_exit_code_2_all_the_same(pod: Path) -> None:
    with open("/dev/full", "wb") as full:
        assert run("review", "-f", pod, stdout=full, stderr=full).returncode == 2
        assert run("review", "-f", "missing.yaml", stderr=full).returncode == 2


def test_what_an_encoding_lacks_is_printed_in_words(pod: Path) -> None:
    done = run("review", "-f", pod, env={"PYTHONIOENCODING": "ascii"})
    assert done.stdout.startswith(b"bad denied ")
    assert b"p?d.yaml" in done.stdout
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_output_for_machines_is_utf_8_in_any_encoding(pod: Path, form: str) -> None:
    done = run("review", "-o", form, "-f", pod, env={"PYTHONIOENCODING": "ascii"})
    assert "pöd.yaml#0" in done.stdout.decode()
    assert done.returncode == 1


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_closed_pipe_is_quiet(pod: Path, form: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        assert run("review", "-o", form, "-f", pod, stdout=pipe).stderr == b""


def test_ctrl_c_is_quiet_and_exit_code_130(tmp_path: Path) -> None:
    fifo = tmp_path / "pods.yaml"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [*COMMAND, "review", "-f", fifo], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with open(fifo, "wb"):  # waits until the command reads it
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=20)
    assert output == (b"", b"")
    assert process.returncode == 130


def test_standard_input_that_is_closed_is_reported(tmp_path: Path) -> None:
    line = 'exec "$@" <&-'
    done = subprocess.run(
        ["sh", "-c", line, "sh", *COMMAND, "review", "-f", "-"], check=False, capture_output=True
    )
    assert done.stderr == b"Error: can't read - (standard input): it is closed\n"
    assert done.returncode == 2


def test_standard_input_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    with open(tmp_path / "written", "wb") as written:
        done = run("review", "-f", "-", stdin=written)
    assert done.stderr == b"Error: can't read -: Bad file descriptor\n"
    assert done.returncode == 2


def test_an_unknown_command_is_reported_with_the_known_ones() -> None:
    outcome = CliRunner().invoke(main, ["reviw"])
    assert outcome.exit_code == 2
    message = 'Error: unknown command "reviw"; did you mean "review"? Commands: audit, completion, '
    assert message in outcome.stderr


def test_the_help_says_of_each_command_what_it_is_for() -> None:
    shown = CliRunner().invoke(main, ["--help"]).stdout
    assert (
        "  audit       Report which running pods are in the mesh, which are not, and why.\n"
        in shown
    )
    listed = shown.partition("Commands:\n")[2]
    for name in main.list_commands(None):  # type: ignore[arg-type]
        assert f"\n  {name} " in f"\n{listed}"
    assert "..." not in listed
