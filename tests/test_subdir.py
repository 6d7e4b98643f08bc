"""The entries below one entry: the kernel's order, and that names come and go."""

from aiopde import ProcFS, ProcOps


class TestOrder:
    async def test_shorter_names_come_first(self) -> None:
        """
        Names are listed by length, those of one length by their bytes.
        """
        async with ProcFS() as proc:
            names = ["vmstat", "irq", "bus", "B", "a", "é", "uptime", "é1", "zz", "\udcff"]
            for name in names:
                proc.create(name, ProcOps())
            assert proc.listdir() == [
                *("B", "a", "\udcff", "zz", "é", "bus", "irq", "é1", "uptime", "vmstat"),
            ]

    async def test_holds_while_names_come_and_go(self) -> None:
        """
        Whatever is added or removed between two looks, the next one is in order.
        """
        async with ProcFS() as proc:
            for name in ("b", "d", "aa"):
                proc.create(name, ProcOps())
            assert proc.listdir() == ["b", "d", "aa"]
            await proc.remove("b")  # the first
            assert proc.listdir() == ["d", "aa"]
            proc.create("c", ProcOps())
            await proc.remove("aa")  # the last, with no look in between
            assert proc.listdir() == ["c", "d"]
            await proc.remove("d")
            await proc.remove("c")
            assert proc.listdir() == []
            proc.create("e", ProcOps())
            assert proc.listdir() == ["e"]

    async def test_whatever_order_they_came_in(self) -> None:
        """
        The order is that of the names, also after names were added, taken away and added again.
        """
        names = [f"{prefix}{n}" for prefix in ("b", "a", "é", "ab") for n in range(12)]
        async with ProcFS() as proc:
            expected: list[str] = []
            for name in names:
                proc.create(name, ProcOps())
                expected.append(name)
                expected.sort(key=lambda each: (len(each.encode()), each.encode()))
                assert proc.listdir() == expected
            for name in names[::3]:
                await proc.remove(name)
                expected.remove(name)
                assert proc.listdir() == expected
            for name in ("zz", "a"):
                proc.create(name, ProcOps())
            assert proc.listdir()[0] == "a"
            assert [child.name for child in proc.root._children] == proc.listdir()
