"""The page of `edgecnn live`: the real process, asked by HTTP as anybody could, and looked at in a real browser."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from edgecnn_runtime.classifier import read_artifact, write_artifact
from tests.runtime.chromium import Chromium, find_chromium

TOKEN = "correct-horse-battery-staple"


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "edgecnn_runtime", "live", *map(str, words)]


@dataclass
class Running:
    process: subprocess.Popen[str]
    url: str

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.port is not None
        return "127.0.0.1", parts.port

    def ask(self, path: str, body: str | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body of an answer."""
        connection = http.client.HTTPConnection(*self.address, timeout=20)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET" if body is None else "POST", path, body, named)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def state(self) -> dict[str, Any]:
        status, _, body = self.ask("/state")
        assert status == 200
        document: dict[str, Any] = json.loads(body)
        return document

    def until(self, frames: int) -> None:
        end_s = time.monotonic() + 30
        while self.state()["frames"] < frames:
            assert time.monotonic() < end_s
            time.sleep(0.05)


@contextmanager
def running(artifact: Path, *words: object, camera: str = "fake:") -> Iterator[Running]:
    whole = command(artifact, "--camera", camera, "--view", "page", "--port", 0, *words)
    with subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next((line for line in process.stderr if line.startswith("page: ")), "")
        assert line, "it ended without a page"
        try:
            yield Running(process, line.split()[1])
        finally:
            process.kill()


@pytest.fixture(scope="module")
def page(tiny_artifact: Path) -> Iterator[Running]:
    with running(tiny_artifact) as one:
        one.until(1)
        yield one


@pytest.fixture(scope="module")
def closed_page(tiny_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(f"{TOKEN}\n")
    with running(tiny_artifact, "--token-file", file) as one:
        yield one


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if find_chromium() is None:
        pytest.skip("Chromium is not installed")
    with Chromium(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture
def browser(chromium: Chromium) -> Iterator[Chromium]:
    yield chromium
    chromium.close_tabs()


def test_what_is_sent_is_the_newest_frame_and_what_is_said_of_it(page: Running) -> None:
    _, headers, body = page.ask("/next?after=-1&frame=-1")
    length = int.from_bytes(body[:4], "big")
    state = json.loads(body[4 : 4 + length])
    picture = cv2.imdecode(np.frombuffer(body[4 + length :], np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (480, 640, 3)
    colour = ("blue", "green", "red")[int(np.argmax(picture[200:].mean((0, 1))))]
    assert state["top"][0]["label"] in (colour, state["label"])
    assert {one["label"] for one in state["top"]} == {"red", "green", "blue"}
    again = page.ask(f"/next?after={state['serial']}&frame={state['frame']}")[2]
    later = json.loads(again[4 : 4 + int.from_bytes(again[:4], "big")])
    assert later["serial"] > state["serial"]
    assert later["frame"] > state["frame"]
    assert headers["cache-control"] == "no-store"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "path", ["/next", "/next?after=x&frame=99999999999999999999", "/next?after=-5", "/next?after=²"]
)
def test_whatever_number_is_asked_for_there_is_an_answer(page: Running, path: str) -> None:
    with contextlib.suppress(UnicodeEncodeError):
        assert page.ask(path)[0] == 200


def test_files_outside_the_page_are_not_served(page: Running) -> None:
    for path in ("/../page.py", "/%2e%2e/page.py", "/token.html", "/static/page.js", "//etc/passwd"):
        assert page.ask(path)[0] == 404


def test_a_stranger_s_name_for_this_machine_is_refused(page: Running) -> None:
    for name in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "[", ""):
        assert page.ask("/state", Host=name)[0] == 403
    for name in ("localhost", "LOCALHOST:9000", "127.0.0.1", "[::1]:8080"):
        assert page.ask("/state", Host=name)[0] == 200


def test_another_site_cannot_change_anything(page: Running) -> None:
    wanted = json.dumps({"threshold": 0.5})
    port = page.address[1]
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{port + 1}"},
        {"Origin": f"https://127.0.0.1:{port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert page.ask("/threshold", wanted, **headers)[0] == 403
    assert page.state()["threshold"] == 0
    assert "access-control-allow-origin" not in page.ask("/state", Origin="http://evil.example")[1]


@pytest.mark.parametrize(
    "body",
    [
        *("", "x", "[]", "{}", '{"threshold": 2}', '{"threshold": NaN}', '{"threshold": "0.5"}', '{"threshold": true}'),
        *('{"threshold": 1' + "0" * 500 + "}", "[" * 900, "x" * 100_000),
    ],
)
def test_a_threshold_that_is_none_is_refused(page: Running, body: str) -> None:
    with contextlib.suppress(ConnectionError):  # a long one is not read to its end
        assert page.ask("/threshold", body)[0] == 400
    assert page.state()["threshold"] == 0


def test_the_threshold_holds_for_this_run(tiny_artifact: Path, tmp_path: Path) -> None:
    lines = tmp_path / "o.jsonl"
    before = tiny_artifact.read_bytes()
    with running(tiny_artifact, "--jsonl", lines) as page:
        page.until(2)
        assert page.state()["label"] is not None
        assert json.loads(page.ask("/threshold", '{"threshold": 1}')[2]) == {"threshold": 1.0}
        page.until(page.state()["frames"] + 3)
        assert page.state()["label"] is None
        assert page.state()["threshold"] == 1.0
        page.process.send_signal(signal.SIGTERM)
        assert page.process.wait(30) == 143
    last = json.loads(lines.read_text("utf-8").splitlines()[-1])
    assert (last["label"], last["raw"]["label"]) == (None, None)
    assert tiny_artifact.read_bytes() == before


def test_who_does_not_know_the_token_sees_nothing(closed_page: Running) -> None:
    wrong = (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Cookie": f"edgecnn_{closed_page.address[1]}={TOKEN[:-1]}"},
        {"Cookie": f"edgecnn_1={TOKEN}"},
        {"Authorization": "Bearer \xff\xfe"},
    )
    for headers in wrong:
        for path in ("/", "/next", "/state", "/model", "/page.js", "/elsewhere", f"/state?token={TOKEN}"):
            status, _, body = closed_page.ask(path, **headers)
            assert status == 401
            assert b"tiny" not in body
            assert TOKEN.encode() not in body
        assert closed_page.ask("/threshold", '{"threshold": 1}', **headers)[0] == 401
    assert closed_page.ask("/?token=wrong")[0] == 401
    assert "set-cookie" not in closed_page.ask("/token", "token=wrong")[1]
    assert closed_page.ask("/state", Authorization=f"Bearer {TOKEN}")[0] == 200


def test_the_token_becomes_a_cookie_and_leaves_the_address(closed_page: Running) -> None:
    for path, body in ((f"/?token={TOKEN}", None), ("/token", f"token={TOKEN}")):
        status, headers, _ = closed_page.ask(path, body)
        assert (status, headers["location"]) == (303, "/")
        cookie, *attributes = headers["set-cookie"].split("; ")
        assert {"httponly", "samesite=lax"} <= {one.lower() for one in attributes}
        assert closed_page.ask("/state", Cookie=cookie)[0] == 200


def test_a_machine_s_other_addresses_need_a_token_that_no_log_keeps(tiny_artifact: Path, tmp_path: Path) -> None:
    words = command(tiny_artifact, "--camera", "fake:", "--host", "0.0.0.0", "--port", 0)
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "needs --token-file FILE" in done.stderr.splitlines()[-1]
    file = tmp_path / "token"
    file.write_text("short")
    done = subprocess.run([*words, "--token-file", str(file)], capture_output=True, text=True, timeout=60)
    assert "a token is 16 or more" in done.stderr.splitlines()[-1]
    assert "short" not in done.stderr
    file.write_text(TOKEN)
    with running(tiny_artifact, "--host", "0.0.0.0", "--token-file", file) as page:
        page.ask(f"/?token={TOKEN}")
        page.ask("/state", Host="any.name", Authorization=f"Bearer {TOKEN}")
        with socket.create_connection(page.address) as raw:
            raw.sendall(f"{TOKEN} nonsense\r\n\r\n".encode())
            raw.recv(100)
        page.process.send_signal(signal.SIGINT)
        out, errors = page.process.communicate(timeout=30)
    assert TOKEN not in page.url + out + errors


@contextmanager
def in_a_terminal(*words: object) -> Iterator[tuple[subprocess.Popen[bytes], Any]]:
    """The command with a terminal for all three streams, and a function that waits for a pattern in what it shows."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command(*words), stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = ""

        def until(pattern: str) -> str:
            nonlocal seen
            while (match := re.search(pattern, seen)) is None:
                seen += os.read(ours, 4096).decode()
            return match[1]

        try:
            yield process, until
        finally:
            process.kill()
            os.close(ours)


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_a_person_at_a_terminal_gets_the_page_and_the_line(tiny_artifact: Path) -> None:
    with in_a_terminal(tiny_artifact, "--camera", "fake:", "--port", 0) as (process, until):
        port = urlsplit(until(r"page: (http://127\.0\.0\.1:\d+/)\s")).port
        until(r"\r((?:red|green|blue) )")
        connection = http.client.HTTPConnection("127.0.0.1", port or 0, timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", "/state")
            assert json.load(connection.getresponse())["label"] in ("red", "green", "blue")
        process.send_signal(signal.SIGINT)
        until("(frames: )")


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_a_token_is_made_and_printed_where_somebody_sees_it(tiny_artifact: Path) -> None:
    with in_a_terminal(tiny_artifact, "--camera", "fake:", "--port", 0, "--host", "0.0.0.0") as (_, until):
        url = urlsplit(until(r"page: (http://\S+/\?token=[\w-]{22})\s"))
        connection = http.client.HTTPConnection("127.0.0.1", url.port or 0, timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", f"/?{url.query}")
            assert connection.getresponse().status == 303


def test_every_address_is_of_both_kinds(tiny_artifact: Path, tmp_path: Path) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    file = tmp_path / "token"
    file.write_text(TOKEN)
    with running(tiny_artifact, "--host", "::", "--token-file", file) as page:
        for address in ("127.0.0.1", "::1", urlsplit(page.url).hostname or ""):
            with socket.create_connection((address, page.address[1]), timeout=20):
                pass


def test_a_pipe_and_json_lines_need_no_port_and_load_no_server(tiny_artifact: Path) -> None:
    program, *words = command(tiny_artifact, "--camera", "fake:", "--frames", 2)
    for more in ((), ("--jsonl", "-")):
        whole = [program, "-X", "importtime", *words, *more]
        done = subprocess.run(whole, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        assert "page:" not in done.stderr + done.stdout
        assert "edgecnn_runtime.live.loop" in done.stderr
        assert not re.search("uvicorn|starlette|live.views.page", done.stderr)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--port", "{taken}"], 1, "port {taken} of 127.0.0.1 is taken already; choose another with --port"),
        (["--host", "203.0.113.7", "--token-file", "{token}"], 1, "--host 203.0.113.7: no address of this machine"),
        (["--token-file", "missing"], 1, "missing: the token cannot be read: No such file"),
        (["--view", "terminal", "--port", "1234"], 2, "add --view page"),
        (["--port", "65536"], 2, "--port"),
    ],
)
def test_mistakes_are_one_line(tiny_artifact: Path, tmp_path: Path, words: list[str], code: int, message: str) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as other:
        names = {"{taken}": str(other.getsockname()[1]), "{token}": str(token)}
        for name, value in names.items():
            words, message = [word.replace(name, value) for word in words], message.replace(name, value)
        whole = command(tiny_artifact, "--camera", "fake:", *words)
        done = subprocess.run(whole, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_viewers_do_not_keep_it_from_ending(tiny_artifact: Path, number: signal.Signals) -> None:
    with running(tiny_artifact, camera="fake:unplug=1-999") as page, contextlib.ExitStack() as stack:
        page.until(1)
        for request in (b"", b"GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /next?after=0 HTTP/1.1\r\nHo"):
            stack.enter_context(socket.create_connection(page.address)).sendall(request)  # and never reads or goes on
        waiting = threading.Thread(target=lambda: page.ask("/next?after=999999"), daemon=True)
        waiting.start()
        page.process.send_signal(number)
        out, errors = page.process.communicate(timeout=30)
        assert page.process.returncode == 128 + number
    assert out.startswith("frames: ")
    assert "Traceback" not in errors
    with socket.create_server(page.address):  # the port is free again
        pass


def test_a_viewer_that_reads_nothing_slows_nobody(tiny_artifact: Path) -> None:
    with running(tiny_artifact) as page, contextlib.ExitStack() as stack:
        for _ in range(20):
            lazy = stack.enter_context(socket.create_connection(page.address))
            lazy.sendall(b"GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        page.until(page.state()["frames"] + 30)
        assert page.ask("/next")[0] == 200


@pytest.mark.slow
def test_a_browser_sees_frames_and_the_label_that_the_json_says(
    tiny_artifact: Path, tmp_path: Path, browser: Chromium
) -> None:
    lines = tmp_path / "o.jsonl"
    with running(tiny_artifact, "--jsonl", lines) as page:
        tab = browser.tab(page.url)
        tab.until("document.getElementById('picture').naturalWidth === 640")
        seen = []
        for _ in range(4):
            seen.append(
                tab.get(
                    "[Number(document.getElementById('label').dataset.frame),"
                    "document.getElementById('label').textContent,"
                    "document.getElementById('probability').textContent,"
                    "Number(document.getElementById('picture').dataset.frame)]"
                )
            )
            tab.until(f"Number(document.getElementById('label').dataset.frame) > {seen[-1][0] + 20}")
        assert tab.text("#connection") == "live"
        assert tab.text("#artifact") == tiny_artifact.name
        assert tab.text("#accuracy") == "not measured"
        assert tab.complaints() == []
        page.process.send_signal(signal.SIGINT)
        assert page.process.wait(30) == 130
        tab.until("document.getElementById('connection').dataset.state === 'lost'")
        assert "ended" in tab.text("#connection")
    said = {document["frame"]: document for document in map(json.loads, lines.read_text("utf-8").splitlines())}
    for frame, label, probability, picture in seen:
        assert label == said[frame]["label"]
        assert probability == f"{said[frame]['probability']:.1%}"
        assert picture == frame


@pytest.mark.slow
def test_a_browser_sees_the_new_model_and_why_a_file_is_refused(
    tiny_artifact: Path, tmp_path: Path, browser: Chromium
) -> None:
    place, beside, lines = (tmp_path / name for name in ("model.tflite", "beside.tflite", "o.jsonl"))
    place.write_bytes(tiny_artifact.read_bytes())
    graph, contract, _ = read_artifact(tiny_artifact)
    labels = ("rojo", "verde", "azul")
    source = replace(contract.provenance, backbone="otro")
    with running(place, "--jsonl", lines) as page:
        tab = browser.tab(page.url)
        tab.until("document.getElementById('network').textContent.startsWith('tiny')")
        write_artifact(place, graph, replace(contract, labels=labels, provenance=source, goldens=()))
        tab.until("document.getElementById('network').textContent.startsWith('otro')")
        tab.until("['rojo', 'verde', 'azul'].includes(document.querySelector('#top .name').textContent)")
        beside.write_bytes(place.read_bytes()[:-50])
        beside.replace(place)
        tab.until("!document.getElementById('refused-row').hidden")
        assert "truncated or damaged" in tab.text("#refused")
        assert tab.text("#network").startswith("otro")
        assert tab.complaints() == []
        page.process.send_signal(signal.SIGTERM)
        _, errors = page.process.communicate(timeout=30)
    said = [line for line in errors.splitlines() if line.startswith("edgecnn: ")]
    assert len(said) == 2
    assert said[0] == f"edgecnn: {place}: replaced, answers come from otro int8, 3 labels now"
    assert "is refused" in said[1]
    documents = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    assert sorted({document["model"] for document in documents}) == [0, 1]
    assert [document["new_model"]["backbone"] for document in documents if document["new_model"]] == ["tiny", "otro"]
    for document in documents:
        assert document["raw"]["label"] in (labels if document["model"] else ("red", "green", "blue"))


@pytest.mark.slow
def test_a_browser_s_controls_act_by_mouse_and_by_key(tiny_artifact: Path, tmp_path: Path, browser: Chromium) -> None:
    with running(tiny_artifact) as page:
        tab, other = browser.tab(page.url), browser.tab(page.url)
        frame = "Number(document.getElementById('picture').dataset.frame)"
        tab.until(f"{frame} > 0")
        tab.get("document.getElementById('pause').click()")
        tab.until("document.getElementById('connection').textContent === 'paused'")
        stopped, going = tab.get(frame), other.until(frame)
        other.until(f"{frame} > {going + 30}")  # others go on
        assert tab.get(frame) == stopped
        browser.call("Browser.setDownloadBehavior", behavior="allowAndName", downloadPath=str(tmp_path))
        tab.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        tab.press("s")
        end_s = time.monotonic() + 30
        while not (saved := [path for path in tmp_path.iterdir() if path.suffix == ".jpg"]):
            assert time.monotonic() < end_s
            time.sleep(0.05)
        assert saved[0].name.endswith(f"-frame-{stopped}.jpg")
        picture = cv2.imread(str(saved[0]))
        assert picture is not None
        assert picture.shape == (480, 640, 3)
        tab.press("p")
        tab.until(f"{frame} > {stopped}")
        assert tab.get("document.getElementById('pause').getAttribute('aria-pressed')") == "false"
        tab.press("t")
        assert tab.get("document.activeElement.id") == "threshold"
        tab.press("End", 35)
        tab.until("document.getElementById('label').textContent === 'unknown'")
        assert page.state()["threshold"] == 1
        other.until("document.getElementById('threshold').value === '100'")
        other.until("document.getElementById('spoken').textContent === 'unknown'")
        tab.get("document.getElementById('keys').click()")
        tab.press("p")
        assert tab.get("document.getElementById('pause').getAttribute('aria-pressed')") == "false"
        assert tab.complaints() == []


@pytest.mark.slow
def test_a_browser_with_a_wrong_token_sees_nothing_and_with_the_right_one_all(
    closed_page: Running, browser: Chromium
) -> None:
    tab = browser.tab(closed_page.url)
    assert tab.get("document.getElementById('picture')") is None
    for token, expected in (
        ("wrong", "!!document.getElementById('wrong').textContent"),
        (TOKEN, "!!document.images[0]"),
    ):
        tab.get(f"document.getElementById('token').value = '{token}', document.querySelector('button').click()")
        tab.until(f"document.readyState === 'complete' && {expected}")
        assert (tab.get("!!document.getElementById('picture')")) == (token == TOKEN)
    tab.until("document.getElementById('picture').naturalWidth > 0")
    direct = browser.tab(f"{closed_page.url}?token={TOKEN}")
    direct.until("document.getElementById('picture').naturalWidth > 0")
    assert direct.get("location.href") == closed_page.url
    assert all(TOKEN not in entry["url"] for entry in direct.call("Page.getNavigationHistory")["entries"])
    assert direct.get("document.cookie") == ""


@pytest.mark.slow
def test_a_hostile_label_is_text_and_nothing_overflows_a_phone(
    tiny_artifact: Path, tmp_path: Path, browser: Chromium
) -> None:
    graph, contract, _ = read_artifact(tiny_artifact)
    labels = ("<img src=x onerror=alert(1)>", "</script><b>" + "w" * 90, "x" * 60)
    name = tmp_path / f"{'long-' * 20}tiny.tflite"
    write_artifact(name, graph, replace(contract, labels=labels, goldens=()))
    with running(name) as page:
        tab = browser.tab(page.url, width=360, height=740, color_scheme="dark", reduced_motion="reduce")
        tab.until("document.querySelectorAll('#top li').length === 3")
        tab.until(f"document.getElementById('label').textContent === {labels[0]!r}")
        assert tab.get("document.images.length") == 1
        assert tab.get("document.documentElement.scrollWidth") == 360
        tab.until(f"document.getElementById('label').textContent === {labels[1]!r}")
        assert tab.get("document.documentElement.scrollWidth") == 360
        tab.get("document.documentElement.style.fontSize = '200%'")
        assert tab.get("document.documentElement.scrollWidth") == 360, "with letters twice as large"
        assert tab.complaints() == []


@pytest.mark.slow
def test_a_screen_reader_finds_names_for_everything(page: Running, browser: Chromium) -> None:
    tab = browser.tab(page.url)
    tab.until("document.querySelectorAll('#top li').length === 3")
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    named = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]}
    roles = [role for role, _ in named]
    assert {"main", "banner", "contentinfo", "status", "list"} <= set(roles)
    for role, name in named:
        if role in ("button", "slider", "checkbox", "image", "region", "link"):
            assert name, role
    assert ("button", "Pause") in named
    slider = next(node for node in nodes if node["role"]["value"] == "slider")
    assert slider["name"]["value"].startswith("“unknown” below")


@pytest.mark.slow
def test_a_lost_camera_is_said_and_its_last_picture_stays(tiny_artifact: Path, browser: Chromium) -> None:
    with running(tiny_artifact, camera="fake:unplug=2-999") as page:
        tab = browser.tab(page.url)
        tab.until("document.getElementById('trouble').textContent === 'camera lost, trying again'")
        assert tab.get("document.getElementById('trouble').hidden") is False
        tab.until("document.getElementById('fps').textContent === '0.0'")
        assert tab.get("document.getElementById('label').classList.contains('old')"), "an answer to a past picture"
        late = browser.tab(page.url)
        late.until("document.getElementById('picture').naturalWidth === 640")
