"""Files that an endpoint may read: folders and beginnings of URLs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from analysis.folders import resolved

URL_SCHEMES: Final = ("http", "https", "root", "roots", "xrootd")


class NotAllowedError(Exception):
    """A file that the endpoint must not read; one sentence."""


@dataclass(frozen=True)
class Roots:
    """Folders and servers whose files may be read."""

    folders: tuple[Path, ...] = ()
    """With everything in them."""
    urls: tuple[str, ...] = ()
    """Beginnings of URLs: ``root://server:1094/``."""
    follow: bool = False
    """Whether these servers may redirect to any other."""

    @classmethod
    def of(cls, allowed: tuple[str | Path, ...], *, follow: bool = False) -> Roots:
        """Roots from folders and URLs; NotAllowedError if there is no such folder or server."""
        folders, urls = [], []
        for root in map(str, allowed):
            if "://" in root:
                parts = urlsplit(root)
                if parts.scheme not in URL_SCHEMES or not parts.netloc:
                    msg = f"{root} names no server: allow {'://..., '.join(URL_SCHEMES)}://..."
                    raise NotAllowedError(msg)
                urls.append(root if parts.path else f"{root}/")
            elif (folder := Path(root).expanduser().resolve()).is_dir():
                folders.append(folder)
            else:
                msg = f"there is no folder {root} to allow"
                raise NotAllowedError(msg)
        return cls(tuple(folders), tuple(urls), follow)

    def resolve(self, path: str) -> str:
        """The URL, or the path with links and ``..`` resolved, to open for a path of a request.

        NotAllowedError if it is not below one of the roots; it does not tell whether the file
        exists.
        """
        msg = f"{path} is not in the folders that this endpoint may read"
        # uproot would expand a pattern, and follow links among its matches unchecked.
        if any(character in "*?[" or character < " " for character in path):
            raise NotAllowedError(msg)
        scheme, separator, rest = path.partition("://")
        if separator and scheme != "file":
            # The same server and one of its folders, however the path is written: no user before an
            # @, no step upwards, plain or percent-encoded.
            plain = not {"..", "."} & set(rest.replace("\\", "/").split("/")) and "%" not in rest
            if plain and path.startswith(self.urls):
                return path
            raise NotAllowedError(msg)
        given = Path(rest if separator else path)
        if not given.is_absolute():
            raise NotAllowedError(msg)
        try:
            found = resolved(given)
        except OSError:
            raise NotAllowedError(msg) from None
        if not any(map(found.is_relative_to, self.folders)):
            raise NotAllowedError(msg)
        return str(found)
