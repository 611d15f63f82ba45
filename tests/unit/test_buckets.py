"""A bucket's state: a whole and what changed since; what is written stays in proportion to what changes."""

import pytest
from test_models_support import random_log

from contracts.service import SessionOptions
from models.sessions import SessionStateError
from streaming.buckets import MOST_CHANGES, SMALL, Bucket, Saved

OPTIONS = SessionOptions(gap_seconds=60)
WINDOW = 4


class Log:
    """What Flink would keep of one bucket."""

    def __init__(self):
        self.whole, self.changes, self.written, self.wholes, self.most = b"", [], 0, 0, 0

    def keep(self, whole, change):
        if whole is not None:
            self.whole, self.changes = whole, []
            self.wholes += 1
        elif change is not None:
            self.changes.append(change)
        self.written += len(whole or change or b"")
        self.most = max(self.most, len(self.whole) + sum(map(len, self.changes)))

    @property
    def saved(self):
        return Saved(self.whole, list(self.changes))


def feed(bucket, events, log=None, step=40):
    """Everything that is over, as names and lengths; saved after each batch."""
    found = []
    for start in range(0, len(events), step):
        part = events.slice(start, min(start + step, len(events)))
        windows = bucket.table.extend(part)
        sessions, rows = bucket.finished(part, windows)
        assert [windows.ends.session[row] for row in rows.tolist()] == sessions.names
        found += sorted(zip(sessions.names, sessions.lengths.tolist(), strict=True))
        if log is not None:
            log.keep(*bucket.save())
    return found


def test_a_bucket_goes_on_from_what_was_saved_wherever_it_was_cut():
    events = random_log(2_000, 300, seed=1)
    undisturbed = feed(Bucket(WINDOW, OPTIONS), events)
    assert len(undisturbed) > 200
    for cut in (40, 800, 1_960):
        log = Log()
        before = feed(Bucket(WINDOW, OPTIONS), events.slice(0, cut), log)
        again = Bucket.restored(log.saved, WINDOW, OPTIONS)
        assert before + feed(again, events.slice(cut, len(events)), log) == undisturbed


def test_what_is_written_is_no_more_than_thrice_what_changed():
    log, changed = Log(), 0
    bucket = Bucket(WINDOW, SessionOptions(gap_seconds=1e9))
    events = random_log(40_000, 4_000, seed=2)
    for start in range(0, len(events), 200):
        part = events.slice(start, start + 200)
        bucket.finished(part, bucket.table.extend(part))
        whole, change = bucket.save()
        changed += len(change or b"")
        log.keep(whole, change)
    assert log.wholes > 1
    assert log.written < 3 * changed
    assert log.most < 2 * max(len(log.whole), SMALL) + SMALL


def test_changes_do_not_grow_in_number_without_end():
    log, bucket = Log(), Bucket(WINDOW, OPTIONS)
    most = 0
    for start in range(0, 2 * MOST_CHANGES + 10):
        part = random_log(1, 1, seed=start)
        bucket.finished(part, bucket.table.extend(part))
        log.keep(*bucket.save())
        most = max(most, len(log.changes))
    assert log.wholes >= 1
    assert most <= MOST_CHANGES


def test_another_length_of_history_is_saved_as_a_whole():
    log, bucket = Log(), Bucket(WINDOW, OPTIONS)
    feed(bucket, random_log(80, 9), log)
    bucket.resize(WINDOW + 2, OPTIONS)
    assert bucket.rewritten
    log.keep(*bucket.save())
    assert log.wholes == 1
    assert not bucket.rewritten
    assert Bucket.restored(log.saved, WINDOW + 2, OPTIONS).table.window == WINDOW + 2


def test_damaged_state_is_refused():
    log, bucket = Log(), Bucket(WINDOW, OPTIONS)
    feed(bucket, random_log(80, 9), log)
    bucket.resize(WINDOW, OPTIONS)
    log.keep(*bucket.save())
    for damaged in (log.whole[:-1], log.whole + b"\0\0\0\0", b"LCSE" + log.whole):
        with pytest.raises(SessionStateError):
            Bucket.restored(Saved(damaged, []), WINDOW, OPTIONS)
