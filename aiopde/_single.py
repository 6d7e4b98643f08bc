"""A file that is one record, made all at once (single_open)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ._handlers import accepts, coroutine_function, name_of, nonsense
from ._seq_file import SeqOps

if TYPE_CHECKING:
    from ._seq_file import SeqFile, ShowAllHandler, TextHandler

_ONE: Final = object()


def single(show: ShowAllHandler | TextHandler) -> SeqOps:
    """
    Make the handlers of a file that is one record.

    What one pass through the file reads is one snapshot: *show* runs when the first byte is
    read, and again after a rewind. It runs again too, from its beginning, if it wrote more than
    fits: with each doubling from 4096 bytes on.

    Args:
        show: ``async def show(m)``, which writes to *m*, or ``async def show()``, which returns
            the whole text as ``str`` or ``bytes``. Which of them it is, its parameters say:
            a function that can be called with *m* is.

    Raises:
        TypeError: It can be called neither way.

    Linux: ``single_open``.
    """
    takes_m = accepts(show, ("m",)) or not accepts(show, ())
    parameters = ("m",) if takes_m else ()
    call = coroutine_function("single", "show", show, parameters)

    async def start(m: SeqFile, pos: int) -> object:
        return _ONE if pos == 0 else None

    async def step(m: SeqFile, item: object, pos: int) -> tuple[None, int]:
        return None, pos + 1

    async def stop(m: SeqFile, item: object) -> None:
        pass

    async def show_all(m: SeqFile, item: object) -> Any:
        return await call(m)

    async def show_text(m: SeqFile, item: object) -> None:
        text = await call()
        if not isinstance(text, (str, bytes)):
            raise nonsense(show, "show", text, "str or bytes; to write to m, take it: show(m)")
        m.puts(text)

    shown = show_all if takes_m else show_text
    shown.__qualname__ = name_of(show)  # errors should name the user's function
    return SeqOps(start=start, next=step, stop=stop, show=shown)
