"""
A small HTTP service that keeps its live state in a mounted tree, and loses a plugin under load.

A page is a file of the tree: GET /greeter/hello reads greeter/hello. An operator sees the same
files with ls and cat, and sets what can be set with echo. The plugin is a module: rmmod refuses
new requests for its pages at once, which then are 404, and returns when those inside have been
answered. Needs what examples/mount.py needs.

    python examples/service_with_procfs.py [asyncio|trio|uvloop]
"""

import sys
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator
from errno import EIO

import anyio
from anyio.abc import SocketAttribute, SocketStream

from aiopde import File, Kernel, ProcOps
from aiopde.fuse import mount

REQUESTS = 200


async def greeter(kernel: Kernel) -> AsyncGenerator[None]:
    """A plugin: two pages, one of which says how often the other was asked for."""
    greeting, served = "hello", 0

    async def hello() -> str:
        nonlocal served
        await anyio.sleep(0.01)  # a database, say
        served += 1
        return f"{greeting}\n"

    async def count() -> str:
        return f"{served}\n"

    async def set_greeting(file: File, data: bytes, pos: int) -> int:
        nonlocal greeting
        greeting = data.decode().strip()
        return len(data)

    async with kernel.proc.mkdir("greeter"):
        kernel.proc.create_single("greeter/hello", hello)
        kernel.proc.create_single("greeter/served", count)
        kernel.proc.create("greeter/greeting", ProcOps(write=set_greeting), mode=0o200)
        yield


class Service:
    """Serves the tree's files, one request on each connection."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.answers: Counter[int] = Counter()
        self.answered = anyio.Event()

    async def serve(self, stream: SocketStream) -> None:
        """Answer one request."""
        async with stream:
            request = (await stream.receive(4096)).decode("latin-1")
            status, text = await self.page(request.split()[1].lstrip("/"))
            self.answers[status] += 1
            self.answered.set()
            await stream.send(f"HTTP/1.0 {status}\r\n\r\n{text}".encode())

    async def page(self, path: str) -> tuple[int, str]:
        """Read a file of the tree; what is gone, or goes, is an answer too."""
        try:
            return 200, await self.kernel.proc.read_text(path)
        except FileNotFoundError:
            return 404, "no such page\n"
        except OSError as exc:
            return (410 if exc.errno == EIO else 500), f"{exc.strerror}\n"


async def get(port: int, path: str) -> str:
    """Ask for a page, as a browser does."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b""
        async for chunk in stream:
            answer += chunk
    return answer.decode().partition("\r\n\r\n")[2].strip()


async def shell(line: str, folder: str) -> None:
    """Run a line as an operator would, in any shell."""
    print("$", line)
    done = await anyio.run_process(f"cd {folder}; {line}")  # not cwd=: see mount()
    print(done.stdout.decode(), end="")


async def main() -> None:
    """Serve, look inside, and unload the plugin under load."""
    with tempfile.TemporaryDirectory() as folder:
        async with Kernel() as kernel, mount(kernel.proc, folder):
            await kernel.insmod(greeter)
            service = Service(kernel)
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
            async with listener, anyio.create_task_group() as tg:
                tg.start_soon(listener.serve, service.serve)
                port = listener.extra(SocketAttribute.local_port)  # noqa: S610  not Django's
                print("GET /greeter/hello:", await get(port, "/greeter/hello"))
                await shell("echo good morning > greeter/greeting; cat greeter/served", folder)
                print("GET /greeter/hello:", await get(port, "/greeter/hello"))
                await under_load(kernel, service, port)
                await shell("ls", folder)
                tg.cancel_scope.cancel()


async def under_load(kernel: Kernel, service: Service, port: int) -> None:
    """Unload the plugin while requests come in."""
    service.answers.clear()
    service.answered = anyio.Event()
    async with anyio.create_task_group() as clients:
        for _ in range(REQUESTS):
            clients.start_soon(get, port, "/greeter/hello")
        await service.answered.wait()
        await kernel.rmmod("greeter")
        print("rmmod is back; nobody is inside:", kernel.proc.holders())
    well = service.answers[200] + service.answers[404] == REQUESTS
    print("each request was answered, with its page or 404:", well)


if __name__ == "__main__":
    loop = sys.argv[1] if sys.argv[1:] else "asyncio"
    if loop == "uvloop":
        anyio.run(main, backend_options={"use_uvloop": True})
    else:
        anyio.run(main, backend=loop)
