"""The one exception that a user is meant to read."""

from __future__ import annotations


class InputError(Exception):
    """What the user gave cannot be used; the message is one sentence that says what to do.

    The command lines print the message without a traceback and exit with status 2.
    """


class NotInstalledError(InputError):
    """What an optional part needs is not on this machine; the message says how to install it."""


class WorkerLostError(Exception):
    """Workers died more often than batches are given to another; `run` adds which chunks it was.

    The message is a clause: what died, how often, and the likely cause.
    """
