"""The local web page of a recording. Images are asked for by number, so no other file is ever served."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.middleware.trustedhost import TrustedHostMiddleware

from sowa.data.images import read_image
from sowa.data.sources import Image
from sowa.errors import InputError
from sowa.extensions.gaze.fixations import Fixation
from sowa.extensions.gaze.record.session import MOST_CLICKS, Session

PAGE = Path(__file__).with_name("page")
LOOPBACK = ["127.0.0.1", "localhost", "::1", "[::1]"]  # the last as browsers ask for the one before
LARGEST = 2**18  # bytes of a message
BLURRED = 4.0  # standard deviation in pixels of what is sent; images are shrunk to it and the browser enlarges them
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Click(BaseModel):
    """Where somebody clicked.

    Attributes:
        x: In pixels of the image, from its left.
        y: From its top.
        duration_ms: How long that region was sharp, in milliseconds.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    x: Finite
    y: Finite
    duration_ms: Finite


class Clicks(BaseModel):
    """All clicks on one image, in their order."""

    model_config = ConfigDict(extra="forbid", strict=True)

    clicks: list[Click] = Field(max_length=MOST_CLICKS)


def create_app(session: Session, finished: Callable[[], None], hosts: list[str] | None = None) -> FastAPI:
    """The page for a session. A message that isn't right is answered by 422 and changes nothing.

    Args:
        session: The observer's way through the images.
        finished: Is called when the last image is done.
        hosts: The names under which the page may be asked for, by default this machine's own, so that no other web site
            reaches it by a name of its own.
    """
    app = FastAPI(title="sowa gaze record", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK if hosts is None else hosts)

    @app.middleware("http")
    async def protect(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    for address, name in (("/", "page.html"), ("/style.css", "style.css"), ("/script.js", "script.js")):
        app.add_api_route(address, _file(PAGE / name))

    @app.get("/session")
    def state() -> dict[str, Any]:
        return describe(session)

    @app.get("/images/{number}/{kind}")
    def image(number: int, kind: str) -> Response:
        return _image(session, number, kind)

    @app.post("/images/{number}/clicks")
    async def record(number: int, request: Request) -> dict[str, Any]:
        found = await _clicks(request)
        try:
            session.add(number, [Fixation(each.x, each.y, each.duration_ms) for each in found.clicks])
        except InputError as error:
            raise HTTPException(422, str(error)) from None
        if session.next is None:
            finished()
        return describe(session)

    return app


def describe(session: Session) -> dict[str, Any]:
    """What the page is told: how far the observer is, and the next image with its lens, in pixels."""
    number = session.next
    found = {
        "observer": session.observer,
        "total": len(session.images),
        "recorded": session.recorded,
        "least": session.lens.least,
        "most": MOST_CLICKS,
        "image": None,
    }
    if number is None:
        return found
    height, width = session.images[number].size
    radius = session.lens.radius * max(height, width)
    return found | {"image": {"number": number, "width": width, "height": height, "radius": radius}}


def bind(host: str, port: int) -> socket.socket:
    """A socket to serve on.

    Args:
        host: The address.
        port: 0 (any free one) to 65535.

    Raises:
        InputError: it isn't to be had.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"--port is {port}, allowed is 0 (any) to 65535")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InputError(f"{host} port {port} can't be used ({error}); choose another --port, or 0 for any") from None


def serve(session: Session, listening: socket.socket, hosts: list[str] | None = None) -> None:
    """Serves the page until every image is done, or somebody interrupts.

    Args:
        session: The observer's way through the images.
        listening: As of `bind`.
        hosts: As in `create_app`.
    """

    def stop() -> None:
        server.should_exit = True

    config = uvicorn.Config(create_app(session, stop, hosts), log_level="warning", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    server.run(sockets=[listening])


async def _clicks(request: Request) -> Clicks:
    """What a message holds. Another site's page can't send JSON here, since it would have to ask first."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(422, "the message must be application/json")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > LARGEST:
            raise HTTPException(422, f"the message is larger than {LARGEST} bytes")
    try:
        return Clicks.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise HTTPException(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _file(path: Path) -> Callable[[], Awaitable[FileResponse]]:
    async def get() -> FileResponse:
        return FileResponse(path)

    return get


def _image(session: Session, number: int, kind: str) -> Response:
    if not 0 <= number < len(session.images) or kind not in ("sharp", "blurred"):
        raise HTTPException(404, f"there is no image {number}, {kind}")
    try:
        image_HW3 = read_image(session.images[number].path)
    except InputError as error:
        raise HTTPException(404, str(error)) from None
    if kind == "blurred":
        image_HW3 = _blurred(image_HW3, session.lens.blur)
    return Response(_png(image_HW3), media_type="image/png")


def _blurred(image_HW3: Image, blur: float) -> Image:
    """The image blurred by ``blur`` of its longer side, no larger than that needs."""
    height, width = image_HW3.shape[:2]
    sigma = blur * max(height, width)
    part = min(1.0, BLURRED / sigma)
    size = max(1, round(width * part)), max(1, round(height * part))
    small = cv2.resize(image_HW3, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), sigma * part), dtype=np.uint8)


def _png(image_HW3: Image) -> bytes:
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    return bytes(cv2.imencode(".png", cv2.cvtColor(image_HW3, cv2.COLOR_RGB2BGR), fast)[1])
