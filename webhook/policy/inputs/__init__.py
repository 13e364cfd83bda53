"""What a pod's author may set: an allow-list of annotations and labels, with typed values.

Injectors, CNI plugins, agents and control planes read a pod's annotations and labels. The list has
each key that they read, the form of its values, and its effect. If a key belongs to a domain that a
mesh reads and is not in the list, it is not allowed. So the list also covers keys that a mesh will
read in the future.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from webhook.policy.inputs.forms import Form
from webhook.policy.settings import Annotation

#: The default check that reports an input.
CHECK = "input-not-allowed"

#: harmless: each value of the form is admitted. bypass: it makes traffic bypass the proxy, and a
#: check compares it with what the settings allow. admin: only the mesh's own value is admitted.
#: injector: only the mesh's programs set it, after the author.
May = Literal["harmless", "bypass", "admin", "injector"]


class Input(NamedTuple):
    """An annotation or label that a mesh reads."""

    form: Form
    may: May = "harmless"
    check: str = CHECK
    #: What the author has to do about a wrong value, if the form's words are not enough.
    fix: str = ""


class Domains:
    """The keys that a mesh reads, listed or not: by their start, their domain, or a pattern.

    This is data, because the chart's CEL conditions are generated from it. So a pattern uses the
    common syntax of Python's `re` and RE2. It matches the start of a key.
    """

    __slots__ = ("_match", "below", "pattern", "starts")

    def __init__(self, *starts: str, below: str = "", pattern: str = "") -> None:
        self.starts = starts
        #: Subdomains: the text between the first part of a domain and the name, `.istio.io/`.
        self.below = below
        self.pattern = pattern
        self._match = re.compile(pattern, re.ASCII).match if pattern else None

    def __contains__(self, key: str) -> bool:
        """Return whether the mesh reads a key like this one."""
        return (
            key.startswith(self.starts)
            or (self.below != "" and self.below in key)
            or (self._match is not None and self._match(key) is not None)
        )


class Problem(NamedTuple):
    """What is wrong with an input, as a text, and who must fix it."""

    check: str
    reason: str
    fix: str
    #: Whether the value could change the injector's template.
    splits: bool = False


class Inputs:
    """The annotations, or the labels, that authors of pods of one mesh may set."""

    def __init__(
        self,
        mesh: str,
        listed: Mapping[str, Input],
        reads: Domains,
        *,
        prefixes: Mapping[str, Input] | None = None,
        own: Mapping[str, Form] | None = None,
        allowed: Sequence[Annotation] = (),
    ) -> None:
        """Bind the list to a mesh's settings.

        - `reads` are the domains of keys that the mesh reads.
        - `prefixes` are inputs whose keys only have a common prefix.
        - `own` are the forms of the mesh's own values, if the settings define them.
        - `allowed` are the keys that an admin adds.
        """
        self._setting = f"settings.{'linkerd' if mesh == 'linkerd' else 'istio'}.annotations"
        self._mesh = mesh
        self.listed = {**listed}
        for key, form in (own or {}).items():
            self.listed[key] = self.listed[key]._replace(form=form)
        self.prefixes = prefixes or {}
        self.reads = reads
        self._allowed = {one.key: frozenset(one.values) for one in allowed}
        self._remembered = lru_cache(maxsize=1024)(self._problem)

    def problem(self, key: str, value: str, *, submitted: bool) -> Problem | None:
        """Return what is wrong with a key and its value; None if nothing is wrong.

        `submitted` means that no program of the mesh has seen the pod yet.
        """
        # Do not cache a long value.
        if key not in self.listed and key not in self.reads:
            return None
        if len(key) + len(value) > _LONGEST_REMEMBERED:
            return self._problem(key, value, submitted)
        return self._remembered(key, value, submitted)

    def _problem(self, key: str, value: str, submitted: bool) -> Problem | None:
        allowed = self._allowed.get(key)
        found = self.listed.get(key)
        if allowed is not None and (not allowed or value in allowed):
            form = found.form if found and found.form.pattern else None
            if allowed or form is None or not (form.wrong(value) and form.can_split(value)):
                return None
            # An admin who allows any value does not mean this one.
            fix = "author: remove quotes, backslashes and line breaks"
            return Problem(CHECK, "could change the injector's template", fix, splits=True)
        if found is None:
            found = next(
                (one for start, one in self.prefixes.items() if key.startswith(start)), None
            )
        if found is None:
            return Problem(
                CHECK,
                f"is unknown to mendix-mesh and can change what {self._mesh} does",
                f"author: remove it; admin: add it to {self._setting} if it is harmless",
            )
        if found.may == "injector" and submitted:
            return Problem(
                found.check, f"must only be set by {self._mesh} itself", "author: remove it"
            )
        wrong = found.form.wrong(value)
        if not wrong:
            return None
        splits = found.form.can_split(value)
        if found.may == "admin":
            return Problem(
                found.check,
                f"must only be set by {self._mesh}'s admin, for the whole mesh",
                f"author: remove it; admin: add it to {self._setting} if it is harmless",
                splits,
            )
        fix = found.fix or f"author: set it to {found.form.words}, or remove it"
        return Problem(found.check, "; ".join(wrong[:_MOST_REASONS]), fix, splits)


#: The maximum length of a cached key and value in characters, and the maximum number of reasons per
#: input.
_LONGEST_REMEMBERED, _MOST_REASONS = 384, 3
