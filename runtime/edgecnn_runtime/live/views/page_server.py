"""What the page's server answers, and to whom."""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
import threading
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgecnn_runtime.errors import UsageError
from edgecnn_runtime.live.artifact import Model
from edgecnn_runtime.live.board import read_board
from edgecnn_runtime.live.loop import Tuning
from edgecnn_runtime.live.observation import trouble
from edgecnn_runtime.live.views.page import TOP, Feed, Moment

_STATIC = Path(__file__).with_name("static")
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_OPEN = ("/page.css", "/icon.svg", "/token")  # what the question for the token needs itself

_POLL_S = 5.0
_BOARD_S = 2.0
_STOP_S = 0.05
_MAX_BODY = 1000
_MAX_CONNECTIONS = 64
_REQUEST_S = 10.0  # who connects and asks nothing for so long takes a place that others need
_GRACE_S = 0.3

# Nothing is fetched from elsewhere, shown inside another site, kept, or told to others.
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


class _Protocol(H11Protocol):
    """Closes a connection on which nothing is asked; uvicorn itself waits for ever for a first request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(_REQUEST_S, self._close_unasked)

    def _close_unasked(self) -> None:
        if self.cycle is None:
            self.transport.close()


async def serve(app: ASGIApp, feed: Feed, listening: socket.socket, stop: threading.Event) -> None:
    """Serves until `stop` is set, then as long as it takes to end what is being answered, half a second at most."""
    feed.attach()
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,  # would hold the token
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=_GRACE_S,  # type: ignore[arg-type]  # handed to asyncio.wait_for as it is
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listening]))
    while not (stop.is_set() or serving.done()):
        await asyncio.sleep(_STOP_S)
    server.should_exit = True
    await serving


def make_app(feed: Feed, model: Model, tuning: Tuning, token: str | None, hosts: frozenset[str] | None) -> ASGIApp:
    """The application.

    Args:
        token: without it a viewer is told nothing; None lets everybody in.
        hosts: names by which the server may be asked; None is any.
    """
    page = _Page(feed, model, tuning)
    files = {f"/{path.name}": path.read_bytes() for path in _STATIC.iterdir() if path.suffix in _TYPES}
    question = files.pop("/token.html").decode("utf-8")
    files["/"] = files.pop("/page.html")

    async def static(request: Request) -> Response:
        path = request.url.path
        return Response(files[path], media_type=_TYPES[".html" if path == "/" else Path(path).suffix])

    routes = [Route(path, static) for path in files]
    routes += [
        Route("/model", page.model),
        Route("/state", page.state),
        Route("/next", page.next),
        Route("/threshold", page.threshold, methods=["POST"]),
    ]
    return _Guard(Starlette(routes=routes), token, hosts, question)


class _Page:
    """What is asked for while a run goes on."""

    def __init__(self, feed: Feed, model: Model, tuning: Tuning) -> None:
        self._feed, self._model, self._tuning = feed, model, tuning
        self._board: dict[str, Any] = {}
        self._board_s = -_BOARD_S

    async def model(self, request: Request) -> Response:
        """What changes with the model alone."""
        return JSONResponse(self._model_of(self._feed.newest).document())

    async def state(self, request: Request) -> Response:
        """The newest moment without its picture."""
        return JSONResponse(self._document(self._feed.newest))

    async def next(self, request: Request) -> Response:
        """Waits for another moment than number `after`: four bytes with the length of its JSON, most significant first,
        the JSON, and the picture as a JPEG file; without the picture where the viewer has that `frame` already."""
        moment = await self._feed.other_than(_number(request, "after"), _POLL_S)
        if self._feed.ended:
            return PlainTextResponse("edgecnn live has ended", 503)
        document = json.dumps(self._document(moment), ensure_ascii=False).encode()
        observation, picture = moment.observation, b""
        if observation is not None and observation.frame.index != _number(request, "frame"):
            picture = self._feed.jpeg(observation)
        body = len(document).to_bytes(4, "big") + document + picture
        return Response(body, media_type="application/octet-stream")

    async def threshold(self, request: Request) -> Response:
        """Takes `{"threshold": 0.5}` for this run; the model's file keeps its own."""
        try:
            value = json.loads(await _body(request))["threshold"]
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError
            self._tuning.change(threshold=float(value))
        except UsageError as error:
            return PlainTextResponse(str(error), 400)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return PlainTextResponse('wanted: {"threshold": a number in [0, 1]}', 400)
        return JSONResponse({"threshold": self._tuning.rules.threshold})

    def _model_of(self, moment: Moment) -> Model:
        return (moment.observation and moment.observation.model) or self._model

    def _document(self, moment: Moment) -> dict[str, Any]:
        now_s = time.monotonic()
        if now_s - self._board_s >= _BOARD_S:
            self._board, self._board_s = asdict(read_board()), now_s
        observation, model = moment.observation, self._model_of(moment)
        document: dict[str, Any] = {
            "serial": moment.serial,
            **moment.stats.document(),
            "trouble": trouble(moment.stats),
            "threshold": self._tuning.rules.threshold,
            "model": model.number,
            "refused": model.refused,
            "board": self._board,
            "frame": None,
        }
        if observation is not None:
            decision = observation.decision
            best, labels = np.argsort(-decision.smoothed, kind="stable")[:TOP], observation.result.labels
            document |= {
                "frame": observation.frame.index,
                "label": decision.label,
                "probability": decision.probability,
                "event": decision.event,
                "top": [{"label": labels[i], "probability": float(decision.smoothed[i])} for i in best],
            }
        return document


class _Guard:
    """Lets a request through to the application or refuses it, and gives every answer the headers of this file.

    The token comes once in the URL or the form, then by a cookie that scripts cannot read, or in a header
    `Authorization: Bearer …`. What changes something must come from the page itself.
    """

    def __init__(self, app: ASGIApp, token: str | None, hosts: frozenset[str] | None, question: str) -> None:
        self._app, self._token, self._hosts, self._question = app, token, hosts, question

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        answer = await self._answer(request)
        await (answer or self._app)(scope, receive, partial(_send, send))

    async def _answer(self, request: Request) -> Response | None:
        """An answer of the guard's own; None lets the request through."""
        if self._hosts is not None and _hostname(request) not in self._hosts:
            return PlainTextResponse("asked by a name that this page does not have", 403)
        if request.method not in ("GET", "HEAD") and not _is_same_origin(request):
            return PlainTextResponse("not from this page", 403)
        path = request.url.path
        if self._token is None:
            return None
        if path == "/token" and request.method == "POST":
            return self._admit(
                request, parse_qs((await _body(request)).decode("utf-8", "replace")).get("token", [""])[0]
            )
        if path == "/" and "token" in request.query_params:
            return self._admit(request, request.query_params["token"])
        if path in _OPEN or self._knows(request):
            return None
        return self._ask(request, "")

    def _knows(self, request: Request) -> bool:
        kind, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = bearer.strip() if kind.lower() == "bearer" else request.cookies.get(_cookie(request), "")
        return self._is_right(given)

    def _is_right(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), (self._token or "").encode())

    def _admit(self, request: Request, given: str) -> Response:
        if not self._is_right(given):
            return self._ask(request, "That is not the token.")
        # To an address without the token, so that it stands in no history.
        answer = RedirectResponse("/", 303)
        answer.set_cookie(_cookie(request), given, httponly=True, samesite="lax")
        return answer

    def _ask(self, request: Request, words: str) -> Response:
        if request.url.path not in ("/", "/token"):
            return PlainTextResponse("the token is missing or wrong", 401)
        return Response(self._question.replace("WRONG", words), 401, media_type="text/html")


async def _send(send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        MutableHeaders(scope=message).update(_HEADERS)
    await send(message)


async def _body(request: Request) -> bytes:
    """The body, or nothing where it is longer than anything that is asked for here."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY:
            return b""
    return body


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 16 else -1


def _hostname(request: Request) -> str | None:
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname
    except ValueError:
        return None


def _is_same_origin(request: Request) -> bool:
    """By what browsers say of the page that asks; other programs say nothing, and have no user to be tricked."""
    origin = request.headers.get("origin")
    if origin is not None and origin != f"http://{request.headers.get('host', '')}":
        return False
    return request.headers.get("sec-fetch-site", "same-origin") == "same-origin"


def _cookie(request: Request) -> str:
    """Ports share their cookies, and there may be a page on several."""
    server = request.scope.get("server")
    return f"edgecnn_{server[1] if server else 0}"
