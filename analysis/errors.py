"""Errors that a user reads: one sentence that says what to do."""

from __future__ import annotations


class InputError(Exception):
    """Input of the user that cannot be used. Command lines print the sentence and exit with 2."""


class NotInstalledError(InputError):
    """A package for an optional feature is missing; the message says how to install it."""


class WorkerLostError(Exception):
    """Workers died more often than a batch is tried; the message is a clause about them.

    `analysis.runner.failures` makes a sentence of it that names the chunks.
    """


class ChunkError(InputError):
    """A chunk could not be processed; ``details`` has the traceback of the cause.

    Its arguments are text, so that any worker can send it.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message, details)
        self.details = details

    def __str__(self) -> str:
        return str(self.args[0])


class UnreadableError(ChunkError):
    """Events of a file could not be read."""


class ChangedError(UnreadableError):
    """A file is not the one that was inspected before the run: trying again will not help."""


class ProcessorError(ChunkError):
    """The user's code failed on events that could be read."""


def brief(error: BaseException | str, length: int = 160) -> str:
    """Text of an error on one line, shortened; the error's type if it has none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= length else f"{text[:length]}..."
