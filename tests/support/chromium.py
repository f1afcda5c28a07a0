"""The Chromium that looks at pages."""

from __future__ import annotations

import shutil
from typing import Final

BROWSERS: Final = ("chromium-headless-shell", "chromium", "google-chrome")


def program() -> str | None:
    """Path of the system's; None if there is none, and Playwright's own is to be used."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)
