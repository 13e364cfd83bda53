"""What a container runs: its flags, capabilities, references to variables, and mounts."""

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from webhook.policy.pod.memo import remembered

#: Variables that make a container run, or load, another program than its image's; the last three
#: are those of iptables, which loads its extensions.
LOADER_ENV = ("LD_", "PATH", "XTABLES_LIBDIR", "IPTABLES_LIB_DIR", "IP6TABLES_LIB_DIR")


#: Flags with their values, and the arguments that are no such flags.
Flags = tuple[Mapping[str, str], tuple[str, ...]]
_NONE: frozenset[str] = frozenset()
#: So many arguments, and characters of them in all, are read; no injector gives nearly as many.
_MOST_READ, _LONGEST_READ = 500, 65_536
#: References that are looked at, and unknown ones that are named.
_MOST_REFERENCES, _MOST_UNKNOWN = 1_000, 20


def flags(args: Sequence[str], known: frozenset[str], switches: frozenset[str] = _NONE) -> Flags:
    """Return flags (`--flag value` or `--flag=value`) and the other arguments.

    `switches` are those of the known flags that may stand without a value, which is then "true". A
    flag that is unknown, given twice or has no value is among the latter: programs differ in what
    they make of those.
    """
    if len(args) > _MOST_READ:
        return {}, (f"{len(args)} arguments",)
    # Each counts for one more, or a million empty ones would be short.
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
    """Return the number, if it is written as all programs read it alike: 02102 is octal to some."""
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
    """Return whether a volume that is mounted there is at, above or below one of the folders."""
    path = mount_path(written)
    return path == "/" or any(
        path == folder or path.startswith(folder + "/") or folder.startswith(path + "/")
        for folder in guarded
    )


#: Characters of a variable's name that are shown.
_LONGEST_NAME = 253
#: A reference to another variable, which the kubelet expands; `$$(X)` is none, but may be one more.
_REFERENCE = re.compile(r"\$\(([^)]*)\)?")


def unknown_references(texts: Iterable[str], known: Collection[str]) -> set[str]:
    """Return the variables, other than known ones, that values or arguments refer to.

    The kubelet expands `$(NAME)` after every webhook, so what the text becomes is not judged. Of
    very many references, some unknown ones are named; too many known ones are unknown themselves.
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
