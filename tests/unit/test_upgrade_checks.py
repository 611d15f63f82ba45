"""What a savepoint holds against the job that is to go on from it: what does not fit is said before it is tried."""

import pytest

from contracts.service import ServiceSettings
from contracts.state import PARSER_STATE, SESSION_STATE
from models.sessions import SessionStateError, SessionTable
from parsing.parser import Parser, ParserStateError
from streaming.restore import UNSET, Operator, misfits, named


def saved(uid, state=None, parts=128):
    return Operator(uid, named(uid, state) if state else uid, 2, parts)


def new(uid, state=None, parallelism=2, parts=UNSET):
    return Operator(uid, named(uid, state) if state else uid, parallelism, parts)


KEPT = [saved("lines"), saved("parse", 1), saved("score", 2)]


def test_one_more_operator_and_another_parallelism_fit():
    assert misfits(KEPT, [new("lines"), new("parse", 1, 128), new("score", 2), new("more", 1)]) == []


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (
            [new("lines"), new("parse", 1)],
            "there is state of 'score', and this version has no such operator: start a version that has it, or give"
            " --allow-non-restored-state and lose that state.",
        ),
        (
            [new("lines"), new("parse", 1), new("score", 1)],
            "operator 'score' keeps state of format 2 there, this version reads format 1: start the newer version, or"
            " begin anew with --fresh.",
        ),
        (
            [new("lines"), new("parse", 3), new("score", 2)],
            "operator 'parse' keeps state of format 1 there, this version reads format 3: start the older version, or"
            " begin anew with --fresh.",
        ),
        (
            [new("lines", None, 200), new("parse", 1, 200), new("score", 2, 200)],
            "its state is in 128 parts, too few for parallelism 200: set flink.parallelism to 128 at most, or begin"
            " anew with --fresh.",
        ),
        (
            [new("lines", parts=64), new("parse", 1, parts=64), new("score", 2, parts=64)],
            "its state is in 128 parts, and this job asks for 64: leave pipeline.max-parallelism as it was, or begin"
            " anew with --fresh.",
        ),
    ],
)
def test_what_does_not_fit_is_said(job, said):
    assert misfits(KEPT, job) == [said]


def test_state_without_an_operator_may_be_dropped_but_newer_state_cannot_be_read():
    assert misfits(KEPT, [new("lines"), new("parse", 1)], drop=True) == []
    assert len(misfits(KEPT, [new("lines"), new("score", 1)], drop=True)) == 1


def next_format(state):
    return state[:4] + (int.from_bytes(state[4:6], "little") + 1).to_bytes(2, "little") + state[6:]


def test_newer_state_is_refused_with_both_formats_and_the_remedy():
    newer = next_format(SessionTable(3, 10, 10).dump())
    with pytest.raises(
        SessionStateError, match=rf"format {SESSION_STATE + 1}, .* format {SESSION_STATE}: start the version that wrote"
    ):
        SessionTable(3, 10, 10).load(newer)
    parser = Parser(ServiceSettings(service="pay"))
    with pytest.raises(
        ParserStateError, match=rf"format {PARSER_STATE + 1}, .* format {PARSER_STATE}: start the version that wrote"
    ):
        Parser(ServiceSettings(service="pay")).load(next_format(parser.dump()))
