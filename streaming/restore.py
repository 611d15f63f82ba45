"""A savepoint or checkpoint against the job that is to go on from it: what does not fit is said before it is tried.

    problems = misfits(saved_operators(address), graph_operators(graph))      # sentences; none: it fits

Flink says it later, when the job is in the cluster and fails, and by hashes; that bytes of ours are newer than this
code it cannot know. A savepoint names its operators by uid and name; the format of what an operator of ours keeps
stands in its name: *score (state 1)*.
"""

# PyFlink ships no types: what it hands out is Any at this edge.
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JJavaError
from pyflink.java_gateway import get_gateway

UNSET = -1
"""Greatest parallelism of an operator that takes over that of its state."""
_FORMAT = re.compile(r"\(state ([0-9]+)\)$")


class RestoreError(Exception):
    """There is no savepoint or checkpoint at an address, or Flink cannot read it."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator, saved or about to be started."""

    uid: str
    name: str
    parallelism: int
    max_parallelism: int
    """Parts that its state is cut into, fixed when the job first ran; ``UNSET`` where the job does not ask for any."""

    @property
    def format(self) -> int | None:
        """Format of what it keeps; None where it is Flink's own.

        >>> Operator("score", named("score", 3), 2, 128).format
        3
        """
        found = _FORMAT.search(self.name)
        return int(found[1]) if found else None


def named(uid: str, state_format: int) -> str:
    """Name of an operator that keeps state in an encoding of ours.

    >>> named("score", 1)
    'score (state 1)'
    """
    return f"{uid} (state {state_format})"


def misfits(saved: Iterable[Operator], new: Iterable[Operator], drop: bool = False) -> list[str]:
    """Say what of the saved state the new job cannot take over, each in a sentence with the remedy.

    Args:
        saved: the operators of a savepoint that keep something.
        new: all operators of the job that is to be started.
        drop: state that the new job has no operator for may be lost.
    """
    known = {operator.uid: operator for operator in new}
    problems, gone = [], []
    for old in saved:
        now = known.get(old.uid)
        if now is None:
            gone.append(repr(old.uid))
        else:
            problems += [*_formats(old, now), *_parts(old, now)]
    if gone and not drop:
        problems.append(
            f"there is state of {', '.join(sorted(gone))}, and this version has no such operator: start a version that"
            " has it, or give --allow-non-restored-state and lose that state."
        )
    return list(dict.fromkeys(problems))


def _formats(old: Operator, now: Operator) -> list[str]:
    if old.format is None or old.format == now.format:
        return []
    which = "newer" if old.format > (now.format or 0) else "older"
    return [
        f"operator {old.uid!r} keeps state of format {old.format} there, this version reads format {now.format}:"
        f" start the {which} version, or begin anew with --fresh."
    ]


def _parts(old: Operator, now: Operator) -> list[str]:
    if now.max_parallelism not in (UNSET, old.max_parallelism):
        return [
            f"its state is in {old.max_parallelism} parts, and this job asks for {now.max_parallelism}: leave"
            " pipeline.max-parallelism as it was, or begin anew with --fresh."
        ]
    if now.parallelism > old.max_parallelism:
        return [
            f"its state is in {old.max_parallelism} parts, too few for parallelism {now.parallelism}: set"
            f" flink.parallelism to {old.max_parallelism} at most, or begin anew with --fresh."
        ]
    return []


def saved_operators(address: str) -> list[Operator]:
    """The operators that keep something in a savepoint or checkpoint.

    Those without a uid are left out: all of ours have one.

    Raises:
        RestoreError: there is none at that address, or it cannot be read.
    """
    jvm = get_gateway().jvm
    runtime = jvm.org.apache.flink.runtime
    try:
        place = runtime.state.filesystem.AbstractFsCheckpointStorageAccess.resolveCheckpointPointer(address)
        stream = jvm.java.io.DataInputStream(place.getMetadataHandle().openInputStream())
        try:
            loader = jvm.Thread.currentThread().getContextClassLoader()
            metadata = runtime.checkpoint.Checkpoints.loadCheckpointMetadata(stream, loader, address)
        finally:
            stream.close()
    except Py4JJavaError as error:
        raise RestoreError(str(error.java_exception.getMessage())) from error
    return [
        Operator(state.getOperatorUid().get(), state.getOperatorName().orElse(""), *_parallelism(state))
        for state in metadata.getOperatorStates().toArray()
        if state.getOperatorUid().isPresent() and _keeps(state)
    ]


def graph_operators(graph: Any) -> list[Operator]:  # noqa: ANN401
    """The operators with a uid of a Java ``StreamGraph``."""
    return [
        Operator(node.getTransformationUID(), node.getOperatorName(), *_parallelism(node))
        for node in graph.getStreamNodes().toArray()
        if node.getTransformationUID()
    ]


def _keeps(state: Any) -> bool:  # noqa: ANN401
    """As Flink asks, before it refuses to leave an operator's state behind."""
    return state.getCoordinatorState() is not None or any(part.hasState() for part in state.getStates().toArray())


def _parallelism(operator: Any) -> tuple[int, int]:  # noqa: ANN401
    return operator.getParallelism(), operator.getMaxParallelism()
