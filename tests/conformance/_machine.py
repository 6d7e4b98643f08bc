"""What a machine's /proc holds before any scenario begins (Linux 6.1, as it boots)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiopde import ProcOps

if TYPE_CHECKING:
    from aiopde import ProcFS

_DIRECTORIES: Final = "acpi bus driver fs irq pressure scsi sys sysvipc tty"
_FILES: Final = """
    buddyinfo cgroups cmdline consoles cpuinfo crypto devices diskstats dma execdomains fb
    filesystems interrupts iomem ioports kallsyms kcore key-users keys kmsg kpagecgroup kpagecount
    kpageflags loadavg locks meminfo misc mtrr pagetypeinfo partitions schedstat slabinfo
    softirqs stat swaps sysrq-trigger timer_list uptime version vmallocinfo vmstat zoneinfo
"""
_LINKS: Final = {"mounts": "self/mounts", "net": "self/net"}


def furnish(proc: ProcFS) -> None:
    """Register the names every machine has besides *modules*, so that scenarios find them taken."""
    for name in _DIRECTORIES.split():
        proc.mkdir(name)
    for name in _FILES.split():
        proc.create(name, ProcOps())
    for name, target in _LINKS.items():
        proc.symlink(name, target)
