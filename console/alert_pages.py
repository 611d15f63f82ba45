"""Pages of alerts: those that need somebody first, what is known of each, and what engineers say of it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, get_args
from urllib.parse import quote, urlencode

from fastapi import Form, HTTPException, Query, Request
from fastapi.responses import RedirectResponse, Response

from console import forms
from console.audit import acting
from console.lines import REACH, Around, around, near
from console.saying import Judge, Say
from console.site import Author, Routes, Service, Site, Text, now_ms
from console.store import PAGE, Row, cursor
from console.store import Query as Asked
from console.timeline import Timeline, timeline
from contracts.records import WHOLE_KINDS, Detection, VerdictScope, VerdictValue
from storage.broker import KafkaError

SHOWN_FINDINGS = 20
PATIENCE_SECONDS = 1.5
"""An alert's page waits so long for lines of the topic, and goes without a timeline else."""
STATES = ("needs-review", "open", "escalated", "unsure", "confirmed", "false-positive", "expected")
HALF_HOUR_MS = 1_800_000
DAY_MS = 86_400_000
EXPIRIES = {"": 0, "1d": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS}


class AlertPages:
    """Alerts, and verdicts on them."""

    def __init__(self, site: Site) -> None:
        self._site, self.judge = site, Judge(site.settings, site.store, site.reading)
        self._readers = ThreadPoolExecutor(4, "timeline")
        self.views: Routes = {
            "/ui/alerts": self.alerts,
            "/ui/alerts/{service}/{signature}": self.alert,
            "/ui/detections/{detection}/lines": self.lines,
        }
        self.acts: Routes = {
            "/ui/detections/{detection}/verdict": self.verdict,
            "/ui/detections/{detection}/undo": self.undo,
        }

    def alerts(
        self,
        request: Request,
        service: Annotated[str, Query(max_length=201)] = "",
        state: Annotated[str, Query(max_length=20)] = "",
        words: Annotated[str, Query(max_length=200)] = "",
        after: Annotated[str, Query(max_length=300)] = "",
    ) -> Response:
        """Alerts by need, then by time; filters and page are in the address."""
        asked = Asked(service=service, state=state, words=words, after=after)
        rows = self.rows(asked)
        more = (
            urlencode({"service": service, "state": state, "words": words, "after": cursor(rows[PAGE - 1])})
            if len(rows) > PAGE
            else ""
        )
        return self._site.page(
            request,
            "alerts.html",
            rows=[(row, self._site.store.spark(row)) for row in rows[:PAGE]],
            hours=self._site.store.hours(),
            look=self._site.pulse.last,
            asked=asked,
            states=STATES,
            more=more,
            address=str(request.url.path) + (f"?{request.url.query}" if request.url.query else ""),
        )

    def rows(self, asked: Asked) -> list[Row]:
        """A page of alerts, and one more where another page follows.

        Raises:
            HTTPException: 422: the cursor is none.
        """
        try:
            return self._site.store.alerts(asked, PAGE + 1)
        except ValueError:
            raise HTTPException(422, "after: this is no page's end; leave it out to begin anew") from None

    def alert(self, request: Request, service: Service, signature: str) -> Response:
        """What is known of one alert."""
        found = self._site.store.alert(service, signature, self._site.reading.view)
        if found is None:
            raise HTTPException(404, f"{service} has no alert {signature}")
        alert, members = found
        verdicts = self._site.reading.view.verdicts.get(service, {})
        said = [one for one in verdicts.values() if one.detection in {member.id for member in members}]
        return self._site.page(
            request,
            "alert.html",
            alert=alert,
            shown=alert.newest,
            others=members[:SHOWN_FINDINGS],
            said=sorted({one.detection: one for one in (*alert.said, *said)}.values(), key=lambda one: -one.given_ms),
            values=get_args(VerdictValue),
            scopes=get_args(VerdictScope),
            expiries=EXPIRIES,
            dashboard=self._dashboard(alert.newest),
            drawn=self._drawn(alert.newest),
            in_catalogue=alert.newest.template in self._site.reading.view.templates.get(service, {}),
        )

    def verdict(
        self,
        request: Request,
        detection: str,
        value: Annotated[VerdictValue, Form()],
        token: Text,
        author: Author = "",
        reason: Text = "",
        scope: Annotated[VerdictScope, Form()] = "template",
        expires: Annotated[str, Form()] = "",
    ) -> Response:
        """Say what a detection is."""
        forms.check(request, token)
        if expires not in EXPIRIES:
            raise HTTPException(422, f"expires: one of {', '.join(filter(None, EXPIRIES))}, or empty")
        author = acting(request, author, said(value, scope, reason))
        asked = Say(value=value, author=author, reason=reason, scope=scope, lasts_ms=EXPIRIES[expires])
        return self._back(self.judge.say(detection, asked, now_ms())[0])

    def undo(self, request: Request, detection: str, token: Text, author: Author = "") -> Response:
        """Take back what was said of a detection."""
        forms.check(request, token)
        author = acting(request, author, "taken back")
        return self._back(self.judge.undo(detection, author, now_ms())[0])

    def lines(self, request: Request, detection: str) -> Response:
        """The lines around a finding."""
        found = self.judge.found(detection)
        options = self._site.reading.view.settings_of(found.service)
        far = around(self._site.settings, options, found, REACH)
        listed = far._replace(lines=near(far.lines, found.offset))
        drawn = timeline(options, found, far.lines)
        return self._site.page(request, "lines.html", found=found, near=listed, drawn=drawn)

    def around(self, detection: str) -> tuple[Detection, Around]:
        """A finding, and the lines around it.

        Raises:
            HTTPException: 404: there is no such detection.
        """
        found = self.judge.found(detection)
        return found, around(self._site.settings, self._site.reading.view.settings_of(found.service), found)

    def _drawn(self, found: Detection) -> Timeline | None:
        """The lines around a finding on an axis of time; None: the topic has them no longer, or does not answer."""
        if found.kind in WHOLE_KINDS or not self._site.reading.connected:
            return None
        options = self._site.reading.view.settings_of(found.service)
        asked = self._readers.submit(around, self._site.settings, options, found, REACH, archive=False)
        try:
            return timeline(options, found, asked.result(PATIENCE_SECONDS).lines)
        except (TimeoutError, OSError, KafkaError):  # the page does without
            asked.cancel()
            return None

    def _dashboard(self, found: Detection) -> str:
        """Where Grafana shows the hour around a finding; empty: nobody said where Grafana is."""
        grafana, at = self._site.settings.web.grafana.rstrip("/"), found.detected_ms
        around = {"var-service": found.service, "from": at - HALF_HOUR_MS, "to": at + HALF_HOUR_MS}
        return f"{grafana}/d/logcanary-service?{urlencode(around)}" if grafana else ""

    def _back(self, found: Detection) -> Response:
        return RedirectResponse(f"/ui/alerts/{quote(found.service)}/{found.signature}", 303)


def said(value: str, scope: str, reason: str) -> str:
    """A verdict in short, for the audit trail."""
    return f"{value} for this {scope}" + (f": {reason}" if reason else "")
