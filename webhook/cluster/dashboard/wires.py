"""What was seen on the wire between workloads, for the picture; where it comes from is not told.

Without such evidence the picture says what must be, and that nobody has looked.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

#: mtls: the mesh's mutual TLS, all of it. mixed: some. plaintext: none. unknown: nobody looked, or
#: nothing was sent. leaves: to where no mesh reaches.
How = Literal["mtls", "mixed", "plaintext", "unknown", "leaves"]


class Wire(NamedTuple):
    """Requests and connections from a workload to another."""

    source_namespace: str
    #: Empty where nobody knows who it was.
    source: str
    namespace: str
    workload: str
    mutual: int
    plaintext: int
    #: Of these the proxy did not say.
    unknown: int

    @property
    def how(self) -> How:
        """What it shows."""
        if self.plaintext:
            return "mixed" if self.mutual else "plaintext"
        return "mtls" if self.mutual and not self.unknown else "unknown"


#: Gives the wires to and from the workloads of a namespace; None where nobody looks at traffic.
Wires = Callable[[str], Sequence[Wire] | None]


def nowhere(_namespace: str) -> None:
    """No evidence: nobody looks at traffic."""


def together(wires: Sequence[Wire]) -> tuple[How, str]:
    """What some wires show, and in what words; unknown without any."""
    mutual = sum(wire.mutual for wire in wires)
    plaintext = sum(wire.plaintext for wire in wires)
    unknown = sum(wire.unknown for wire in wires)
    total = mutual + plaintext + unknown
    if not total:
        return "unknown", "nothing was seen on the wire"
    how = Wire("", "", "", "", mutual, plaintext, unknown).how
    if how == "unknown":
        return how, f"of {unknown:,} of {total:,} the proxies do not say"
    return how, f"seen on the wire: {mutual:,} of {total:,} in mutual TLS"
