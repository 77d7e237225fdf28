"""Access control of the demo's server: allowed hosts and origins, size of requests, authentication, throttling."""

import base64
import binascii
import ipaddress
import json
import logging
import re
import secrets
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from gradio.route_utils import compare_passwords_securely
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .inputs import failed
from .limits import MAX_BODY
from .sign_in import PAGE

logger = logging.getLogger(__name__)

# What strangers may ask for where the demo has a password.
OPEN = ("/health", "/login", "/login/", "/logout", "/robots.txt", "/favicon.ico", "/gradio_api/startup-events")
# What Gradio serves beside the demo: it runs ffmpeg on what is sent, and fetches pages of others.
CLOSED = (
    *("/gradio_api/process_recording", "/gradio_api/proxy="),
    *("/gradio_api/file=http:", "/gradio_api/file=https:", "/gradio_api/file/"),
)
# What answers a refusal as an error of the server.
DIRECT = ("/gradio_api/run/", "/gradio_api/api/", "/gradio_api/mcp")
EVENTS, UPLOAD = "/gradio_api/", "/gradio_api/upload"
SESSION = re.compile(r"[\w-]{1,128}", re.ASCII)
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", re.IGNORECASE)
TOO_LARGE = f"The request is larger than the {MAX_BODY >> 20} MB that are taken."
FORGET = 3600.0  # seconds after which wrong passwords of a client no longer count
MOST_CLIENTS = 10_000  # that are remembered


class Throttle:
    """How long a client has to wait until it may try a password again: twice as long after each wrong one.

    Args:
        free: tries that cost no wait.
        longest: seconds to wait at most, so that nobody is locked out for good.
    """

    def __init__(self, free: int, longest: float) -> None:
        self.free, self.longest = free, longest
        self.tries: dict[str, tuple[int, float]] = {}

    def begin(self, client: str) -> float:
        """Seconds to wait before the next try, or 0, and the try counts as a wrong one until [`succeed`]."""
        now = time.monotonic()
        count, last = self.tries.pop(client, (0, now))
        if now - last > FORGET:
            count = 0
        pause = min(2.0 ** min(count - self.free, 30), self.longest) if count >= self.free else 0.0
        wait = max(last + pause - now, 0.0)
        self.tries[client] = (count, last) if wait else (count + 1, now)
        while len(self.tries) > MOST_CLIENTS:
            self.tries.pop(next(iter(self.tries)))
        return wait

    def succeed(self, client: str) -> None:
        self.tries.pop(client, None)


class Guard:
    """ASGI middleware that refuses, in this order, foreign hosts and origins, large bodies, and strangers.

    Args:
        app: the server behind it, a `gradio.routes.App`.
        hosts: names by which the demo may be addressed besides IP addresses and this machine's own names, with
            `*.example.com` for all names below one; None for any name, where the network is not private anyway.
            Pages of these hosts may use the demo too.
        names: further names of the demo, in the same form, whose pages may not use it by another address.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] | None = (), names: Iterable[str] = ()) -> None:
        self.app = app
        self.hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self.names = frozenset(name.lower() for name in names)
        self.throttle = Throttle(free=3, longest=60)
        self.proxied = Throttle(free=30, longest=5)  # all that come by a proxy, as who they are may be made up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request, started = Request(scope), None

        async def send_on(message: Message) -> None:
            nonlocal started
            started = started or Headers(raw=message.get("headers", []))
            await send(message)

        try:
            answer = self.refusal(request) or self.check_user(request)
            if answer is None:
                await self.serve(request, limited(receive), send_on)
                return
        except HTTPException as error:
            answer = refusal(error.status_code, error.detail)
        except Exception as error:
            if started is None:
                answer = failure(error)
            elif started.get("content-type", "").startswith("text/event-stream"):  # Gradio's, of a session not there
                answer = end
            else:
                raise
        await answer(scope, receive, send)

    async def serve(self, request: Request, receive: Receive, send: Send) -> None:
        """Answer by the app; watch whether a password was right, and give what was refused in words its status."""
        path = request.scope["path"]
        if path.startswith(CLOSED):
            raise HTTPException(403, "The demo does not offer this.")
        login = path.rstrip("/") == "/login" and request.method == "POST" and request.scope["app"].auth is not None
        direct = path.startswith(DIRECT)
        if login:
            self.begin_try(request)
        if request.method == "POST" and path.startswith(EVENTS) and path != UPLOAD:
            receive = await checked_body(request.scope, receive)

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                if login and message["status"] == 200:
                    self.end_try(request)
                if direct and message["status"] == 500 and not failed.get():
                    message["status"] = 422
            await send(message)

        await self.app(request.scope, receive, watch)

    def begin_try(self, request: Request) -> None:
        wait = self.throttle.begin(client_of(request))
        if not wait and "x-forwarded-for" in request.headers:
            wait = self.proxied.begin("")
        if wait:
            raise HTTPException(429, f"Too many wrong passwords: try again in {int(wait) + 1} seconds.")

    def end_try(self, request: Request) -> None:
        self.throttle.succeed(client_of(request))
        self.proxied.succeed("")

    def refusal(self, request: Request) -> Response | None:
        """Why a request is refused whoever sent it; None where it is not."""
        if not self.is_ours(request):
            return refusal(403, "This demo does not answer to that host or origin: see hfvision demo --allowed-hosts.")
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > MAX_BODY:
            return refusal(413, TOO_LARGE)
        return None

    def is_ours(self, request: Request) -> bool:
        """Whether a request is addressed to this demo, and comes from no page but its own."""
        if self.hosts is None:
            return True
        named = request.headers.getlist("host")
        forwarded = ",".join(request.headers.getlist("x-forwarded-host"))
        names = [*named, *filter(None, map(str.strip, forwarded.split(",")))]
        if len(named) != 1 or not all(self.is_own_name(hostname(name)) for name in names):
            return False
        pages = [origin.partition("://")[2] for origin in request.headers.getlist("origin")]
        return all(page in names or is_one_of(hostname(page), self.hosts) for page in pages)

    def is_own_name(self, name: str) -> bool:
        """Whether no page of others can have this name: it is an address, this machine's, or was allowed."""
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return is_one_of(name, (self.hosts or frozenset()) | self.names | own_names())
        return True

    def check_user(self, request: Request) -> Response | None:
        """What strangers get where the demo has a password; basic authentication signs in as the page does."""
        app, path = request.scope["app"], request.scope["path"]
        if app.auth is None or path in OPEN:
            return None
        cookie = f"access-token-unsecure-{app.cookie_id}"
        for name in (cookie, f"access-token-{app.cookie_id}"):
            if request.cookies.get(name) in app.tokens:
                return None
        given = basic_credentials(request)
        if given is None and path == "/":
            return HTMLResponse(PAGE)
        if given is None:
            return refusal(401, {"error": "Not authenticated", "auth_message": None})
        user, password = given
        self.begin_try(request)
        if not compare_passwords_securely(password, app.auth.get(user, secrets.token_hex())):
            return refusal(401, "Incorrect credentials.")
        self.end_try(request)
        token = next((token for token, name in app.tokens.items() if name == user), None) or secrets.token_urlsafe(16)
        app.tokens[token] = user
        kept = [(name, value) for name, value in request.scope["headers"] if name not in (b"cookie", b"authorization")]
        request.scope["headers"] = [*kept, (b"cookie", f"{cookie}={token}".encode())]
        return None


def refusal(status: int, detail: Any) -> Response:
    return JSONResponse({"detail": detail}, status)


async def end(scope: Scope, receive: Receive, send: Send) -> None:
    """The end of an answer that has begun."""
    await send({"type": "http.response.body", "body": b""})


def failure(error: Exception) -> Response:
    """What a client is told of an exception: its cause only where that is the request."""
    if isinstance(error, OSError):
        logger.exception("A request to the demo failed.")
        return refusal(500, "The demo failed at this request; what happened is in its log.")
    logger.warning("A request to the demo was refused: %r", error)
    return refusal(400, "The demo cannot use this request: /gradio_api/info says what it takes.")


def limited(receive: Receive) -> Receive:
    """`receive` that raises an exception of status 413 once a body is larger than it may be."""
    total = 0

    async def count() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MAX_BODY:
            raise HTTPException(413, TOO_LARGE)
        return message

    return count


async def checked_body(scope: Scope, receive: Receive) -> Receive:
    """`receive` of a body that is read already: Gradio keeps the names of sessions, which must be short words."""
    body = await Request(scope, receive).body()
    data = None
    with suppress(ValueError, RecursionError):  # the app says what is wrong with what is no JSON
        data = json.loads(body)
    session = data.get("session_hash") if isinstance(data, dict) else None
    if isinstance(session, str) and not SESSION.fullmatch(session):
        raise HTTPException(422, "session_hash must be of at most 128 letters, digits, hyphens and underscores.")
    messages = [{"type": "http.request", "body": body}]

    async def read() -> Message:
        return messages.pop() if messages else await receive()

    return read


def hostname(netloc: str) -> str:
    """The name in `name:port`, in small letters and without the brackets of an IPv6 address; empty if it is none."""
    found = HOST.fullmatch(netloc)
    return found[1].strip("[]").lower() if found else ""


def is_one_of(name: str, hosts: frozenset[str]) -> bool:
    return name in hosts or any(name.endswith(host[1:]) for host in hosts if host.startswith("*."))


@lru_cache(maxsize=1)
def own_names() -> frozenset[str]:
    name = socket.gethostname().lower()
    return frozenset({"localhost", name, f"{name}.local", socket.getfqdn().lower()})


def client_of(request: Request) -> str:
    """Who sends a request: an IPv4 address, or the network of an IPv6 address, of which one client has many."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else host


def basic_credentials(request: Request) -> tuple[str, str] | None:
    scheme, _, data = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(data, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if colon else None
