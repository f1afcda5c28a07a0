"""The one exception that a user is meant to read."""

from __future__ import annotations


class InputError(Exception):
    """What the user gave cannot be used; the message is one sentence that says what to do.

    The command lines print the message without a traceback and exit with status 2.
    """
