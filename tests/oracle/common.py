"""What every mesh needs from a pod, in simple code that is independent of webhook/policy.

The oracle is the fuzzer's second opinion. It models what the mesh's programs do with a pod, not how
a pod should look. It complains only if traffic would really bypass the mesh, or if this depends on
others. A pod that can't start has no traffic and is fine.
"""

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

Json = dict[str, Any]

#: Capabilities to undo the redirection into the mesh, or to enter the node's network.
RIGHTS = {"ALL", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_MODULE"}


class Pod:
    """A stored pod as JSON, with its most used parts."""

    def __init__(self, document: Json) -> None:
        meta = document.get("metadata") or {}
        self.name: str = meta.get("name") or ""
        self.labels: dict[str, str] = meta.get("labels") or {}
        self.annotations: dict[str, str] = meta.get("annotations") or {}
        self.spec: Json = document.get("spec") or {}
        self.inits: list[Json] = self.spec.get("initContainers") or []
        self.mains: list[Json] = self.spec.get("containers") or []
        self.debuggers: list[Json] = self.spec.get("ephemeralContainers") or []

    @property
    def everything(self) -> list[Json]:
        """Return all containers of all three lists."""
        return [*self.inits, *self.mains, *self.debuggers]

    def named(self, *names: str) -> list[Json]:
        """Return the containers with one of these names."""
        return [container for container in self.everything if container["name"] in names]


def env(container: Json) -> dict[str, str | None]:
    """Return the variables. The last of a name counts. None means a value of another object."""
    return {
        entry["name"]: None if entry.get("valueFrom") else entry.get("value") or ""
        for entry in container.get("env") or ()
    }


def user(container: Json, field: str) -> int | None:
    """Return the container's own runAsUser or runAsGroup."""
    number: int | None = (container.get("securityContext") or {}).get(field)
    return number


def came_from(image: str, *trusted: str) -> bool:
    """Return whether an image belongs to one of these repositories, in any version."""
    for repository in trusted:
        rest = image.removeprefix(repository)
        if rest != image and (rest == "" or rest[0] in ":@") and "/" not in rest.split("@")[0]:
            return True
    return False


def node(pod: Pod) -> Iterator[str]:
    """Yield settings for which no mesh can capture traffic."""
    if pod.spec.get("hostNetwork"):
        yield "it is on the node's network"


def waits(command: list[str]) -> bool:
    """Return whether a hook only waits for the proxy, or only lets it finish."""
    if command[:1] == ["/usr/lib/linkerd/linkerd-await"]:
        return "--" not in command
    return (
        command[:1] in (["sleep"], ["/bin/sleep"])
        or command[:2] == ["pilot-agent", "wait"]
        or (command[:2] == ["pilot-agent", "request"] and command[-1:] == ["drain"])
        # A loop of the shell that looks for connections.
        or (command[1:2] == ["-c"] and set(_WORD.findall(" ".join(command[2:]))) <= LOOP)
    )


_WORD = re.compile("(?<![-a-z])[a-z/]{2,}")
LOOP = {"while", "until", "do", "done", "sleep", "ss", "netstat", "grep", "wc", "xargs", "true",
        "tcp", "envoy"}  # fmt: skip


def projected(source: Json, kind: str) -> bool:
    """Return whether a volume is projected from only one source, of this kind."""
    sources = (source.get("projected") or {}).get("sources") or []
    return len(sources) == 1 and set(sources[0]) == {kind}


def meddlers(pod: Pod, others: list[Json]) -> Iterator[str]:
    """Yield containers outside the mesh's own that have the rights to undo the redirection."""
    shared = pod.spec.get("shareProcessNamespace") or pod.spec.get("hostPID")
    for container in others:
        context = container.get("securityContext") or {}
        added = (context.get("capabilities") or {}).get("add") or ()
        rights = {right.upper().removeprefix("CAP_") for right in added}
        if context.get("privileged") or rights & RIGHTS:
            yield f"{container['name']} may undo the firewall"
        if "SYS_PTRACE" in rights and (shared or container.get("targetContainerName")):
            yield f"{container['name']} may enter the proxy"


def impostors(pod: Pod, others: list[Json], users: set[int], groups: set[int]) -> Iterator[str]:
    """Yield containers that the firewall treats as the proxy."""
    whole = pod.spec.get("securityContext") or {}
    for container in others:
        for field, numbers in (("runAsUser", users), ("runAsGroup", groups)):
            number = user(container, field)
            if (whole.get(field) if number is None else number) in numbers:
                yield f"{container['name']} passes for the proxy by its {field}"
    for number in (whole.get("fsGroup"), *(whole.get("supplementalGroups") or ())):
        if number in groups:
            yield f"any container can pass for the proxy by its group {number}"


def unnumbered(pod: Pod, others: list[Json], field: str, passing: set[int]) -> Iterator[str]:
    """Yield containers without a set user. Their images may use one that is not redirected."""
    whole = (pod.spec.get("securityContext") or {}).get(field)
    for container in others:
        if passing and whole is None and user(container, field) is None:
            yield f"{container['name']} may run as {sorted(passing)} by its {field}"


def thieves(others: list[Json], volumes: set[str]) -> Iterator[str]:
    """Yield containers that mount the proxy's own volumes."""
    for container in others:
        for mount in container.get("volumeMounts") or ():
            if mount["name"] in volumes:
                yield f"{container['name']} sees the proxy's {mount['name']}"


def expanded(container: Json, referred: set[str]) -> Iterator[str]:
    """Yield values and arguments with variables other than the usual ones, expanded later."""
    texts = [entry.get("value") or "" for entry in container.get("env") or ()]
    for text in (*texts, *(container.get("args") or ())):
        for reference in text.split("$(")[1:]:
            if reference.split(")")[0] not in referred:
                yield f"{container['name']} refers to {reference.split(')')[0]}"


def loaded(container: Json) -> Iterator[str]:
    """Yield settings that make a container load another program, or leave its isolation."""
    name = container["name"]
    if (container.get("securityContext") or {}).get("privileged"):
        yield f"{name} has the rights of its node"
    for variable in env(container):
        if variable == "PATH" or variable.startswith("LD_") or variable == "XTABLES_LIBDIR":
            yield f"{variable} makes {name} load another program"
    if container.get("envFrom"):
        yield f"{name} has variables that anyone may add to"
    for mount in container.get("volumeMounts") or ():
        folders = place(mount["mountPath"])
        if folders[:1] in ([], ["usr"], ["bin"], ["sbin"], ["lib"], ["lib64"]) or folders == [
            "etc"
        ]:
            yield f"{name} has a volume over its programs, at {mount['mountPath']}"


def renamed(pod: Pod, namespace: str) -> Iterator[str]:
    """Yield host names of the control plane that the pod resolves to another address."""
    listed = [alias.get("hostnames") or () for alias in pod.spec.get("hostAliases") or ()]
    own = (pod.spec.get(key) for key in ("hostnameOverride", "hostname"))
    itself = next(filter(None, own), pod.name)
    for host in [*chain.from_iterable(listed), itself]:
        if host.lower().split(".")[1:2] == [namespace]:
            yield f"{host} is who the pod's author says it is"


def lasting(pod: Pod, rules: tuple[str, ...]) -> Iterator[str]:
    """Yield containers that keep running and connect before anything is redirected."""
    names = [container["name"] for container in pod.inits]
    first = next((names.index(name) for name in rules if name in names), 0)
    for container in pod.inits[:first]:
        name = container["name"]
        own = name in rules or name.endswith("-proxy")
        if container.get("restartPolicy") == "Always" and not own:
            yield f"{name} connects before the rules are set, and stays"


def unexplained(  # noqa: C901 - one thing after another
    container: Json, untouched: Json, harmless: set[str], *, mounts: bool = True
) -> Iterator[str]:
    """Yield what one of the mesh's containers has in addition to the injector's result.

    `harmless` variables may differ, but only with plain values.
    """
    name = container["name"]
    known = {entry["name"]: entry for entry in untouched.get("env") or ()}
    for entry in container.get("env") or ():
        before = known.get(entry["name"])
        if entry == before:
            continue
        if entry["name"] not in harmless:
            yield f"{name} gets {entry['name']} from the author"
        elif entry.get("valueFrom") and entry.get("valueFrom") != (before or {}).get("valueFrom"):
            yield f"{name} gets {entry['name']} from another webhook"
        elif "$(" in (entry.get("value") or "") and "$(" not in ((before or {}).get("value") or ""):
            yield f"{name} gets {entry['name']}, which is set later"
    for field in ("command", "envFrom", "workingDir"):
        if container.get(field) and container.get(field) != untouched.get(field):
            yield f"{name} has another {field} than the injector gives it"
    for command in hooks(container):
        if command not in hooks(untouched) and not waits(command):
            yield f"{name} runs {' '.join(command)}"
    if mounts:
        places = [(m["name"], m["mountPath"]) for m in untouched.get("volumeMounts") or ()]
        for mount in container.get("volumeMounts") or ():
            if (mount["name"], mount["mountPath"]) not in places:
                yield f"{name} sees {mount['name']} at {mount['mountPath']}"


def refilled(pod: Pod, untouched: Pod, names: set[str]) -> Iterator[str]:
    """Yield the mesh's volumes whose source differs from the injector's."""
    known = {volume["name"]: volume for volume in untouched.spec.get("volumes") or ()}
    for volume in pod.spec.get("volumes") or ():
        before = known.get(volume["name"])
        if volume["name"] not in names or before in (None, volume):
            continue
        if before.get("emptyDir") is None or volume.get("emptyDir") is None:
            yield f"the volume {volume['name']} is filled by the author"


def place(path: str) -> list[str]:
    """Return the folders of a path, from the root down."""
    folders: list[str] = []
    for part in path.split("/"):
        if part == "..":
            folders = folders[:-1]
        elif part not in ("", "."):
            folders.append(part)
    return ["var", *folders] if folders[:1] == ["run"] else folders


def hooks(container: Json) -> list[list[str]]:
    """Return the commands that run in a container in addition to its own."""
    lifecycle = container.get("lifecycle") or {}
    handlers = [lifecycle.get("postStart"), lifecycle.get("preStop")]
    handlers += [container.get(f"{kind}Probe") for kind in ("liveness", "readiness", "startup")]
    found = [handler["exec"] for handler in handlers if handler and handler.get("exec")]
    return [hook.get("command") or [] for hook in found]


class Line:
    """A command line as pflag reads it. All these programs use pflag.

    `flags` contains the kind of each flag by its long name: "text", "list" (values add up) or
    "switch". `short` contains the long name of each letter. Unknown flags end the program with an
    error.
    """

    def __init__(self, args: list[str], flags: dict[str, str], short: dict[str, str]) -> None:
        self.values: dict[str, str] = {}
        self.fails = False
        self.helps = False
        self._flags = flags
        rest = list(args)
        while rest and not self.fails and not self.helps:
            word = rest.pop(0)
            if word == "--":
                break
            if word.startswith("--"):
                name, _, value = word[2:].partition("=")
                self._take(name, value if "=" in word else None, rest)
            elif word.startswith("-") and len(word) > 1:
                self._letters(word[1:], short, rest)

    def _letters(self, letters: str, short: dict[str, str], rest: list[str]) -> None:
        while letters and not self.fails and not self.helps:
            name, letters = short.get(letters[0], letters[0]), letters[1:]
            if self._flags.get(name) == "switch" and not letters.startswith("="):
                self._take(name, None, rest)
            else:
                self._take(name, letters.removeprefix("=") if letters else None, rest)
                letters = ""

    def _take(self, name: str, value: str | None, rest: list[str]) -> None:
        if name in ("help", "h"):
            self.helps = True
        elif name not in self._flags or (value is None and not rest and not self._switch(name)):
            self.fails = True
        else:
            if value is None:
                value = "true" if self._switch(name) else rest.pop(0)
            known = self.values.get(name)
            added = self._flags[name] == "list" and known
            self.values[name] = f"{known},{value}" if added else value

    def _switch(self, name: str) -> bool:
        return self._flags[name] == "switch"

    def value(self, name: str, otherwise: str = "") -> str:
        """Return the value of a flag."""
        return self.values.get(name, otherwise)

    def on(self, name: str) -> bool:
        """Return whether a switch is on, as Go reads it."""
        return is_true(self.value(name))


def is_true(text: str | None) -> bool:
    """Return whether Go's ParseBool reads a text as true."""
    return text in ("1", "t", "T", "TRUE", "true", "True")


def listed(text: str) -> list[str]:
    """Return the parts of a list, without blanks around them."""
    return [part.strip() for part in text.split(",") if part.strip()]
