"""Serving the page of a run to the browser of this machine, and to nobody else."""

from __future__ import annotations

import ipaddress
import webbrowser
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from countermove.errors import ConfigError, RunError
from countermove.game.store import RunFolder
from countermove.report.page import page_policy, write_page

PATHS = ("/", "/report.html")
WAIT_SECONDS = 30


def serve(
    run: Path,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    open_browser: bool = False,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Derive the page of a run and serve it until Ctrl-C.

    Args:
        run: the run folder.
        port: 0 takes a free one.
        host: a loopback address; anything else is refused, since a run may show private pictures.
        open_browser: whether the page is opened in the default browser.
        ready: called with the page's address once it can be read.

    Raises:
        ConfigError: when the host is not loopback, or the port is taken or not a port.
        RunError: when the run cannot be read.
    """
    with make_server(run, port=port, host=host) as server:
        address = address_of(server)
        ready(address)
        if open_browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def make_server(run: Path, *, port: int = 0, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """Derive the page and bind the server, without starting it.

    Raises:
        ConfigError: when the host is not loopback, or the port is taken or not a port.
        RunError: when the run cannot be read.
    """
    address = _loopback(host)
    if not 0 <= port <= 65535:
        raise ConfigError(f"port {port} is refused: a port is a number from 0 (take a free one) to 65535")
    try:
        page = write_page(RunFolder.existing(run)).read_bytes()
    except OSError as error:
        raise RunError(f"cannot read the page of {run}: {error.strerror}") from error

    class PageHandler(_Handler):
        content = page

    try:
        return ThreadingHTTPServer((address, port), PageHandler)
    except OSError as error:
        raise ConfigError(
            f"cannot serve on {address}, port {port}: {error.strerror}. Leave the port out to take a free one."
        ) from error


def address_of(server: ThreadingHTTPServer) -> str:
    """Return the address under which a server's page is found."""
    return f"http://{server.server_address[0]!s}:{server.server_port}/"


def _loopback(host: str) -> str:
    """Return the loopback address of a host."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise ConfigError(
            f"host {host!r} is refused: the page is served on loopback only (127.0.0.1 or localhost). "
            "To show it to somebody else, send them report.html: it holds everything."
        )
    return host


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the page; everything else is refused without a word about the disk."""

    content = b""
    server_version = "countermove"
    sys_version = ""
    timeout = WAIT_SECONDS

    def do_GET(self) -> None:
        """Send the page."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Send the page's headers."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        if not self._asked_by_its_name():
            # A foreign name that points here is how another site would read the page (DNS rebinding).
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "This page is served to its own address only")
        elif urlsplit(self.path).path not in PATHS:
            self.send_error(HTTPStatus.NOT_FOUND, "Only the report is served here")
        else:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(self.content)))
            self.end_headers()
            if body:
                self.wfile.write(self.content)

    def _asked_by_its_name(self) -> bool:
        assert isinstance(self.server, ThreadingHTTPServer)
        port = self.server.server_port
        names = {"localhost", str(self.server.server_address[0])}
        hosts = self.headers.get_all("Host") or []
        return len(hosts) == 1 and hosts[0].lower() in {f"{name}:{port}" for name in names}

    def end_headers(self) -> None:
        """Add the headers that every answer carries."""
        self.send_header("Content-Security-Policy", f"{page_policy()}; frame-ancestors 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet: one reader, one page."""
