"""
Status pages for any ASGI server, each of them there as long as what it tells of.

`app` is an application without a framework. GET /proc/NAME answers with a file of the tree. Any
other request is an upload, and has a file of its own for as long as that takes, which tells how far
it is; it goes with the request, also while somebody reads it. The lifespan call enters the tree and
leaves it, in one task, which ends whoever still waits in a page. (On SIGTERM servers first give
requests a time of their own: hypercorn's --graceful-timeout, uvicorn's
--timeout-graceful-shutdown, which is for ever unless it is set.)

    cd examples; hypercorn --worker-class trio asgi_app:app
    cd examples; uvicorn --timeout-graceful-shutdown 3 asgi_app:app

Below, a few lines stand in for the server and its clients.

    python examples/asgi_app.py [asyncio|trio|uvloop]
"""

import itertools
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio

from aiopde import EntryRemovedError, File, ProcFS, ProcOps, WaitQueue

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Application:
    """Takes uploads, and shows how far they are."""

    def __init__(self) -> None:
        self.proc = ProcFS(grace=5)  # for handlers that do not end by themselves
        self.numbers = itertools.count(1)
        self.done = 0
        self.changed = WaitQueue()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer the server."""
        if scope["type"] == "lifespan":
            await self.live(receive, send)
        elif scope["path"].startswith("/proc/"):
            await answer(send, *await self.page(scope["path"]))
        else:
            await answer(send, 200, await self.upload(receive))

    async def live(self, receive: Receive, send: Send) -> None:
        """Be there from the server's start to its shutdown."""
        await receive()  # lifespan.startup
        async with self.proc as proc:
            proc.mkdir("uploads")
            proc.create_single("done", self.show_done)
            proc.create("next", ProcOps(read=self.wait_for_next))
            await send({"type": "lifespan.startup.complete"})
            await receive()  # lifespan.shutdown
        await send({"type": "lifespan.shutdown.complete"})

    async def page(self, path: str) -> tuple[int, str]:
        """Read a file; one that went meanwhile is no failure of the server."""
        try:
            return 200, await self.proc.read_text(path)
        except EntryRemovedError:
            return 410, "gone while it was read\n"
        except OSError as exc:
            return (404 if isinstance(exc, FileNotFoundError) else 500), f"{exc.strerror}\n"

    async def upload(self, receive: Receive) -> str:
        """Take a body of any length; its file goes with it, even if this is cancelled."""
        number, size, more = next(self.numbers), 0, True

        async def show_size() -> str:
            return f"{size} bytes\n"

        async with self.proc.create_single(f"uploads/{number}", show_size):
            while more:
                message = await receive()
                size += len(message.get("body", b""))
                more = message.get("more_body", False)
        self.done += 1
        self.changed.wake_up()
        return f"{size} bytes in all\n"

    async def show_done(self) -> str:
        """Tell how many uploads are done."""
        return f"{self.done}\n"

    async def wait_for_next(self, file: File, size: int, pos: int) -> bytes:
        """Answer when an upload is done; ends by itself when the server shuts down."""
        seen = self.done
        await file.wait_event(self.changed, lambda: pos or self.done > seen)
        return b"another one is done\n"[pos : pos + size]


app = Application()


async def answer(send: Send, status: int, text: str) -> None:
    """Send a page."""
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})


async def nothing() -> Message:
    """Send no body."""
    return {"type": "http.request"}


async def ask(app: Application, request: str, body: Receive = nothing) -> None:
    """Ask as a server does, and print the answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "http", "path": request.split()[1]}, body, send)
    print(f"{request}: {sent[0]['status']} {sent[1]['body'].decode()}", end="")


async def main() -> None:
    """Start, ask for this and that, and shut down with somebody waiting in a page."""
    app = Application()
    to_app, receive = anyio.create_memory_object_stream[Message](2)
    from_app, told = anyio.create_memory_object_stream[Message](2)
    body, received = anyio.create_memory_object_stream[Message](2)
    async with receive, from_app, received, anyio.create_task_group() as tg, to_app, told, body:
        lifespan: Message = {"type": "lifespan"}
        tg.start_soon(app, lifespan, receive.receive, from_app.send)
        await to_app.send({"type": "lifespan.startup"})
        print((await told.receive())["type"])

        tg.start_soon(ask, app, "POST /film", received.receive)
        await body.send({"type": "http.request", "body": b"x" * 1000, "more_body": True})
        await anyio.wait_all_tasks_blocked()
        await ask(app, "GET /proc/uploads/1")
        tg.start_soon(ask, app, "GET /proc/next")
        await anyio.wait_all_tasks_blocked()
        await body.send({"type": "http.request", "body": b"x" * 24})
        await anyio.wait_all_tasks_blocked()
        await ask(app, "GET /proc/uploads/1")
        await ask(app, "GET /proc/done")

        tg.start_soon(ask, app, "GET /proc/next")
        await anyio.wait_all_tasks_blocked()
        await to_app.send({"type": "lifespan.shutdown"})
        print((await told.receive())["type"])


if __name__ == "__main__":
    loop = sys.argv[1] if sys.argv[1:] else "asyncio"
    if loop == "uvloop":
        anyio.run(main, backend_options={"use_uvloop": True})
    else:
        anyio.run(main, backend=loop)
