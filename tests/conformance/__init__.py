"""
Plays recordings of a real kernel against aiopde, and compares: ``python -m tests.conformance``.

The code map. ``_scenario`` reads a recording, ``_words`` the words in it; ``_script`` reads
``scripts/``, written by hand where Linux's answer is known but not recorded. ``_player`` plays the
steps: ``_quiet`` tells when nothing can move, ``_actors`` are the threads and processes,
``_kernel`` is the registration side with its handlers and gates, ``_modules`` are the modules,
which use these too; ``_calls`` are the system calls, in ``_path_calls``, ``_file_calls``,
``_poll_calls``, ``_vfs_calls`` and ``_module_calls``; ``_machine`` is what was in /proc before.
``_judge`` tells the verdict: ``_rules`` says what our decisions make of an answer, knowing no more
than ``_history``; ``_overlay`` lists the steps that differ one by one; ``_compare`` compares.
Nothing here knows a scenario by name but ``overlay.json`` and ``mount.json``.

``_mount`` is the other place to play in: a real mount, used by real processes. ``_mount_player``
directs them, and tells when nothing can move; ``_ground`` is where they are, ``_remote`` our side
of the ``_worker``, whose threads make the ``_syscalls``. Entries, handlers and gates stay in the
program: ``_kernel`` is the same. ``_mount_rules`` says what the kernel's FUSE module makes of an
answer, ``mount.json`` lists what no rule can tell.

Another verb is another function in one of the ``_*_calls`` and in ``_syscalls``, or another method
of the kernel.
"""
