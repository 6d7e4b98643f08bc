"""
All that users import, gathered once.

General layout: one private module for each kernel object, each importing only from those below
it in the README's drawing. Users import from ``aiopde``; private paths never show, not even in
tracebacks.
"""

from ._cdev import Cdev, DevFS
from ._credentials import ROOT, Credentials
from ._entry import EntryStatistics, ProcDirEntry
from ._errors import EntryRemovedError, HandlerError
from ._file import ProcFile
from ._holders import Holder
from ._kernel import Kernel
from ._kmod import depends
from ._mapping import Mapping
from ._module import Module, ModuleInfo, ModuleState, this_module
from ._open_file import DEFAULT_POLLMASK, MAX_RW_COUNT, File
from ._ops import ProcOps
from ._poison import UseAfterFreeError
from ._procfs import ProcFS
from ._seq_file import SEQ_SKIP, SeqFile, SeqOps
from ._stat import DirEntry, Stat
from ._trace import TraceRecord, trace
from ._usecount import BIAS, UseCount, UseCountStatistics
from ._wait import WaitQueue
from ._watch import RemovalTimeoutError

__all__ = [
    "BIAS",
    "DEFAULT_POLLMASK",
    "MAX_RW_COUNT",
    "ROOT",
    "SEQ_SKIP",
    "Cdev",
    "Credentials",
    "DevFS",
    "DirEntry",
    "EntryRemovedError",
    "EntryStatistics",
    "File",
    "HandlerError",
    "Holder",
    "Kernel",
    "Mapping",
    "Module",
    "ModuleInfo",
    "ModuleState",
    "ProcDirEntry",
    "ProcFS",
    "ProcFile",
    "ProcOps",
    "RemovalTimeoutError",
    "SeqFile",
    "SeqOps",
    "Stat",
    "TraceRecord",
    "UseAfterFreeError",
    "UseCount",
    "UseCountStatistics",
    "WaitQueue",
    "depends",
    "this_module",
    "trace",
]


# Tracebacks, pickles and documentation should name the path users import from.
def _take_over(names: list[str]) -> None:
    for name in names:
        if hasattr(globals()[name], "__qualname__"):
            globals()[name].__module__ = "aiopde"


_take_over(__all__)
