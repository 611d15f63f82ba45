"""The console as the command line asks it, where ``web.url`` names one: over HTTP, with a token that is never shown.

console = remote(state)            # None: Kafka is asked
console.detections("pay"), console.view(["pay"])
console.say("3fa2...", {"value": "expected"})
"""

# ruff: noqa: PLC0415  (imports inside: the help must be there at once)

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from cli.shell import ProblemError, Shell

if TYPE_CHECKING:
    from contracts.records import BundlePointer, Detection, Verdict
    from contracts.retraining import RetrainingRequest, Run
    from contracts.settings import WebOptions
    from storage.control import ControlView

TOKEN = "LOGCANARY_TOKEN"  # noqa: S105  (the name of the variable)
ANSWER_SECONDS = 60.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class _Stay(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: a token is for the address that it was given for."""

    def redirect_request(self, *_: object) -> None:
        """Refuse."""


class Remote:
    """A console.

    Args:
        web: where it is, and the file of the token.
    """

    def __init__(self, web: "WebOptions") -> None:
        self._url, self._file = web.url.rstrip("/"), web.token_file
        self._open = urllib.request.build_opener(_Stay).open

    @cached_property
    def _token(self) -> str:
        """The token; empty: there is none, and the console may not ask for one.

        Raises:
            ProblemError: the file cannot be read, or the token would go over the net in the open.
        """
        try:
            token = Path(self._file).read_text().strip() if self._file else os.environ.get(TOKEN, "").strip()
        except OSError as error:
            raise ProblemError(f"web.token_file {self._file}: {error.strerror}") from None
        if token and not (self._url.startswith("https:") or urlsplit(self._url).hostname in LOOPBACK):
            raise ProblemError(f"web.url {self._url}: a token goes over https only (or to this machine)")
        return token

    @property
    def has_token(self) -> bool:
        """Whether the console knows by a token who asks."""
        return bool(self._token)

    def ask(self, method: str, path: str, body: object = None, **query: object) -> Any:  # noqa: ANN401  (any JSON)
        """One request.

        Raises:
            ProblemError: the console does not answer, or refuses; with its reason.
        """
        address = f"{self._url}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, data, headers, method=method)  # noqa: S310  (web.url is http or https)
        try:
            with self._open(request, timeout=ANSWER_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ProblemError(f"the console at {self._url}: {_reason(error)}") from None
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", error)
            raise ProblemError(f"the console does not answer at {self._url} (setting web.url): {why}") from None

    def detections(self, service: str | None = None) -> "list[Detection]":
        """All detections, or those of a service."""
        from contracts.records import Detection

        found, after = list[Detection](), 0
        while True:
            page = self.ask("GET", "/detections", service=service or "", after=after)
            found += map(Detection.model_validate, page["detections"])
            if not (after := page["after"]):
                return found

    def view(self, services: Iterable[str]) -> "ControlView":
        """The control topic as far as verdicts and templates of these services go."""
        from contracts.records import Template, Verdict
        from storage.control import ControlView, key_of

        view = ControlView()
        for service in sorted(set(services)):
            for kind, path in ((Template, "templates"), (Verdict, "verdicts")):
                for one in self.ask("GET", f"/services/{quote(service)}/{path}"):
                    record = kind.model_validate(one)
                    view.apply(key_of(record), record.model_dump_json().encode())
        return view

    def models(self, service: str) -> list[dict[str, Any]]:
        """The bundles of a service, the newest last: ``version``, and whether it is ``live``."""
        found: list[dict[str, Any]] = self.ask("GET", f"/services/{quote(service)}/models")
        return found

    def services(self) -> list[str]:
        """Every service seen."""
        return sorted(one["service"] for one in self.ask("GET", "/services"))

    def move(self, service: str, path: str, said: Mapping[str, object]) -> "BundlePointer":
        """Move a service's pointer: ``rollback``, ``budget`` or ``models/VERSION/promotion``."""
        from contracts.records import BundlePointer

        return BundlePointer.model_validate(self.ask("POST", f"/services/{quote(service)}/{path}", said))

    def train(self, request: "RetrainingRequest") -> "Run":
        """Ask for a training, in a process of the console's."""
        from contracts.retraining import Run, Wanted

        said = request.model_dump(mode="json", include=set(Wanted.model_fields) - {"author"})
        who = {} if self.has_token else {"author": request.author}
        return Run.model_validate(self.ask("POST", self._trainings(request.service), said | who))

    def newest(self, service: str, most: int | None = None) -> "list[Run]":
        """Trainings, the newest first; as ``training.runs.Runs``."""
        from contracts.retraining import Run

        return [Run.model_validate(one) for one in self.ask("GET", self._trainings(service))][:most]

    def get(self, service: str, training: str) -> "Run":
        """One training."""
        from contracts.retraining import Run

        return Run.model_validate(self.ask("GET", f"{self._trainings(service)}/{quote(training)}"))

    def cancel(self, service: str, training: str, author: str) -> "Run":
        """Ask a training to stop."""
        from contracts.retraining import Run

        who = {} if self.has_token else {"author": author}
        return Run.model_validate(self.ask("DELETE", f"{self._trainings(service)}/{quote(training)}", **who))

    def _trainings(self, service: str) -> str:
        return f"/services/{quote(service)}/retraining"

    def say(self, detection: str, said: Mapping[str, object]) -> "Verdict":
        """Say what a detection is."""
        from contracts.records import Verdict

        return Verdict.model_validate(self.ask("POST", f"/detections/{quote(detection)}/verdict", said))

    def undo(self, detection: str, author: str) -> "Verdict":
        """Take back what was said of it."""
        from contracts.records import Verdict

        return Verdict.model_validate(self.ask("DELETE", f"/detections/{quote(detection)}/verdict", author=author))


def remote(state: Shell) -> Remote | None:
    """The console that ``web.url`` names; None: it names none."""
    web = state.settings.web
    return Remote(web) if web.url else None


def _reason(error: urllib.error.HTTPError) -> str:
    """What a problem says, as the console writes it."""
    try:
        said = json.load(error)
        return str(said.get("detail") or said.get("title"))
    except (ValueError, AttributeError):
        return f"{error.code} {error.reason}"
