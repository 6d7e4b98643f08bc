"""
The control socket: a running kernel, asked and told from another process.

In the kernel's program, beside whatever else it does::

    async with anyio.create_task_group() as tg:
        async with Kernel() as kernel:
            await tg.start(serve_control, kernel)
            ...
        tg.cancel_scope.cancel()

and in the other one (the ``aiopde`` command is one)::

    async with await connect() as client:
        print(await client.ask("lsmod"))

Who may connect is the superuser of the tree, and may have the program run any file (``insmod``).
So the socket is in a folder that only its owner can enter, has the mode 0600, and answers nobody
but the user that the program runs as, and root.

The protocol
------------

Each message is a JSON object in one line of at most 1 MiB (a reply: 16 MiB), ended by ``\\n``::

    {"id": 1, "method": "rmmod", "params": {"name": "hello", "grace": 5}}
    {"id": 1, "result": {"name": "hello", "seconds": 0.2}}

- *id* is a number or a string, and comes back in the reply. Requests run beside each other, at
  most 64 of a connection; replies come in the order in which they are done.
- *params* may be left out if there are none. What each method takes and returns, `_methods.py`
  says: info, lsmod, modinfo, insmod, modprobe, reload, rmmod; ps, why; ls, tree; open, read,
  write, poll, close; mount, umount, mounts. Files are the connection's; a mount is the kernel's,
  and stays when its client goes. Bytes are in base64, in *data*.
- An error: ``{"id": 1, "error": {"class": "FileNotFoundError", "errno": 2, "message": "...",
  "path": "..."}}``. *errno* and *path* are there if it is an OSError; *seconds* and *holders* if a
  grace has ended; *errors* if it is several; *where* tells the line that raised it.
- A line that is no request gets an error too (``EBADMSG``; ``EMSGSIZE`` if too long), with the id
  null if there is none. The connection goes on.
- Who closes the connection takes back what it asked for: the calls are cancelled, its files are
  closed, an init or a mount that is not done is undone. An unload or an unmount goes on: what
  began to go never comes back.
  Who only shuts its own direction down, as ``socat`` does, still gets the replies.

General layout: `_server` accepts and answers with `_methods`, which describe things with `_views`
and mount the tree by `_mounts`; `_client` asks. Both speak `_wire`, through a `_stream`, and meet
in a `_place`.
"""

from ._client import Client, connect
from ._mounts import Mounts
from ._place import default_socket
from ._server import serve_control
from ._wire import RemoteError

__all__ = ["Client", "Mounts", "RemoteError", "connect", "default_socket", "serve_control"]

for _thing in (Client, Mounts, RemoteError, connect, default_socket, serve_control):
    _thing.__module__ = __name__
