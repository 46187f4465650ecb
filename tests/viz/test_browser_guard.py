"""Nobody but who has its address gets anything from the browser viewer: tried on the running
commands, spoken to in raw bytes as a hostile page or user would."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import urlopen

import psutil
import pytest
from running_viewer import ROOT, RunningViewer, status
from viz_scenes import dense_scene

from pointmap.errors import InputError
from viz.command import main
from viz.viewers.browser_guard import SERIES, guarded_server

SECRET = "only the user may read this"
UP = "../" * 24


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guarded")
    return dense_scene(folder).save(folder / "scene")


@pytest.fixture(scope="module", params=["python -m viz", "run_recon.py"])
def viewer(
    request: pytest.FixtureRequest, saved: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningViewer]:
    if request.param == "python -m viz":
        command = ["-m", "viz", str(saved), "--browser", "--port", "18731"]
    else:
        photo = ROOT / "examples/courtyard/images/courtyard_00.jpg"
        out = tmp_path_factory.mktemp("out") / "scene"
        command = ["run_recon.py", str(photo), "--out", str(out), "--depth-size", "96"]
        command += ["--view", "browser"]
    with RunningViewer(*command) as running:
        yield running


@pytest.fixture(scope="module")
def private_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a file, from the root and without its leading slash."""
    path = tmp_path_factory.mktemp("private") / "diary.txt"
    path.write_text(SECRET)
    return path.as_posix().lstrip("/")


def refused(answer: bytes) -> bool:
    """Whether the answer is a plain refusal that gives nothing away."""
    body = answer.partition(b"\r\n\r\n")[2]
    return 400 <= status(answer) < 500 and b"Content-Type: text/plain" in answer and len(body) < 100


def test_who_has_the_address_gets_the_page_and_its_socket(viewer: RunningViewer) -> None:
    assert re.fullmatch(r"/[\w-]{32,}/", viewer.path)
    answer = viewer.page(viewer.path)
    assert status(answer) == 200
    assert b"<title>Viser</title>" in answer
    for path in (viewer.path, viewer.path.rstrip("/")):
        assert status(viewer.open_socket(path, f"Host: {viewer.host}")) == 101
        own = (f"Host: {viewer.host}", f"Origin: {viewer.origin}")
        assert status(viewer.open_socket(path, *own)) == 101
    by_name = f"localhost:{viewer.port}"
    assert status(viewer.get(viewer.path, f"Host: {by_name}")) == 200
    own = (f"Host: {by_name}", f"Origin: http://{by_name}")
    assert status(viewer.open_socket(viewer.path, *own)) == 101


def test_answers_keep_the_address_from_other_sites(viewer: RunningViewer) -> None:
    for answer in (viewer.page(viewer.path), viewer.page("/")):
        head = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        assert "Referrer-Policy: no-referrer" in head
        assert "X-Content-Type-Options: nosniff" in head
        assert "X-Frame-Options: DENY" in head
        assert "Content-Security-Policy: frame-ancestors 'none'" in head
        assert "Set-Cookie" not in answer.decode()


@pytest.mark.parametrize(
    "spell",
    [
        lambda path: UP + path,
        lambda path: (UP + path).replace("..", "%2e%2e"),
        lambda path: (UP + path).replace("/", "%2f"),
        lambda path: (UP + path).replace("..", "%252e%252e"),
        lambda path: (UP + path).replace("/", "\\"),
        lambda path: (UP + path).replace("/", "%5c"),
        lambda path: "/" + path,
        lambda path: "%2f" + path,
        lambda path: "file:///" + path,
        lambda path: UP + path + "\0.html",
        lambda path: UP + path + "%00.html",
        lambda path: "%ff/" + UP + path,
        lambda path: "a" * 300,
        lambda path: "./" * 2000 + UP + path,
        lambda path: "index.html",
        lambda path: "index.html?" + UP + path,
    ],
)
def test_no_path_leads_to_a_file(viewer: RunningViewer, private_file: str, spell: Any) -> None:
    path = spell(private_file)
    for start in ("/", "", viewer.path, f"{viewer.origin}/", f"{viewer.origin}{viewer.path}"):
        answer = viewer.page(start + path)
        assert refused(answer), (start + path, answer[:200])
        assert SECRET not in answer.decode()


def test_an_endless_address_or_head_ends_the_connection(viewer: RunningViewer) -> None:
    """The server's own limits: 8 KiB a line, 128 headers."""
    assert status(viewer.page(viewer.path + "?" + "a" * 100_000)) == 0
    assert status(viewer.get(viewer.path, f"Host: {viewer.host}", *["A: b"] * 1000)) == 0
    assert status(viewer.page(viewer.path)) == 200


def foreign_hosts(port: int) -> list[tuple[str, ...]]:
    names = ["evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}"]
    names += [f"127.0.0.1:{port + 1}", "127.0.0.1", "localhost", f"[::1]:{port}", f"0.0.0.0:{port}"]
    names += ["", f"127.0.0.1:{port}@evil.example", f"evil.example, 127.0.0.1:{port}"]
    headers: list[tuple[str, ...]] = [(f"Host: {name}",) for name in names]
    twice = (f"Host: 127.0.0.1:{port}", "Host: evil.example")
    return [*headers, (), twice, twice[::-1]]


def test_other_hosts_are_refused(viewer: RunningViewer) -> None:
    """A page of another site may have its own name point at this machine."""
    for hosts in foreign_hosts(viewer.port):
        assert refused(viewer.get(viewer.path, *hosts)), hosts
        assert refused(viewer.open_socket(viewer.path, *hosts)), hosts
        assert refused(viewer.open_socket(viewer.path, *hosts, f"Origin: {viewer.origin}")), hosts


def test_pages_of_other_origins_are_refused(viewer: RunningViewer) -> None:
    origins = ["https://evil.example", "null", "", f"https://{viewer.host}", "file://"]
    origins += [f"http://127.0.0.1:{viewer.port + 1}", "http://127.0.0.1", viewer.origin + "/"]
    # The page's own origin by its other name is another site to a browser.
    origins += [f"http://localhost:{viewer.port}", f"{viewer.origin}.evil.example"]
    for origin in origins:
        own = (f"Host: {viewer.host}", f"Origin: {origin}")
        assert refused(viewer.open_socket(viewer.path, *own)), origin
        assert refused(viewer.get(viewer.path, *own)), origin
    twice = (f"Host: {viewer.host}", f"Origin: {viewer.origin}", "Origin: null")
    assert refused(viewer.open_socket(viewer.path, *twice))


def test_who_lacks_the_secret_is_refused(viewer: RunningViewer) -> None:
    secret = viewer.path.strip("/")
    paths = ["/", f"/{secret[:-1]}/", f"/{secret}x/", f"/{secret.swapcase()}/", f"//{secret}/"]
    paths += [f"/?token={secret}", f"/x/{secret}/", f"/{secret}/index.html", f"/{secret}//"]
    for path in [*paths, "/é/"]:
        own = (f"Host: {viewer.host}", f"Cookie: token={secret}")
        assert refused(viewer.get(path, *own)), path
        for origin in ((), (f"Origin: {viewer.origin}",)):
            assert refused(viewer.open_socket(path, *own, *origin)), path


@pytest.mark.skipif(not os.path.exists("/proc"), reason="needs the system's list of open ports")
def test_there_is_one_port_and_it_is_on_loopback(viewer: RunningViewer) -> None:
    open_ports = [
        tuple(connection.laddr)
        for connection in psutil.net_connections("inet")
        if connection.pid == viewer.process.pid and connection.status == psutil.CONN_LISTEN
    ]
    assert open_ports == [("127.0.0.1", viewer.port)]


def test_slow_clients_hold_nobody_up_and_are_dropped(viewer: RunningViewer) -> None:
    slow = [socket.create_connection(("127.0.0.1", viewer.port), timeout=30) for _ in range(50)]
    try:
        for client in slow:
            client.sendall(f"GET {viewer.path} HTTP/1.1\r\nHost: ".encode())
        start = time.monotonic()
        assert status(viewer.page(viewer.path)) == 200
        assert time.monotonic() - start < 5
        # The server's own limit is 10 seconds.
        assert slow[0].recv(1) == b""
    finally:
        for client in slow:
            client.close()


def test_two_viewers_do_not_take_each_others_address(saved: Path) -> None:
    command = ["-m", "viz", str(saved), "--browser", "--port", "18831"]
    with RunningViewer(*command) as one, RunningViewer(*command) as two:
        assert one.port != two.port
        assert one.path != two.path
        for viewer, other in ((one, two), (two, one)):
            assert status(viewer.page(viewer.path)) == 200
            own = (f"Host: {viewer.host}", f"Origin: {viewer.origin}")
            assert status(viewer.open_socket(viewer.path, *own)) == 101
            assert refused(viewer.page(other.path))
            assert refused(viewer.open_socket(other.path, *own))
            assert refused(viewer.open_socket(viewer.path, own[0], f"Origin: {other.origin}"))


def test_viewers_started_at_once_each_have_a_guard_of_their_own() -> None:
    websockets = pytest.importorskip("websockets.asyncio.server", reason="viser is not installed")
    plain = websockets.serve
    with ThreadPoolExecutor(4) as threads:
        started = list(threads.map(guarded_server, [19231] * 4))
    try:
        assert websockets.serve is plain
        assert len({address for _, address in started}) == 4
        for _, address in started:
            with urlopen(address, timeout=30) as page:
                assert page.status == 200
            with pytest.raises(HTTPError, match="403"):
                urlopen(urljoin(address, "/"), timeout=30)
    finally:
        for server, _ in started:
            server.stop()


def test_the_secret_is_said_once_and_strangers_leave_no_trace(saved: Path) -> None:
    with RunningViewer("-m", "viz", str(saved), "--browser", "--port", "18931") as viewer:
        viewer.page(viewer.path)
        viewer.open_socket(viewer.path, f"Host: {viewer.host}")
        viewer.page("/")
        # Neither is one that the server takes for a request, and it would log what it got.
        viewer.send(f"POST {viewer.path} HTTP/1.1\r\n\r\n".encode())
        viewer.send(f"GET {viewer.path} HTTP/1.0\r\n\r\n".encode())
        assert viewer.interrupt() == ("", "closed\n")
        assert viewer.process.returncode == 0


# Ports


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def test_on_the_port_of_http_browsers_leave_the_port_out(saved: Path) -> None:
    try:
        socket.create_server(("127.0.0.1", 80)).close()
    except OSError:
        pytest.skip("port 80 is taken, or only root may open it")
    with RunningViewer("-m", "viz", str(saved), "--browser", "--port", "80") as viewer:
        assert status(viewer.get(viewer.path, "Host: 127.0.0.1")) == 200
        own = ("Host: 127.0.0.1", "Origin: http://127.0.0.1")
        assert status(viewer.open_socket(viewer.path, *own)) == 101
        assert refused(viewer.get(viewer.path, "Host: evil.example"))


@pytest.mark.parametrize("port", ["0", "-1", "65536", "99999"])
def test_ports_that_do_not_exist_are_told(
    saved: Path, capsys: pytest.CaptureFixture[str], port: str
) -> None:
    pytest.importorskip("viser", reason="viser (the extra 'browser') is not installed")
    assert main([str(saved), "--browser", "--port", port]) == 2
    said = one_error(capsys)
    assert f"port {port} " in said
    assert "from 1 to 65535" in said


def test_the_search_for_a_free_port_ends_at_the_last(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("viser", reason="viser (the extra 'browser') is not installed")
    try:
        taken = socket.create_server(("127.0.0.1", 65535))
    except OSError:
        pytest.skip("another program has port 65535")
    with taken:
        assert main([str(saved), "--browser", "--port", "65535"]) == 2
    assert "65535 are all taken" in one_error(capsys)


def test_a_port_that_only_root_may_open_is_told(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("viser", reason="viser (the extra 'browser') is not installed")

    def deny(*arguments: Any) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", deny)
    assert main([str(saved), "--browser", "--port", "81"]) == 2
    said = one_error(capsys)
    assert "may not open port 81" in said
    assert "from 1024 on" in said


# Other releases of viser


def nobody_listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_another_viser_than_the_guard_knows_serves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    viser = pytest.importorskip("viser", reason="viser (the extra 'browser') is not installed")
    monkeypatch.setattr(viser, "__version__", "1.20.0")
    with pytest.raises(InputError, match=r"viser 1\.1 only .*1\.20\.0.*viser==1\.1\.\*"):
        guarded_server(19031)
    assert nobody_listens(19031)


def test_a_viser_that_goes_round_the_guard_serves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one would that had taken the server's function before the guard was put there."""
    infra = pytest.importorskip("viser.infra._infra", reason="viser is not installed")
    inner = infra.websockets
    unguarded = SimpleNamespace(server=SimpleNamespace(serve=inner.asyncio.server.serve))
    monkeypatch.setattr(
        infra,
        "websockets",
        SimpleNamespace(
            asyncio=unguarded, exceptions=inner.exceptions, datastructures=inner.datastructures
        ),
    )
    with pytest.raises(InputError, match=r"can guard viser 1\.1 only"):
        guarded_server(19131)
    assert nobody_listens(19131)
    assert nobody_listens(19132)


def test_the_package_asks_for_the_viser_that_the_guard_knows() -> None:
    asked = re.findall(r'"viser([^"]*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert asked == [f"=={SERIES}.*"] * 2
