"""``aiopde ls``, ``tree``, ``cat``, ``write``: the tree, as a shell sees it."""

from __future__ import annotations

import base64
import json
import select
import sys
from errno import EIO
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from ._client import ask, show, talk
from ._errors import CommandError
from ._text import table

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Callable, Iterator

    from aiopde.control import Client

    Told = dict[str, Any]

_BLOCK: Final = 1 << 16
"""Bytes that a write passes on in one call."""
_NEWS: Final = select.POLLIN | select.POLLPRI
_GLANCE: Final = 1.0
"""Seconds after which a file is looked at again that does not tell when it has news."""


def ls(options: argparse.Namespace) -> int:
    """List a directory."""
    told: list[Told] = ask(options, "ls", path=options.path)
    return show(options, told, lambda: _long(told) if options.long else _short(told))


def _short(told: list[Told]) -> str:
    return "\n".join(entry["name"] for entry in told)


def _long(told: list[Told]) -> str:
    heads = ("MODE", "LINKS", "UID", "GID", "SIZE", "INSIDE", "OPEN", "NAME")
    keys = ("mode", "nlink", "uid", "gid", "size", "in_use", "open_files")
    rows = [(*(entry[key] for key in keys), _name(entry)) for entry in told]
    return table(heads, rows, right="123456")


def _name(entry: Told) -> str:
    return entry["name"] if entry["target"] is None else f"{entry['name']} -> {entry['target']}"


def tree(options: argparse.Namespace) -> int:
    """Draw the tree."""
    told: Told = ask(options, "tree", path=options.path)
    return show(options, told, lambda: "\n".join(_branches(told)))


def _branches(told: Told) -> Iterator[str]:
    for _, line, entry in branches(told["entries"]):
        yield f"{line}{remarks(entry)}"
    if told["truncated"]:
        yield "... and more"


def branches(entries: list[Told]) -> Iterator[tuple[str, str, Told]]:
    """Draw the lines of a tree that is listed parents first; yield path, line and entry."""
    root, *rest = entries
    yield root["path"], root["path"], root
    depth_of_root = root["path"].rstrip("/").count("/")
    depths = [entry["path"].count("/") - depth_of_root for entry in rest]
    for n, entry in enumerate(rest):
        stem = "".join(
            "│   " if _goes_on(depths, n, level) else "    " for level in range(1, depths[n])
        )
        fork = "├── " if _goes_on(depths, n, depths[n]) else "└── "
        yield entry["path"], f"{stem}{fork}{_name(entry)}", entry


def _goes_on(depths: list[int], here: int, level: int) -> bool:
    """Tell whether there is one more at that level, before it goes back above it."""
    for depth in depths[here + 1 :]:
        if depth <= level:
            return depth == level
    return False


def remarks(entry: Told) -> str:
    """Say what is going on in an entry, if anything is."""
    found = [f"{entry['in_use']} inside"] if entry["in_use"] else []
    found += [f"{entry['open_files']} open"] if entry["open_files"] else []
    found += [entry["state"]] if entry["state"] != "live" else []
    return f"  ({', '.join(found)})" if found else ""


# -- reading ------------------------------------------------------------------------------------


def cat(options: argparse.Namespace) -> int:
    """Print files, and go on with what comes, if so wished."""
    if options.follow and len(options.paths) > 1:
        msg = "cat -f follows one file: start another one for each"
        raise CommandError(msg)
    talk(options, partial(_cat, options=options))
    return 0


async def _cat(client: Client, options: argparse.Namespace) -> None:
    for path in options.paths:
        opened: Told = await client.ask("open", path=path)
        out = partial(_print_json, path) if options.json else _print_raw
        await (_follow if options.follow else _copy)(client, opened, out)
        await client.ask("close", file=opened["file"])


def _print_raw(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _print_json(path: str, data: bytes) -> None:
    try:
        told = {"path": path, "text": data.decode()}
    except UnicodeDecodeError:
        told = {"path": path, "base64": base64.b64encode(data).decode()}
    print(json.dumps(told), flush=True)


async def _copy(client: Client, opened: Told, out: Callable[[bytes], None]) -> bool:
    """Pass on what is there, from the position to the end of the file; tell if it was anything."""
    found = False
    while True:
        data = base64.b64decode((await client.ask("read", file=opened["file"]))["data"])
        if not data:
            return found
        found = True
        out(data)


async def _follow(client: Client, opened: Told, out: Callable[[bytes], None]) -> None:
    """
    Pass on what is there and what comes later, until the file is removed.

    A file may tell of news in two ways. Like /proc/mounts: it can always be read, and what is
    exceptional is that it has changed, so it is read anew from the start. Or like /proc/kmsg: it
    cannot be read until there is more.
    """
    file = opened["file"]
    if not opened["polls"]:
        await _glance(client, file, out)
    await _copy(client, opened, out)
    ready = await client.ask("poll", file=file, events=_NEWS)
    # What can be read now and has more was not read to its end: news came meanwhile.
    while ready == select.POLLIN and await _copy(client, opened, out):
        ready = await client.ask("poll", file=file, events=_NEWS)
    events = _NEWS & ~ready | select.POLLPRI
    while True:
        if ready & (select.POLLPRI | select.POLLERR):
            out(await _read_anew(client, file))
        else:
            await _copy(client, opened, out)
        ready = await client.ask("poll", file=file, events=events, seconds=None)


async def _glance(client: Client, file: int, out: Callable[[bytes], None]) -> None:
    """Look again and again at a file that does not tell, and pass it on when it is another."""
    shown = b""
    while True:
        found = await _read_anew(client, file)
        if found != shown:
            out(found)
            shown = found
        await anyio.sleep(_GLANCE)


async def _read_anew(client: Client, file: int) -> bytes:
    return b"".join([data async for data in _blocks(client, file)])


async def _blocks(client: Client, file: int) -> AsyncIterator[bytes]:
    offset = 0
    while True:
        told = await client.ask("read", file=file, offset=offset)
        data = base64.b64decode(told["data"])
        if not data:
            return
        yield data
        offset += len(data)


# -- writing ------------------------------------------------------------------------------------


def write(options: argparse.Namespace) -> int:
    """Write a text, or what comes in on stdin, into a file."""
    text: str | None = options.text
    data = sys.stdin.buffer.read() if text is None else f"{text}\n".encode()
    written = talk(options, partial(_write, path=options.path, data=data))
    return show(options, {"path": options.path, "written": written}, lambda: "")


async def _write(client: Client, path: str, data: bytes) -> int:
    file = (await client.ask("open", path=path, mode="w"))["file"]
    done = 0
    while done < len(data):
        block = base64.b64encode(data[done : done + _BLOCK]).decode()
        taken = await client.ask("write", file=file, data=block)
        if not taken:
            raise OSError(EIO, f"it takes no more, and left {len(data) - done} bytes", path)
        done += taken
    await client.ask("close", file=file)
    return done
