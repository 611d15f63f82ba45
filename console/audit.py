"""Who did what in the console: a record of ``logcanary.audit`` for every request that changes something, or tries to.

    with Journal(settings) as journal:
        app.add_middleware(Audited, put=journal.put)

    author = acting(request, "ada", "false-positive: new in 1.4")   # in a handler: who acts, and what is written down

Each is also said in the process's own log, so that it is not lost where Kafka is away.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType

from fastapi import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.guard import SAFE, SIGN_IN
from contracts.records import Deed
from contracts.settings import AppSettings
from storage.broker import BrokerUnreachableError, KafkaError, KafkaProducer, producer

MOST_WAITING = 10_000
MOST_WORDS = 300
AGAIN_SECONDS = 2.0

log = logging.getLogger("logcanary.audit")


def acting(request: Request, author: str, words: str = "") -> str:
    """The name under which something is done, and what is written down of it.

    Args:
        request: its person is who asks; where nobody is asked for a name, ``author`` counts.
        author: as the form or the body says.
        words: what is done, in short.

    Raises:
        HTTPException: 403: in another's name; 422: in nobody's.
    """
    person = request.state.person
    request.state.words = words[:MOST_WORDS]
    if person.name:
        if author not in ("", person.name):
            raise HTTPException(403, f"author: you are {person.name}, and cannot act as somebody else")
        return str(person.name)
    if not author:
        raise HTTPException(422, "author: say who you are")
    request.state.author = author
    return author


class Audited:
    """Writes down requests that change something.

    Args:
        app: what answers them.
        put: takes what was done.
    """

    def __init__(self, app: ASGIApp, put: Callable[[Deed], None]) -> None:
        self._app, self._put = app, put

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and keep what came of it."""
        if scope["type"] != "http" or scope["method"] in SAFE:
            await self._app(scope, receive, send)
            return
        state, status = scope.setdefault("state", {}), 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            # Strangers are written down where they try to sign in: anything else they could repeat without end.
            if state.get("person") is not None or (scope["path"] == SIGN_IN and status != 429):
                self._put(_deed(scope, state, status))


def _deed(scope: Scope, state: dict[str, object], status: int) -> Deed:
    person, client = state.get("person"), scope.get("client")
    return Deed(
        at_ms=time.time_ns() // 1_000_000,
        who=str(getattr(person, "name", "") or state.get("author", "")),
        role=str(getattr(person, "role", "")),
        address=client[0] if client else "",
        what=f"{scope['method']} {scope['path']}"[:MOST_WORDS],
        words=str(state.get("words", "")),
        status=status,
    )


def say(deed: Deed) -> None:
    """Say in the process's log what was done."""
    log.info("%s", deed.model_dump_json())


class Journal:
    """Sends deeds to Kafka from a thread of its own: no request waits for it."""

    def __init__(self, settings: AppSettings) -> None:
        self._settings, self._over = settings, threading.Event()
        self._waiting: queue.Queue[Deed] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def __enter__(self) -> "Journal":
        """Begin to send."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Send what waits, if Kafka is there, and end."""
        self._over.set()
        self._thread.join()

    def put(self, deed: Deed) -> None:
        """Take a deed; it is said at once, and sent as soon as can be."""
        say(deed)
        self._keep(deed)

    def _keep(self, deed: Deed) -> None:
        try:
            self._waiting.put_nowait(deed)
        except queue.Full:
            log.error("%d deeds wait for Kafka: this one is in this log only", MOST_WAITING)

    def _run(self) -> None:
        while True:
            try:
                with producer(self._settings, linger_ms=50) as out:
                    self._send(out)
                return
            except (KafkaError, BrokerUnreachableError) as error:
                log.warning("what was done waits for Kafka: %s", error)
                if self._over.wait(AGAIN_SECONDS):
                    return

    def _send(self, out: KafkaProducer) -> None:
        while not (self._over.is_set() and self._waiting.empty()):
            try:
                deed = self._waiting.get(timeout=0.3)
            except queue.Empty:
                continue
            try:
                out.send(self._settings.kafka.audit, key=deed.who.encode(), value=deed.model_dump_json().encode()).get(
                    30
                )
            except KafkaError:
                self._keep(deed)
                raise
