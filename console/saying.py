"""What engineers say of detections, for the pages and the HTTP interface alike: a record on the control topic.

given = say(settings, store, reading, "3fa2...", Said(value="expected", author="ada"))
"""

from typing import Annotated

from fastapi import HTTPException
from pydantic import Field

from console.reading import Reading, put
from console.store import Store
from contracts.base import Record
from contracts.records import Detection, Verdict, VerdictScope, VerdictValue
from contracts.settings import AppSettings
from models.verdicts import undone, verdict_on

NORMAL = ("false-positive", "expected")


class Say(Record):
    """A verdict as it is asked for."""

    value: VerdictValue
    author: str = Field(default="", max_length=100, examples=["ada"])
    """Who says it; those who are signed in may leave it out."""
    reason: str = Field(default="", max_length=500)
    scope: VerdictScope = "template"
    lasts_ms: Annotated[int, Field(ge=0)] = 0
    """From now on; 0: for ever. Only what is normal can be so for a time."""
    accepted_per_hour: Annotated[float, Field(ge=0)] = 0.0
    """So many findings an hour are accepted, ten times that is raised again; 0: however many."""


class Judge:
    """Takes verdicts and takes them back.

    Args:
        settings: where Kafka is.
        store: knows the detections.
        reading: knows what was said.
    """

    def __init__(self, settings: AppSettings, store: Store, reading: Reading) -> None:
        self._settings, self._store, self._reading = settings, store, reading

    def say(self, detection: str, asked: Say, now_ms: int) -> tuple[Detection, Verdict]:
        """Say what a detection is.

        Raises:
            HTTPException: 404: there is no such detection; 422: what cannot be normal is to be so for a time.
        """
        if (asked.lasts_ms or asked.accepted_per_hour) and asked.value not in NORMAL:
            raise HTTPException(422, "expires: only what is normal can be so for a time, or at a rate")
        found = self.found(detection)
        ends = now_ms + asked.lasts_ms if asked.lasts_ms else 0
        means = (asked.value, asked.reason, asked.author, now_ms)
        given = verdict_on(
            found,
            *means,
            scope=asked.scope,
            expires_ms=ends,
            accepted_per_hour=asked.accepted_per_hour,
            before=self._said(found),
        )
        self._put(given)
        return found, given

    def undo(self, detection: str, author: str, now_ms: int) -> tuple[Detection, Verdict]:
        """Take back what was said of a detection.

        Raises:
            HTTPException: 404: there is no such detection; 409: nothing is said of it.
        """
        found = self.found(detection)
        said = self._said(found)
        if said is None or said.undone_ms:
            raise HTTPException(409, f"nothing is said of {detection} that could be taken back")
        given = undone(said, author, now_ms)
        self._put(given)
        return found, given

    def found(self, name: str) -> Detection:
        """The detection of an id.

        Raises:
            HTTPException: 404: there is no such detection.
        """
        found = self._store.detection(name)
        if found is None:
            raise HTTPException(404, f"there is no detection {name}")
        return found

    def _said(self, found: Detection) -> Verdict | None:
        return self._reading.view.verdicts.get(found.service, {}).get((found.template, found.id))

    def _put(self, record: Verdict) -> None:
        put(self._settings, self._reading, record)
