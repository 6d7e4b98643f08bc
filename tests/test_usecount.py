"""The guard: let calls in until removal begins, then wait until the last one is out."""

import dataclasses
from errno import EIO

import anyio
import pytest
from anyio import CancelScope, Event, create_task_group
from hypothesis import given, strategies as st

from aiopde import BIAS, EntryRemovedError, UseCount, UseCountStatistics
from tests.helpers import all_blocked, start


class TestAdmission:
    def test_counts_the_calls_inside(self) -> None:
        """
        use() lets a call in and counts it until its unuse().
        """
        count = UseCount()
        assert count.use()
        assert count.use()
        assert count.in_use == 2
        count.unuse()
        assert count.in_use == 1

    def test_refuses_once_removal_has_begun(self) -> None:
        """
        After kill() nobody gets in, and nothing is counted for who was refused.
        """
        count = UseCount()
        count.use()
        count.kill()
        assert not count.use()
        assert count.in_use == 1

    def test_stays_shut(self) -> None:
        """
        Not even the last call out opens the door again.
        """
        count = UseCount()
        count.use()
        count.kill()
        count.unuse()
        assert not count.use()
        assert count.removing

    @pytest.mark.parametrize("removed", [False, True])
    def test_unuse_without_use_is_refused(self, removed: bool) -> None:
        """
        One unuse() too many is an error with the cure in it, and changes nothing.
        """
        count = UseCount("pool")
        if removed:
            count.kill()
        with pytest.raises(RuntimeError, match=r"'pool'.*once for each use\(\)"):
            count.unuse()
        assert (count.in_use, count.removing) == (0, removed)


class TestAttributes:
    def test_name_and_fast_acquire(self) -> None:
        """
        What it was made with; the name may be changed.
        """
        count = UseCount("pool", fast_acquire=True)
        count.name = "cache"
        assert (count.name, count.fast_acquire) == ("cache", True)
        assert (UseCount().name, UseCount().fast_acquire) == ("", False)


class TestKill:
    def test_is_true_for_one(self) -> None:
        """
        Of any number of removers one is told it is the one.
        """
        count = UseCount()
        assert [count.kill(), count.kill(), count.kill()] == [True, False, False]

    def test_adds_the_bias_once(self) -> None:
        """
        A second BIAS would bring the count back to life; calls inside are still told right.
        """
        count = UseCount()
        count.use()
        count.kill()
        count.kill()
        assert (count.in_use, count.removing) == (1, True)

    def test_bias_is_int_min(self) -> None:
        """
        BIAS is the kernel's.
        """
        assert BIAS == -(2**31)


class TestRundown:
    async def test_ends_if_nobody_is_inside(self) -> None:
        """
        There is nothing to wait for where nobody is inside.
        """
        count = UseCount()
        await count.rundown()
        assert count.removing
        assert not count.use()

    async def test_waits_for_the_calls_inside(self) -> None:
        """
        rundown() returns after the last call that was inside has left, not before.
        """
        count = UseCount()
        count.use()
        count.use()
        async with create_task_group() as tg:
            remover = await start(tg, count.rundown)
            count.unuse()
            await all_blocked()
            assert not remover.done
            count.unuse()
            await all_blocked()
            assert remover.done

    async def test_refuses_at_once(self) -> None:
        """
        While it waits, newcomers are refused already.
        """
        count = UseCount()
        count.use()
        async with create_task_group() as tg:
            await start(tg, count.rundown)
            assert not count.use()
            count.unuse()

    async def test_any_number_may_wait(self) -> None:
        """
        Everybody who waits returns when the last call is out, whoever began the removal.
        """
        count = UseCount()
        count.use()
        async with create_task_group() as tg:
            removers = [await start(tg, count.rundown) for _ in range(3)]
            assert [remover.done for remover in removers] == [False] * 3
            count.unuse()
            await all_blocked()
            assert [remover.done for remover in removers] == [True] * 3

    async def test_after_the_end_returns(self) -> None:
        """
        Who comes when all is over need not wait.
        """
        count = UseCount()
        count.use()
        count.kill()
        count.unuse()
        await count.rundown()
        await count.rundown()

    async def test_waits_for_calls_that_were_killed_by_hand(self) -> None:
        """
        kill() first and rundown() later is the same as rundown() alone.
        """
        count = UseCount()
        count.use()
        count.kill()
        async with create_task_group() as tg:
            remover = await start(tg, count.rundown)
            assert not remover.done
            count.unuse()

    async def test_cancelled_it_refuses_still(self) -> None:
        """
        A cancelled rundown() raises at once; what began to go does not come back.
        """
        count = UseCount()
        count.use()
        async with create_task_group() as tg:
            remover = await start(tg, count.rundown)
            remover.cancel()
            await all_blocked()
            assert remover.cancelled
            assert not count.use()
            assert count.in_use == 1

    async def test_cancelled_it_can_be_awaited_again(self) -> None:
        """
        After a cancellation, another rundown() goes on waiting for the same calls.
        """
        count = UseCount()
        count.use()
        async with create_task_group() as tg:
            first = await start(tg, count.rundown)
            first.cancel()
            second = await start(tg, count.rundown)
            assert not second.done
            count.unuse()

    async def test_makes_an_event_only_if_somebody_is_inside(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Removing what nobody uses costs no event.
        """
        monkeypatch.delattr(anyio, "Event")
        await UseCount().rundown()


class TestContextManager:
    async def test_is_inside_for_the_block(self) -> None:
        """
        ``async with`` counts its block as a call, and gives the count itself.
        """
        count = UseCount()
        async with count as same:
            assert same is count
            assert count.in_use == 1
        assert count.in_use == 0

    async def test_is_refused_once_removal_has_begun(self) -> None:
        """
        Too late is an EntryRemovedError with EIO that names what is guarded.
        """
        count = UseCount("pool")
        count.kill()
        with pytest.raises(EntryRemovedError) as caught:
            await count.__aenter__()
        assert (caught.value.errno, caught.value.filename) == (EIO, "pool")
        assert count.in_use == 0

    async def test_an_error_leaves(self) -> None:
        """
        A block that fails is not inside any more, and its error is its own.
        """
        count = UseCount()
        with pytest.raises(KeyError):
            async with count:
                raise KeyError
        assert count.in_use == 0

    async def test_a_cancelled_call_leaves(self) -> None:
        """
        A block that is cancelled is not inside any more, and a remover need not wait for it.
        """
        count = UseCount()
        async with create_task_group() as tg:

            async def work() -> None:
                async with count:
                    await Event().wait()

            worker = await start(tg, work)
            remover = await start(tg, count.rundown)
            worker.cancel()
            await all_blocked()
            assert (worker.cancelled, remover.done) == (True, True)

    async def test_cancelled_on_the_way_in(self) -> None:
        """
        The checkpoint comes before admission: who is cancelled there never was inside.
        """
        count = UseCount()
        with CancelScope() as scope:
            scope.cancel()
            await count.__aenter__()
        assert scope.cancelled_caught
        assert count.in_use == 0


class TestObservation:
    def test_statistics_is_a_snapshot(self) -> None:
        """
        statistics() tells what is true now, and stays what it was.
        """
        count = UseCount()
        count.use()
        before = count.statistics()
        count.kill()
        assert before == UseCountStatistics(in_use=1, removing=False)
        assert count.statistics() == UseCountStatistics(in_use=1, removing=True)
        with pytest.raises(dataclasses.FrozenInstanceError):
            before.in_use = 0  # type: ignore[misc]

    def test_repr(self) -> None:
        """
        Its repr says what is guarded, how many are inside, and whether removal has begun.
        """
        count = UseCount("pool")
        assert repr(count) == "<UseCount 'pool' in_use=0 live>"
        count.use()
        count.kill()
        assert repr(count) == "<UseCount 'pool' in_use=1 removing>"

    def test_needs_no_name(self) -> None:
        """
        The name is for messages only; it may be changed.
        """
        count = UseCount()
        assert count.name == ""
        count.name = "pool"
        assert "pool" in repr(count)


class KernelCount:
    """use_pde, unuse_pde and proc_entry_rundown, in their own arithmetic."""

    def __init__(self) -> None:
        self.in_use = 0
        self.completed = False

    def use_pde(self) -> bool:
        if self.in_use >= 0:
            self.in_use += 1
            return True
        return False

    def unuse_pde(self) -> None:
        self.in_use -= 1
        self.completed |= self.in_use == BIAS

    def rundown(self) -> None:
        self.in_use += BIAS
        self.completed |= self.in_use == BIAS


class TestModel:
    @given(steps=st.lists(st.sampled_from(["use", "use", "unuse", "remove"]), max_size=12))
    async def test_agrees_with_the_kernels_integer(self, steps: list[str]) -> None:
        """
        Whatever comes in whatever order: admissions, numbers and the end are the kernel's.
        """
        count, kernel = UseCount(), KernelCount()
        async with create_task_group() as tg:
            remover = None
            for step in steps:
                if step == "use":
                    assert count.use() == kernel.use_pde()
                elif step == "unuse" and count.in_use:
                    count.unuse()
                    kernel.unuse_pde()
                elif step == "remove" and remover is None:
                    remover = await start(tg, count.rundown)
                    kernel.rundown()
                await all_blocked()
                assert count.removing == (kernel.in_use < 0)
                assert count.in_use == kernel.in_use - (BIAS if count.removing else 0)
                assert (remover is not None and remover.done) == kernel.completed
            tg.cancel_scope.cancel()
