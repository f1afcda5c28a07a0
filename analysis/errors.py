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


class ChunkError(InputError):
    """A chunk could not be processed. Its arguments are text, so that it travels from any worker.

    Attributes
    ----------
    details
        The traceback of its cause.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message, details)
        self.details = details

    def __str__(self) -> str:
        return str(self.args[0])


class UnreadableError(ChunkError):
    """Events of a file could not be read."""


class ChangedError(UnreadableError):
    """A file is not the one that was looked at before the run: trying again will not help."""


class ProcessorError(ChunkError):
    """The user's code failed on events that could be read."""
