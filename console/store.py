"""What the pages show, as a projection in SQLite: it can be deleted, and is then made again from Kafka.

    store = Store(path)
    store.add(detections, {("logcanary.detections", 0): 17}, view)
    store.alerts(Query(state="open"), limit=50)

An alert is all detections of one service with one signature; its count, times, newest and worst finding are kept as
they come, so that a page costs what it shows and not how much there is.
"""

import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from contracts.records import Deed, Detection, Verdict
from models.alerts import Alert, group
from models.verdicts import SETTLED
from storage.control import ControlView

FORMAT = 2
"""Of the tables; a store of another format is made anew."""
MEMBERS = 200
"""Newest findings of an alert that a page shows, and that decide about its state."""
HOUR_MS = 3_600_000
PAGE = 50
"""Alerts a page."""
SPARK_HOURS = 24
_SETTLED = ("confirmed", *SETTLED)
_SCHEMA = f"""
PRAGMA user_version = {FORMAT};
CREATE TABLE detections (
    id TEXT PRIMARY KEY, service TEXT NOT NULL, signature TEXT NOT NULL, surprise REAL NOT NULL,
    event_ms INTEGER NOT NULL, record TEXT NOT NULL);
CREATE INDEX of_alert ON detections (service, signature, event_ms);
CREATE TABLE alerts (
    service TEXT NOT NULL, signature TEXT NOT NULL, template TEXT NOT NULL, detector TEXT NOT NULL,
    level TEXT NOT NULL, count INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
    surprise REAL NOT NULL, headline TEXT NOT NULL, state TEXT NOT NULL, settled INTEGER NOT NULL,
    PRIMARY KEY (service, signature));
CREATE INDEX by_need ON alerts (settled, last_ms DESC, service, signature);
CREATE INDEX by_service ON alerts (service, settled, last_ms DESC, signature);
CREATE INDEX by_template ON alerts (service, template);
CREATE TABLE hours (
    service TEXT NOT NULL, signature TEXT NOT NULL, hour INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (service, signature, hour)) WITHOUT ROWID;
CREATE INDEX by_hour ON hours (hour, service, count);
CREATE TABLE deeds (at_ms INTEGER NOT NULL, place TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (at_ms, place));
CREATE TABLE positions (topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, partition));
"""
_LAST_DAY = (
    "service = ?1 AND event_ms > (SELECT max(last_ms) FROM alerts WHERE service = ?1) - ?2 "
    "AND json_extract(record, '$.kind') != 'trace'"
)


@dataclass(frozen=True, slots=True)
class Row:
    """An alert as the list shows it."""

    service: str
    signature: str
    detector: str
    level: str
    count: int
    first_ms: int
    last_ms: int
    headline: str
    state: str
    template: str


@dataclass(frozen=True, slots=True)
class Query:
    """Which alerts: all conditions that are given hold."""

    service: str = ""
    state: str = ""
    words: str = ""
    """Part of the headline, whatever its case."""
    after: str = ""
    """``Row`` that the page before ended with, as ``cursor`` writes it."""


def cursor(row: Row) -> str:
    """Where the next page begins."""
    settled = int(row.state in _SETTLED)
    return f"{settled}.{row.last_ms}.{row.service}.{row.signature}"


class Store:
    """The projection in one file; every thread has a connection of its own.

    Args:
        path: of the file; it and its folder are made where they are not there.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._local = path, threading.local()
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as db:
            made = db.execute("PRAGMA user_version").fetchone()[0]
        if made != FORMAT:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            with closing(sqlite3.connect(path)) as db:
                db.execute("PRAGMA journal_mode = WAL")
                db.executescript(_SCHEMA)

    def _db(self) -> sqlite3.Connection:
        if (found := getattr(self._local, "db", None)) is None:
            found = self._local.db = sqlite3.connect(self._path, timeout=30)
            found.execute("PRAGMA synchronous = NORMAL")
        assert isinstance(found, sqlite3.Connection)
        return found

    def close(self) -> None:
        """Close this thread's connection."""
        if (found := getattr(self._local, "db", None)) is not None:
            found.close()
            self._local.db = None

    # -- written by the one thread that reads Kafka ------------------------------------------------------------------

    def positions(self) -> dict[tuple[str, int], int]:
        """The next offset of each partition."""
        rows = self._db().execute("SELECT topic, partition, next FROM positions")
        return {(topic, partition): following for topic, partition, following in rows}

    def add(self, detections: Sequence[Detection], positions: Mapping[tuple[str, int], int], view: ControlView) -> None:
        """Take in detections, and where the topic is read on; both or neither.

        Args:
            detections: in any order; one that is there already counts once, the more surprising copy holds.
            positions: the next offset of each partition.
            view: of the control topic, for the alerts' states.
        """
        with self._db() as db:
            touched = {(found.service, found.signature) for found in detections if self._insert(db, found)}
            for service, signature in touched:
                self._state(db, service, signature, view)
            self._read_on(db, positions)

    def keep(self, deeds: Mapping[str, Deed], positions: Mapping[tuple[str, int], int]) -> None:
        """Take in what was done in the console, by its place on the topic."""
        with self._db() as db:
            rows = [(deed.at_ms, place, deed.model_dump_json()) for place, deed in deeds.items()]
            db.executemany("INSERT OR IGNORE INTO deeds VALUES (?, ?, ?)", rows)
            self._read_on(db, positions)

    @staticmethod
    def _read_on(db: sqlite3.Connection, positions: Mapping[tuple[str, int], int]) -> None:
        rows = [(topic, partition, following) for (topic, partition), following in positions.items()]
        db.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", rows)

    def say(self, verdicts: Iterable[Verdict], view: ControlView) -> None:
        """Bring the states of the alerts up to date that verdicts may be about."""
        with self._db() as db:
            for service, template in {(one.service, one.template) for one in verdicts}:
                root = view.resolve(service, template)
                alike = {
                    template,
                    root,
                    *(key for key in view.templates.get(service, ()) if view.resolve(service, key) == root),
                }
                for name in alike:
                    rows = db.execute(
                        "SELECT signature FROM alerts WHERE service = ? AND template = ?", (service, name)
                    ).fetchall()
                    for (signature,) in rows:
                        self._state(db, service, signature, view)

    def _insert(self, db: sqlite3.Connection, found: Detection) -> bool:
        """Take in one detection; says whether the alert has changed."""
        known = db.execute("SELECT surprise FROM detections WHERE id = ?", (found.id,)).fetchone()
        if known is not None and known[0] > found.surprise:
            return False
        row = (found.id, found.service, found.signature, found.surprise, found.event_ms, found.model_dump_json())
        db.execute("INSERT OR REPLACE INTO detections VALUES (?, ?, ?, ?, ?, ?)", row)
        new = int(known is None)
        db.execute(
            "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, 'open', 0) ON CONFLICT DO UPDATE SET "
            "count = count + ?, first_ms = min(first_ms, excluded.first_ms), last_ms = max(last_ms, excluded.last_ms), "
            "headline = CASE WHEN excluded.surprise > surprise THEN excluded.headline ELSE headline END, "
            "surprise = max(surprise, excluded.surprise)",
            (
                *(found.service, found.signature, found.template, found.detector, found.level),
                *(found.event_ms, found.event_ms, found.surprise, found.headline, new),
            ),
        )
        hour = found.event_ms // HOUR_MS
        db.execute(
            "INSERT INTO hours VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            (found.service, found.signature, hour, new),
        )
        return True

    def _state(self, db: sqlite3.Connection, service: str, signature: str, view: ControlView) -> None:
        state = "open"  # of whatever nobody has said a word about: a flood must not be read again with each batch
        if view.verdicts.get(service):
            state = self._grouped(self._members(db, service, signature), view).state
        change = (state, int(state in _SETTLED), service, signature)
        db.execute("UPDATE alerts SET state = ?, settled = ? WHERE service = ? AND signature = ?", change)

    # -- read by the pages -------------------------------------------------------------------------------------------

    def alerts(self, query: Query, limit: int = 50) -> list[Row]:
        """Alerts that need somebody first, the latest first; ``limit`` at most."""
        where, values = _conditions(query)
        rows = self._db().execute(
            "SELECT service, signature, detector, level, count, first_ms, last_ms, headline, state, template "
            f"FROM alerts WHERE {where} ORDER BY settled, last_ms DESC, service, signature LIMIT ?",
            (*values, limit),
        )
        return [Row(*row) for row in rows]

    def open_count(self) -> int:
        """Alerts that need somebody."""
        return int(self._db().execute("SELECT count(*) FROM alerts WHERE settled = 0").fetchone()[0])

    def hours(self, most: int = 8) -> list[tuple[str, list[int]]]:
        """Findings in each of the last hours by service, those with the most first: [SPARK_HOURS] counts each."""
        newest = self._db().execute("SELECT max(last_ms) FROM alerts").fetchone()[0]
        if newest is None:
            return []
        last = newest // HOUR_MS
        found: dict[str, list[int]] = {}
        rows = self._db().execute(
            "SELECT service, hour, sum(count) FROM hours WHERE hour > ? AND hour <= ? GROUP BY service, hour",
            (last - SPARK_HOURS, last),
        )
        for service, hour, count in rows:
            found.setdefault(service, [0] * SPARK_HOURS)[hour - last + SPARK_HOURS - 1] = count
        return sorted(found.items(), key=lambda pair: (-sum(pair[1]), pair[0]))[:most]

    def surprises(self, service: str) -> list[float]:
        """How surprising the findings of a service's last day with findings were, in nats; those on traces left out."""
        rows = self._db().execute(f"SELECT surprise FROM detections WHERE {_LAST_DAY}", (service, 24 * HOUR_MS))
        return [surprise for (surprise,) in rows]

    def above(self, service: str, score: float) -> tuple[int, int]:
        """Alerts and findings of the last day of a service's findings with this score or more.

        Findings on traces have scores of their own, and are not counted.
        """
        rows = self._db().execute(
            "SELECT count(DISTINCT signature), count(*) FROM detections "
            f"WHERE {_LAST_DAY} AND json_extract(record, '$.score') >= ?3",
            (service, 24 * HOUR_MS, score),
        )
        alerts, findings = rows.fetchone()
        return int(alerts), int(findings)

    def deeds(self, after: str = "", limit: int = PAGE) -> list[tuple[str, Deed]]:
        """What was done in the console, the latest first, each with the cursor behind it.

        Raises:
            ValueError: ``after`` is no cursor.
        """
        at_ms, _, place = after.partition(".")
        before = (int(at_ms), place) if after else (2**62, "")
        rows = self._db().execute(
            "SELECT at_ms, place, record FROM deeds WHERE (at_ms, place) < (?, ?) "
            "ORDER BY at_ms DESC, place DESC LIMIT ?",
            (*before, limit),
        )
        return [(f"{at}.{place}", Deed.model_validate_json(record)) for at, place, record in rows]

    def spark(self, row: Row) -> list[int]:
        """Findings in each of the last hours of an alert's event time, the oldest first: [SPARK_HOURS]."""
        last = row.last_ms // HOUR_MS
        rows = self._db().execute(
            "SELECT hour, count FROM hours WHERE service = ? AND signature = ? AND hour > ?",
            (row.service, row.signature, last - SPARK_HOURS),
        )
        found = dict(rows.fetchall())
        return [found.get(hour, 0) for hour in range(last - SPARK_HOURS + 1, last + 1)]

    def alert(self, service: str, signature: str, view: ControlView) -> tuple[Alert, list[Detection]] | None:
        """An alert with its newest findings, the latest first; None: there is none."""
        members = self._members(self._db(), service, signature)
        return (self._grouped(members, view), members) if members else None

    def detection(self, name: str) -> Detection | None:
        """The detection of an id; None: there is none."""
        row = self._db().execute("SELECT record FROM detections WHERE id = ?", (name,)).fetchone()
        return Detection.model_validate_json(row[0]) if row else None

    def detections(self, service: str = "", after: int = 0, limit: int = 500) -> tuple[list[Detection], int]:
        """Detections in the order in which they came, and the cursor behind the last; 0: there are no more.

        Args:
            service: whose; empty: all.
            after: the cursor of the page before.
            limit: so many at most.
        """
        rows = self._db().execute(
            "SELECT rowid, record FROM detections WHERE rowid > ?1 AND (?2 = '' OR service = ?2) "
            "ORDER BY rowid LIMIT ?3",
            (after, service, limit),
        )
        found = rows.fetchall()
        cursor = found[-1][0] if len(found) == limit else 0
        return [Detection.model_validate_json(record) for _, record in found], cursor

    @staticmethod
    def _members(db: sqlite3.Connection, service: str, signature: str) -> list[Detection]:
        rows = db.execute(
            "SELECT record FROM detections WHERE service = ? AND signature = ? ORDER BY event_ms DESC LIMIT ?",
            (service, signature, MEMBERS),
        )
        return [Detection.model_validate_json(record) for (record,) in rows]

    @staticmethod
    def _grouped(members: Sequence[Detection], view: ControlView) -> Alert:
        service = members[0].service
        said = view.verdicts.get(service, {}).values()
        return group(members, said, view.resolve)[0]


def _conditions(query: Query) -> tuple[str, list[object]]:
    where, values = ["1"], list[object]()
    if query.service:
        where.append("service = ?")
        values.append(query.service)
    if query.state == "needs-review":
        where.append("settled = 0")
    elif query.state:
        where.append("state = ?")
        values.append(query.state)
    if query.words:
        where.append("instr(lower(headline), lower(?)) > 0")
        values.append(query.words)
    if query.after:
        settled, last_ms, rest = query.after.split(".", 2)
        service, _, signature = rest.rpartition(".")
        where.append("(settled, -last_ms, service, signature) > (?, ?, ?, ?)")
        values += [int(settled), -int(last_ms), service, signature]
    return " AND ".join(where), values
