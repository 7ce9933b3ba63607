"""Middleware that refuses bodies beyond a limit before they fill the memory."""

import json
from collections.abc import Mapping
from typing import Any


class BodyLimit:
    """ASGI middleware: answers 413 if the body of a request is larger than its path allows.

    Args:
      app: The application behind it.
      limits: Path -> largest body in bytes. Other paths are not limited here.
    """

    def __init__(self, app: Any, limits: Mapping[str, int]):
        self._app = app
        self._limits = limits

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Forwards a request, or refuses it."""
        limit = self._limits.get(scope.get("path", "")) if scope["type"] == "http" else None
        if limit is None:
            await self._app(scope, receive, send)
            return
        # The announced length is not trusted: chunked bodies announce none.
        messages, size, is_complete = [], 0, False
        while not is_complete and size <= limit:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client is gone
            messages.append(message)
            size += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
        if size > limit:
            await _refuse(send, limit)
            return

        async def replay() -> dict:
            return messages.pop(0) if messages else await receive()

        await self._app(scope, replay, send)


async def _refuse(send: Any, limit: int) -> None:
    text = {"detail": f"the body of the request is too large; expected at most {limit} bytes"}
    body = json.dumps(text).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
