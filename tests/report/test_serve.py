from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest

from countermove.errors import ConfigError, RunError
from countermove.game.store import RunFolder
from countermove.report.serve import address_of, make_server, serve


@pytest.fixture(scope="module")
def server(run: RunFolder) -> Iterator[ThreadingHTTPServer]:
    with make_server(run.path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: ThreadingHTTPServer, path: str, *, method: str = "GET", hosts: tuple[str, ...] | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    """Ask for exactly this path with exactly these Host headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host=True)
        for host in hosts if hosts is not None else (f"127.0.0.1:{server.server_port}",):
            connection.putheader("Host", host)
        connection.endheaders()
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/", "/report.html", "/?theme=dark"])
def test_the_page_is_served_with_its_headers(server: ThreadingHTTPServer, run: RunFolder, path: str) -> None:
    response, body = ask(server, path)
    assert response.status == 200
    assert body == (run.path / "report.html").read_bytes()
    policy = response.getheader("Content-Security-Policy") or ""
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert response.getheader("X-Content-Type-Options") == "nosniff"
    assert response.getheader("Referrer-Policy") == "no-referrer"
    assert response.getheader("Access-Control-Allow-Origin") is None


def test_head_sends_no_body(server: ThreadingHTTPServer) -> None:
    response, body = ask(server, "/", method="HEAD")
    assert response.status == 200
    assert body == b""


@pytest.mark.parametrize(
    "path",
    [
        "/audit.toml",
        "/cells/",
        "/results.csv",
        "/../audit.toml",
        "/%2e%2e/audit.toml",
        "/..%2faudit.toml",
        "/report.html/",
        "/./report.html",
        "/etc/passwd",
    ],
)
def test_nothing_else_is_served(server: ThreadingHTTPServer, path: str) -> None:
    response, body = ask(server, path)
    assert response.status == 404
    assert b"countermove run folder" not in body


@pytest.mark.parametrize(
    "hosts", [("evil.example",), ("evil.example:80",), ("127.0.0.1",), ("localhost:1",), ("",), (), ("a", "b")]
)
def test_a_foreign_host_is_refused(server: ThreadingHTTPServer, hosts: tuple[str, ...]) -> None:
    response, body = ask(server, "/", hosts=hosts)
    assert response.status in {400, 421}
    assert b"Moves and replies" not in body


def test_two_host_headers_are_refused(server: ThreadingHTTPServer) -> None:
    own = f"127.0.0.1:{server.server_port}"
    response, _ = ask(server, "/", hosts=(own, "evil.example"))
    assert response.status == 421


def test_localhost_is_its_own_name(server: ThreadingHTTPServer) -> None:
    response, _ = ask(server, "/", hosts=(f"localhost:{server.server_port}",))
    assert response.status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_sent(server: ThreadingHTTPServer, method: str) -> None:
    assert ask(server, "/", method=method)[0].status == 501


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "example.org", "", "::", "127.0.0.1.evil.example"])
def test_only_loopback_is_served(run: RunFolder, host: str) -> None:
    with pytest.raises(ConfigError, match="loopback only"):
        make_server(run.path, host=host)


def test_a_taken_or_impossible_port_is_refused(run: RunFolder) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="cannot serve"):
            make_server(run.path, port=taken.getsockname()[1])
    with pytest.raises(ConfigError, match="from 0"):
        make_server(run.path, port=70000)


def test_a_folder_that_is_no_run_is_refused(run: RunFolder) -> None:
    with pytest.raises(RunError, match="no run folder"):
        make_server(run.path.parent)


def test_serve_says_where_and_ends_on_ctrl_c(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: ThreadingHTTPServer) -> None:
        assert heard == [address_of(self)]
        raise KeyboardInterrupt

    heard: list[str] = []
    opened: list[str] = []
    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", interrupted)
    monkeypatch.setattr("webbrowser.open", opened.append)
    serve(run.path, open_browser=True, ready=heard.append)
    assert heard == opened
    assert heard[0].startswith("http://127.0.0.1:")
