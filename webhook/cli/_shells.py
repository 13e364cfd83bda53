"""The shells' side of completion: what a script in bash, zsh or fish sends, and takes back.

click's own scripts and formats, but for two things: `--option=value` is completed too, and bash,
to which a colon ends a word, gets the rest of names such as those of EKS' contexts.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
from click.shell_completion import (
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

PROGRAM = "mendix-mesh"
#: Set by the scripts, as `bash_complete`.
VARIABLE = "_MENDIX_MESH_COMPLETE"

# `mendix-mesh` for an alias of it, which no program has as its name.
_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' program=$1 response type value
    type -P "$program" >/dev/null || program=%(prog_name)s
    response=$(env COMP_WORDS="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \
%(complete_var)s=bash_complete "$program" 2>/dev/null)
    COMPREPLY=()
    while IFS=',' read -r type value; do
        if [[ $type == file ]]; then
            compopt -o default 2>/dev/null
        elif [[ $type == plain ]]; then
            COMPREPLY+=("$value")
        fi
    done <<<"$response"
}

complete -o nosort -F %(complete_func)s %(prog_name)s 2>/dev/null ||
    complete -F %(complete_func)s %(prog_name)s
"""


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on standard error, from no library and no program: it would be in somebody's line."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class _Shell(ShellComplete):
    """What every shell gets: also values that are joined to their option by a =."""

    def complete(self) -> str:
        with _quiet():
            return super().complete()

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        found = super().get_completions(args, incomplete)
        option = re.match("--[^=]+=", incomplete)
        for item in found:
            if option and item.type == "plain":
                item.value = option[0] + item.value
        return found


class _Bash(_Shell):
    name = "bash"
    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)[1:]
        # Behind a space a new word begins.
        self._incomplete = words.pop() if words and not line[-1].isspace() else ""
        return words, self._incomplete

    def format_completion(self, item: CompletionItem[str]) -> str:
        breaks = re.escape("".join(set(":=") & set(os.environ.get("COMP_WORDBREAKS", ""))))
        head = re.match(f".*[{breaks}]", self._incomplete) if breaks else None
        value = item.value.removeprefix(head[0]) if head else item.value
        return f"{item.type},{value}"


class _Zsh(_Shell, ZshComplete):
    name = "zsh"


class _Fish(_Shell, FishComplete):
    name = "fish"


class _Kubectl(_Shell):
    """kubectl, which passes words as arguments, and takes lines as Cobra's programs write them.

    The last line is a directive: 0 has the shell complete files, 4 nothing else.
    """

    words: Sequence[str] = ()
    _has_files = False

    def complete(self) -> str:
        found = super().complete().splitlines()
        return "\n".join([*found, f":{0 if self._has_files else 4}"])

    def get_completion_args(self) -> tuple[list[str], str]:
        *before, incomplete = self.words or [""]
        return before, incomplete

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        found = super().get_completions(args, incomplete)
        self._has_files = any(item.type == "file" for item in found)
        return [item for item in found if item.type == "plain"]

    def format_completion(self, item: CompletionItem[str]) -> str:
        return f"{item.value}\t{item.help}" if item.help else item.value


_SHELLS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}
SHELLS = tuple(_SHELLS)


def register() -> None:
    """Have click use these where a script asks for completions."""
    for name, shell in _SHELLS.items():
        add_completion_class(shell, name)


def script(cli: click.Command, shell: str) -> str:
    """The script that makes a shell complete the command."""
    return _SHELLS[shell](cli, {}, PROGRAM, VARIABLE).source()


def for_kubectl(cli: click.Command, words: Sequence[str]) -> str:
    """What kubectl is answered that asks for the last word of these."""
    shell = _Kubectl(cli, {}, PROGRAM, VARIABLE)
    shell.words = words
    return shell.complete()
