"""Records that go on with the one before: a stack trace sent line by line, a line that a container runtime has cut.

They are told by their shape, never by a missing header, and all have one template, so that neither the depth nor the
way of a stack makes templates. They stay events (every line is accounted for), but no session has them: what a sequence
model sees of a stack is the line that it belongs to. The line that names what was thrown
(``java.io.IOException: gone``, ``ValueError: bad``, ``panic: ...``) is no continuation: it says what happened, and may
be all there is.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from parsing.events import Events
from parsing.unwrap import Pieces

CONTINUATION_TEMPLATE = 3
"""Template id of all continuations (0 is padding, 1 the end, 2 the overflow)."""
CONTINUATION_TEXT = "<CONTINUATION>"

_CLASS = r"[A-Za-z_$][A-Za-z0-9_$]*(?:\.[A-Za-z0-9_$]+)+"
_JAR = r"(?: ~?\[.*\])?"  # the package that logback writes behind a frame
# What is part of a stack whatever comes before it.
_FRAMES = (
    rf"[ \t]+at [^ \t()]+\([^()]*\)(?: in .*:line [0-9]+)?{_JAR}",  # Java, .NET
    rf"at [^ \t()]+\((?:[^ ()]+\.[a-z]+(?::[0-9]+)?|Native Method|Unknown Source)\){_JAR}",  # Java, blanks cut off
    r"[ \t]+at [^()]+ \((?:.*:[0-9]+:[0-9]+|<anonymous>|index [0-9]+|native)\)",  # JavaScript
    r"[ \t]+at (?:async )?[^ ()]+:[0-9]+:[0-9]+",
    rf"[ \t]*(?:Caused by|Suppressed): {_CLASS}(?:: .*)?",
    r"[ \t]*\.\.\. [0-9]+ (?:more|common frames omitted)",
    r"[ \t]*--- End of (?:stack trace from previous location|inner exception stack trace).*",
    r"(?:During handling of the above exception, another exception occurred"
    r"|The above exception was the direct cause of the following exception):",
    r"[ \t]+\[Previous line repeated [0-9]+ more times?\]",
    r"[ \t]+(?:[0-9]+: )?from [^ ]+:[0-9]+:in [`'].*'",  # Ruby
    r"#[0-9]+ (?:\{main\}|[^ ]+\([0-9]+\): .*|\[internal function\]: .*)",  # PHP
)
# What is so too, and may be followed by lines that are part of a stack only there: code, carets, calls.
_OPENERS = (
    r"[ |+-]*(?:Exception Group )?Traceback \(most recent call last\):",
    r'[ |]+File "[^"]+", line [0-9]+(?:, in .*)?',
    r"goroutine [0-9]+ \[[^\]]*\]:",
    r"\t[^ \t]+\.(?:go|s|c):[0-9]+(?: \+0x[0-9a-f]+)?",
    r"created by [^ ]+(?: in goroutine [0-9]+)?",
    r"stack backtrace:",  # Rust
)
_FOLLOWERS = (
    r"[ |]{4,}[^ ].*",
    r" +[0-9]+: .*",
    r"[A-Za-z_][A-Za-z0-9_./@%~-]*\.[A-Za-z0-9_.*()\[\]{},<>-]+\(.*\)",  # main.(*Server).serve(0xc0000b2000, 0x1)
)
_STARTS = ("at", "Ca", "Su", "Du", "Th", "Tr", "..", "--", "go", "cr", "st", *(f"#{digit}" for digit in range(10)))
_BLANKS = " \t|+"
_MAY_BE = np.zeros(1 << 16, dtype=np.bool_)  # by the first byte, and the second times 256
_MAY_BE[[ord(start[0]) + 256 * ord(start[1]) for start in _STARTS]] = True
_MAY_BE[[ord(blank) + 256 * second for blank in _BLANKS for second in range(256)]] = True
_MAY_BE_TEXT = rf"^(?:[{_BLANKS}]|#[0-9]|{'|'.join(start.replace('.', '[.]') for start in _STARTS if start[0] != '#')})"


def _any(name: str, shapes: tuple[str, ...]) -> pl.Expr:
    return pl.col("text").str.contains(rf"^(?:{'|'.join(shapes)})$").alias(name)


_SHAPES = (_any("frame", _FRAMES), _any("opener", _OPENERS), _any("follower", _FOLLOWERS))
_OTHER, _FRAME, _OPENER, _FOLLOWER = range(4)

Flags = NDArray[np.bool_]


@dataclass(slots=True)
class Continuations:
    """Tells continuations in the lines of one partition, batch by batch.

    ``state`` is all that is remembered. Bit 0: the stack is open to lines that are part of one only there; bits 1 and
    2: the last line of stdout and of stderr was cut and goes on.
    """

    state: int = 0

    def find(
        self, text: pl.Series, starts: NDArray[np.uint16] | None, pieces: Pieces | None, bare: Flags | None = None
    ) -> Flags | None:
        """Say which lines go on with one before them: [n], or None where none does.

        Args:
            text: [n] the lines' own texts, without JSON and stamps, first lines only.
            starts: [n] their first two bytes (``parsing.decode.Text``), where they are known.
            pieces: what a container runtime has cut.
            bare: [n] which lines have no header: one that has does not go on with another. None: none has.
        """
        if not len(text):
            return None
        found = self._stacks(text, starts, bare)
        if pieces is not None:
            cut = self._cut(pieces)
            found = cut if found is None else found | cut
        if found is not None and bare is not None:
            found &= bare
        return found if found is not None and found.any() else None

    def _stacks(self, text: pl.Series, starts: NDArray[np.uint16] | None, bare: Flags | None) -> Flags | None:
        """Find the lines of stacks among those whose first two bytes allow it, and those right behind them."""
        if bare is not None and not bare.any():
            self.state &= ~1
            return None
        may = text.str.contains(_MAY_BE_TEXT).to_numpy() if starts is None else _MAY_BE[starts]
        if bare is not None:
            may = may & bare
        if not may.any() and not self.state & 1:
            return None
        behind = np.concatenate([[bool(self.state & 1)], may[:-1]])
        rows = np.flatnonzero(may | behind if bare is None else (may | behind) & bare)
        shapes = text[pl.Series(rows)].alias("text").to_frame().select_seq(_SHAPES)
        kinds = np.full(len(text), _OTHER)
        for name, kind in (("follower", _FOLLOWER), ("opener", _OPENER), ("frame", _FRAME)):
            kinds[rows[shapes[name].to_numpy()]] = kind
        # What comes before a run of followers says whether they are part of it.
        before = np.maximum.accumulate(np.where(kinds == _FOLLOWER, -1, np.arange(len(text))))
        is_open = np.where(before < 0, bool(self.state & 1), kinds[before] == _OPENER)
        self.state = self.state & ~1 | int(is_open[-1])
        found: Flags = (kinds == _FRAME) | (kinds == _OPENER) | ((kinds == _FOLLOWER) & is_open)
        return found

    def _cut(self, pieces: Pieces) -> Flags:
        """Find the lines whose predecessor in their stream was cut."""
        found = np.zeros(len(pieces.streams), dtype=np.bool_)
        for stream in (0, 1):
            rows = np.flatnonzero(pieces.streams == stream)
            if len(rows):
                bit = 2 << stream
                found[rows[0]] = bool(self.state & bit)
                found[rows[1:]] = pieces.unfinished[rows[:-1]]
                self.state = self.state & ~bit | bit * int(pieces.unfinished[rows[-1]])
        return found


def told(events: Events) -> NDArray[np.int64]:
    """Return the rows of events that are no continuations, which is what sessions are made of: [m]."""
    return np.flatnonzero(events.template_ids() != CONTINUATION_TEMPLATE)
