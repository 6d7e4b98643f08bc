"""Seq files as entries: the handlers procfs itself brings (proc_seq_ops, proc_single_ops)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._ops import ProcOps
from ._records import records
from ._seq_file import SeqOps
from ._seq_read import seq_lseek, seq_open, seq_read
from ._single import single

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ._open_file import File
    from ._seq_file import ShowAllHandler, TextHandler


def seq_table(ops: SeqOps | Callable[[], AsyncIterator[str | bytes]]) -> ProcOps:
    """Make the table of a file of records."""
    return _table(ops if isinstance(ops, SeqOps) else records(ops), _seq_open)


def single_table(show: ShowAllHandler | TextHandler) -> ProcOps:
    """Make the table of a file whose text is made all at once."""
    return _table(single(show), _single_open)


def _table(seq: SeqOps, opener: Callable[[File], None]) -> ProcOps:
    table = ProcOps(open=opener, read_iter=seq_read, lseek=seq_lseek, release=seq._release)
    object.__setattr__(table, "_seq", seq)
    return table


def _seq_open(file: File) -> None:
    seq_open(file, file.entry.ops._seq)


def _single_open(file: File) -> None:
    seq_open(file, file.entry.ops._seq).private = file.data
