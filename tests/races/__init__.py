"""
Races: two calls that meet, each interleaving that matters placed by hand.

_stage.py is where they are played, and checks what must hold after any of them; _sweep.py cancels
somebody at every point of a story; the files test_cancel_* do that to everybody. The letters in
the names of the tests are those of the contract: L an interleaving of a removal, B a bug that Linux
or a relative of procfs has had, A what an async design owes, I an invariant.

Interleavings
=============
L1       test_read_vs_remove    L2       test_read_vs_remove, test_open_vs_remove
L3, L4   test_read_vs_remove    L5, L6   test_open_vs_remove
L7 - L11 test_close_vs_remove   L12      test_remove_vs_remove
L13      test_subtree_vs_child  L14      test_lookup_vs_remove
L15      test_create_vs_remove  L16      test_lookup_vs_remove: following a symlink never waits,
                                         so none can be followed *during* the bias
L17, L18 test_close_vs_remove
L3 cannot happen as such: here publishing the completion and adding the bias are one step.

Bugs
====
B1  test_read_vs_remove         B2  test_create_vs_remove       B3  test_open_vs_remove
B4  test_close_vs_remove        B5  test_close_vs_remove        B6  test_close_vs_remove
B7  test_read_vs_remove         B8  test_subtree_vs_child       B9  test_remove_vs_remove
B10 test_subtree_vs_child       B11 test_read_vs_remove         B12 test_lookup_vs_remove
B13 test_open_vs_remove         B14 test_read_vs_remove         B16 test_readdir_vs_remove
B17 test_create_vs_remove       B18 test_create_vs_remove       B25 test_create_vs_remove
B26 test_create_vs_remove       B28 test_read_vs_remove         B29 test_remove_vs_remove
B33 test_remove_vs_remove

elsewhere: B20, B21 (the buffer and the tail of a record of a seq file) in tests/test_seq_read.py;
B22 (its position) in tests/test_seq_file.py; B27 (who is cancelled when a grace ends) in
tests/test_watch.py; B30 in test_put_vs_rmmod; B31 (a table that is none) in
tests/test_register.py; B32 (a module's permanent entry) in tests/test_module.py; B4 and B19 (what
is freed, and when), B15 in test_lookup_vs_remove.

cannot happen to us:
B23  there is no splice
B24  what is created first and removed last is the caller's choice; examples/driver_module.py shows
     the right one

Deadlocks: D1 to D7 are test_self_removal; those through the unload of a module, tests/test_unload.

A1, A2, A3 and I4 are test_cancel_vs_remove, test_cancel_in_handlers and test_cancel_vs_rmmod; A4 is
by itself here, as publishing the event and adding the bias are one step; A5 is test_self_removal;
A6, A7 and most of the invariants I1 to I45 by name in the files above and in tests/properties.
"""

import pytest

# So that what they assert says what was there instead.
pytest.register_assert_rewrite(f"{__name__}._stage", f"{__name__}._sweep")
