"""`archduel watch`: a page on this machine that follows a job's journal. It serves what it renders and no file; nothing of the job is changed."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from markupsafe import Markup

from archduel.commands.journals import Place
from archduel.commands.live import job_live
from archduel.core.storage import Tail
from archduel.errors import ArchduelError, SettingError, in_one_line
from archduel.reporting.live import live_head, live_html, live_parts, live_title
from archduel.reporting.page import SCREENS

__all__ = ["HOST", "Watched", "serve"]

HOST = "127.0.0.1"
"""Nobody else than this machine can ask."""
NAMES = ("127.0.0.1", "localhost", "[::1]")
"""Host names under which a browser may ask: a page of somebody else whose name was bent to this address asks under that name."""
EVERY, RAREST = 0.5, 5.0
"""Seconds between two looks at the journal, and at most between two drawings of one that grows."""
SHARE = 0.4
"""Of a processor at most that drawing the page may take: the job itself may need it. 10,000 records take 0.3 s, a usual race 0.01 s."""
HEADERS = {
    "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
}  # fmt: skip


class Watched:
    """A job and its page, as they are now; drawn anew when the journal has grown.

    Args:
        place: of the job.
        clock: seconds that pass.
        used: seconds of this thread's processor.
    """

    def __init__(self, place: Place, clock: Callable[[], float] = time.perf_counter, used: Callable[[], float] = time.thread_time) -> None:
        self.place, self.tail, self.clock, self.used = place, Tail(place.journal), clock, used
        self._lock = threading.Lock()
        self._parts: dict[str, dict[str, Markup]] = {}  # kind of screen -> sections
        self._data: dict[str, Any] = {}
        self._version, self._wait, self._drawn, self._changed = 0, EVERY, -1e9, True
        self._free: float | None = None

    def page(self) -> str:
        """Returns the whole page, for every kind of screen."""
        with self._lock:
            self._look()
            parts = self._sections("")
            return live_html(live_title(self._data), live_head(self._data, parts), parts)

    def update(self, have: str, screen: str = "") -> dict[str, Any]:
        """Returns what changes on a page of version ``have``: ``version``, ``title``, ``head``, ``wait`` (ms) and, where sections changed, ``parts``.

        Args:
            have: the version that the page shows.
            screen: kind of screen that it is shown on.
        """
        with self._lock:
            self._look()
            screen = screen if screen in SCREENS else ""
            began, known = self.used(), screen in self._parts
            parts, version = self._sections(screen), f"{self._version}{screen}"
            if not known:
                self._wait = min(RAREST, self._wait + (self.used() - began) / SHARE)
            answer = {"version": version, "title": live_title(self._data), "head": live_head(self._data, parts), "wait": round(1000 * EVERY)}
            return answer if have == version else {**answer, "parts": parts}

    def _sections(self, screen: str) -> dict[str, Markup]:
        if screen not in self._parts:
            self._parts[screen] = live_parts(self._data, screen)
        return self._parts[screen]

    def _look(self) -> None:
        """Reads what is new, and takes it up unless drawing so often would take too much of the processor."""
        now = self.clock()
        grown = self.tail.read()
        state, process = self._standing()
        self._changed = self._changed or grown or state != self._data.get("state")
        if self._changed and (now - self._drawn >= self._wait or state != self._data.get("state")):
            began, first = self.used(), not self._version
            self._data, self._parts = self._known(), {}
            self._version, self._changed, self._drawn = self._version + 1, False, now
            # the first time imports what is needed, which says nothing of the next
            self._wait = EVERY if first else max(EVERY, (self.used() - began) / SHARE)
        self._data |= {"state": state, "process": process or "", "damaged": self.tail.damaged}
        if self._data.get("unit") == "seconds" and state == "running":
            self._data["done"] = self._clock_now()

    def _known(self) -> dict[str, Any]:
        try:
            return job_live(self.place, self.tail.records)
        except (ArchduelError, KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            # what it reads is written by others, perhaps at this moment, or by another version
            return {
                "name": self.place.name, "kind": self.place.kind, "records": len(self.tail.records),
                "warnings": [f"not everything can be shown: {in_one_line(error)}"],
            }  # fmt: skip

    def _standing(self) -> tuple[str, str | None]:
        """Returns the state and the process that works on the job."""
        if self.place.finished and self.place.kind in ("search", "training"):
            return "finished", None
        holder = self._holder()
        return ("running" if holder is not None else "finished" if self.place.finished else "stopped"), holder

    def _holder(self) -> str | None:
        """Returns who holds the lock; a free one is tried only once, since a job that begins at that moment would be refused."""
        mark = self._mark()
        if mark is None or mark == self._free:
            return None
        holder = self.place.holder()
        self._free = self._mark() if holder is None else None  # trying a free lock writes to it
        return holder

    def _mark(self) -> float | None:
        try:
            return self.place.lock.stat().st_mtime_ns
        except OSError:
            return None

    def _clock_now(self) -> float:
        """Returns the job's clock: that of its last record, and what has passed since."""
        last = next((r["clock"] for r in reversed(self.tail.records) if isinstance(r.get("clock"), (int, float))), 0.0)
        try:
            return float(last) + max(0.0, time.time() - self.place.journal.stat().st_mtime)
        except OSError:
            return float(last)


class _Handler(BaseHTTPRequestHandler):
    """Answers ``/`` and ``/live`` to GET, and nothing else."""

    watched: ClassVar[Watched]
    server_version = "archduel"
    sys_version = ""
    timeout = 20

    def do_GET(self) -> None:
        """Answers the page or what changed on it."""
        host = self.headers.get("Host", "")
        if host.rpartition(":")[0] not in NAMES and host not in NAMES:
            return self._answer(421, "text/plain", "archduel watch answers to localhost alone\n")
        asked = urlsplit(self.path)
        if asked.path == "/":
            return self._answer(200, "text/html", self.watched.page())
        if asked.path == "/live":
            given = {name: values[0] for name, values in parse_qs(asked.query).items()}
            return self._answer(200, "application/json", json.dumps(self.watched.update(given.get("have", ""), given.get("screen", ""))))
        return self._answer(404, "text/plain", "there is / and nothing else\n")

    def _refuse(self) -> None:
        self._answer(405, "text/plain", "only GET is answered\n", Allow="GET")

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_HEAD = do_TRACE = do_CONNECT = _refuse

    def _answer(self, status: int, kind: str, text: str, **more: str) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body)), **HEADERS, **more}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: a request a second is no news."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # the port of a watch that just ended; on Windows it would be anybody's

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of browsers that hang up."""


def serve(place: Place, port: int) -> ThreadingHTTPServer:
    """Returns a server of a job's page on this machine alone; ``serve_forever`` runs it.

    Args:
        place: of the job.
        port: where; 0 takes a free one (``server_port``).

    Raises:
        SettingError: if the port cannot be used.
    """
    handler = type("Handler", (_Handler,), {"watched": Watched(place)})
    try:
        return _Server((HOST, port), handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or in_one_line(error)
        raise SettingError(f"port {port} cannot be used ({reason}); give another one, or --port 0 for a free one") from error
