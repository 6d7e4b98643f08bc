"""What a command tells its user."""


class CommandError(Exception):
    """What the user can put right: one line on stderr, and exit code 2."""

    code: int = 2
