"""The parts of a container: flags, capabilities, references to variables, and mounts."""

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from webhook.policy.pod.memo import remembered

#: Variables that make a container run or load a program other than its image's. The last three
#: belong to iptables, which loads its extensions from there.
LOADER_ENV = ("LD_", "PATH", "XTABLES_LIBDIR", "IPTABLES_LIB_DIR", "IP6TABLES_LIB_DIR")


#: Flags with their values, and the arguments that are not known flags.
Flags = tuple[Mapping[str, str], tuple[str, ...]]
_NONE: frozenset[str] = frozenset()
#: The limits for the number of arguments and their total length in characters. Injectors use far
#: fewer.
_MOST_READ, _LONGEST_READ = 500, 65_536
#: The maximum number of references that are checked, and of unknown ones that are reported.
_MOST_REFERENCES, _MOST_UNKNOWN = 1_000, 20


def flags(args: Sequence[str], known: frozenset[str], switches: frozenset[str] = _NONE) -> Flags:
    """Return flags (`--flag value` or `--flag=value`) and the other arguments.

    `switches` are known flags that may have no value, which then is "true". A flag that is unknown,
    repeated or without a value is among the other arguments, because programs treat those
    differently.
    """
    if len(args) > _MOST_READ:
        return {}, (f"{len(args)} arguments",)
    # Each argument counts as one more character. Otherwise a million empty ones would have length
    # 0.
    size = len(args) + sum(map(len, args))
    if size > _LONGEST_READ:
        return {}, (f"arguments of {size} characters",)
    found: dict[str, str] = {}
    unexpected: list[str] = []
    last = ""
    for argument in args:
        name, equals, value = argument.partition("=")
        if last and not argument.startswith("-"):
            found[last] = argument
            last = ""
        elif last or name not in known or name in found:
            unexpected += [last, argument] if last else [argument]
            last = ""
        elif equals:
            found[name] = value
        elif name in switches:
            found[name] = "true"
        else:
            last = name
    return found, (*unexpected, last) if last else tuple(unexpected)


@remembered
def number(text: str) -> frozenset[int]:
    """Return the number if all programs read it alike. Some programs read 02102 as octal."""
    stripped = text.strip()
    plain = stripped.isascii() and stripped.isdecimal() and len(stripped) < 12
    return frozenset({int(stripped)} if plain and not stripped.startswith("0") else ())


def capability_names(capabilities: Collection[str] | None) -> set[str]:
    """Return capabilities as runtimes read them: in any case, with or without their prefix."""
    return {name.upper().removeprefix("CAP_") for name in capabilities or ()}


@remembered
def mount_path(written: str) -> str:
    """Return the normalized mount path: paths can be relative, /var/run can be a link."""
    path = posixpath.normpath("/" + written.lstrip("/"))
    return f"/var{path}" if path == "/run" or path.startswith("/run/") else path


def covers(written: str, guarded: Iterable[str]) -> bool:
    """Return whether a volume mounted at a path is at, above or below one of the folders."""
    path = mount_path(written)
    return path == "/" or any(
        path == folder or path.startswith(folder + "/") or folder.startswith(path + "/")
        for folder in guarded
    )


#: The maximum length of a displayed variable name, in characters.
_LONGEST_NAME = 253
#: A reference to another variable, which the kubelet expands. `$$(X)` is an escaped one, but it is
#: counted too.
_REFERENCE = re.compile(r"\$\(([^)]*)\)?")


def unknown_references(texts: Iterable[str], known: Collection[str]) -> set[str]:
    """Return the variables, except known ones, to which values or arguments refer.

    The kubelet expands `$(NAME)` after every webhook, so the expanded text is not judged. If there
    are too many references, all of them count as unknown, and only some are returned.
    """
    references = (found[1] for text in texts if "$(" in text for found in _REFERENCE.finditer(text))
    unknown: set[str] = set()
    for count, name in enumerate(references, 1):
        if name not in known:
            unknown.add(name[:_LONGEST_NAME])
        if count == _MOST_REFERENCES:
            unknown.add("...")
        if count == _MOST_REFERENCES or len(unknown) == _MOST_UNKNOWN:
            break
    return unknown
