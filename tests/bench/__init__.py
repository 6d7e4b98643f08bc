"""
What aiopde costs, beside what people use today: ``python -m tests.bench``.

Every figure is a ratio of two things measured in one process, round by round in turn, so that a
busy machine slows both. To add rows, put a module here whose functions are marked with ``@row``:
nothing else has to know of it.
"""
