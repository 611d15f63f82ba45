"""Who asks, and what they may do: tokens from a file, sessions of browsers, names that a trusted proxy passes on.

    access = Access(settings.web)
    person = access.person(headers, address)       # None: nobody we know
    secret = access.sign_in(token, address)        # what the browser's cookie carries from then on

Without ``web.access_file`` and ``web.proxy_header`` the console knows nobody, answers on loopback alone, and whoever
sits at this machine may do everything. A token is 256 random bits: of those the file keeps the SHA-256, which cannot be
guessed back. Sessions are in memory, end with the console and with their person's line in the file.
"""

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import get_args

from contracts.settings import Role, WebOptions

ROLES: tuple[Role, ...] = get_args(Role)
SESSION_COOKIE = "logcanary-session"
SESSION_SECONDS = 12 * 3600
NO_TOKEN = "-"  # noqa: S105  (a mark: no token)
"""In the file, for somebody who comes through the proxy only."""
TRIES = 10
"""Wrong tokens from one address within ``TRIES_SECONDS``; then it has to wait."""
TRIES_SECONDS = 60.0
MOST_ADDRESSES = 10_000
MOST_SESSIONS = 10_000


class AccessError(Exception):
    """The access file cannot be used; the message names line and fix."""


class TooManyTriesError(Exception):
    """Too many wrong tokens came from one address; ``seconds`` until it may try again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many wrong tokens from here: try again in {seconds} s")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks."""

    name: str
    role: Role
    token: str = ""
    """SHA-256 of the token, in hexadecimal digits; empty: known by other means."""

    def may(self, role: Role) -> bool:
        """Whether somebody of a role may do what asks for another."""
        return ROLES.index(self.role) >= ROLES.index(role)


ANYBODY = Person("", "admin")
"""Whoever sits at this machine, where the console does not ask."""


def digest(token: str) -> str:
    """What the file keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_people(path: Path) -> dict[str, Person]:
    """The people of an access file by name: ``name role sha256`` a line; ``#`` begins a remark.

    Raises:
        AccessError: it cannot be read, or a line is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise AccessError(f"web.access_file {path} cannot be read: {error}") from error
    found: dict[str, Person] = {}
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.partition("#")[0].split()
        if not parts:
            continue
        if len(parts) != 3 or parts[1] not in ROLES or not _is_digest(parts[2]) or parts[0] in found:
            raise AccessError(
                f"{path}:{number}: expected a new name, one of {', '.join(ROLES)}, and a token's SHA-256 or {NO_TOKEN}:"
                " `logcanary access add` writes such lines"
            )
        name, role, token = parts
        found[name] = Person(name, ROLES[ROLES.index(role)], "" if token == NO_TOKEN else token)
    return found


def _is_digest(text: str) -> bool:
    return text == NO_TOKEN or (len(text) == 64 and set(text) <= set("0123456789abcdef"))


class Access:
    """Knows people by what they bring.

    Args:
        web: where the file is, and which proxy is trusted.
        clock: seconds that only grow.

    Raises:
        AccessError: the file cannot be used.
    """

    def __init__(self, web: WebOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._web, self._clock, self._lock = web, clock, threading.Lock()
        self._proxies = tuple(ip_network(one.strip()) for one in web.proxy_addresses.split(",") if one.strip())
        self._sessions: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._tries = _Tries(clock)
        self._stamp: tuple[int, int] = (0, 0)
        self._people: dict[str, Person] = {}
        self._known()

    @property
    def asks(self) -> bool:
        """Whether people have to say who they are."""
        return self._web.asks

    @property
    def proxy_header(self) -> str:
        """Where a trusted proxy says who asks; empty: there is none."""
        return self._web.proxy_header

    def person(self, headers: Mapping[str, str], cookies: Mapping[str, str], address: str) -> Person | None:
        """Who sends a request; None: nobody who is known.

        Args:
            headers: by name in small letters.
            cookies: by name.
            address: the other end of the connection.

        Raises:
            TooManyTriesError: of wrong tokens.
        """
        if not self.asks:
            return ANYBODY
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._by_token(token.strip(), address)
        if self._web.proxy_header and self.is_proxy(address):
            name = headers.get(self._web.proxy_header.lower(), "").strip()[:100]
            return self._known().get(name, Person(name, self._web.proxy_role)) if name else None
        return self._by_session(cookies.get(SESSION_COOKIE, ""))

    def is_proxy(self, address: str) -> bool:
        """Whether what comes from an address may name somebody."""
        try:
            found = ip_address(address)
        except ValueError:
            return False
        # Where both kinds of addresses come in by one socket, the old kind is written as the new.
        plain = (isinstance(found, IPv6Address) and found.ipv4_mapped) or found
        return any(plain in network for network in self._proxies)

    def sign_in(self, token: str, address: str) -> str | None:
        """Begin a session; returns what its cookie carries, None where the token is nobody's.

        Raises:
            TooManyTriesError: of wrong tokens.
        """
        self._tries.check(address)
        person = self._by_token(token.strip(), address)
        if person is None:
            return None
        secret = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[digest(secret)] = person.token, self._clock() + SESSION_SECONDS
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
        return secret

    def sign_out(self, secret: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(digest(secret), None)

    def _by_session(self, secret: str) -> Person | None:
        with self._lock:
            token, ends = self._sessions.get(digest(secret), ("", 0.0))
        return self._of_token(token) if token and self._clock() < ends else None

    def _by_token(self, token: str, address: str) -> Person | None:
        person = self._of_token(digest(token))
        if person is None:
            self._tries.check(address)
            self._tries.wrong(address)
        return person

    def _of_token(self, token: str) -> Person | None:
        # Compared one by one in constant time; there are tens of people.
        return next((one for one in self._known().values() if hmac.compare_digest(one.token, token)), None)

    def _known(self) -> dict[str, Person]:
        """The people of the file as it is now.

        A file that was spoilt while the console runs lets nobody in.
        """
        if not self._web.access_file:
            return {}
        path = Path(self._web.access_file)
        try:
            found = path.stat()
        except OSError as error:
            raise AccessError(f"web.access_file {path} cannot be read: {error.strerror}") from error
        stamp = found.st_mtime_ns, found.st_size
        with self._lock:
            if stamp != self._stamp:
                self._people = {}
                self._people, self._stamp = read_people(path), stamp
            return self._people


class _Tries:
    """Wrong tokens by address, of the last minute; the addresses that tried longest ago are forgotten first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, address: str) -> None:
        with self._lock:
            now, recent = self._clock(), self._wrong.get(address, [])
            if len(recent) >= TRIES and (left := recent[-TRIES] + TRIES_SECONDS - now) > 0:
                raise TooManyTriesError(int(left) + 1)

    def wrong(self, address: str) -> None:
        with self._lock:
            self._wrong[address] = [*self._wrong.get(address, [])[1 - TRIES :], self._clock()]
            self._wrong.move_to_end(address)
            while len(self._wrong) > MOST_ADDRESSES:
                self._wrong.popitem(last=False)
