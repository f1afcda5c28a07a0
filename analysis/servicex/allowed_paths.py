"""Which files an endpoint may read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

URL_SCHEMES: Final = ("http", "https", "root", "roots", "xrootd")


class NotAllowedError(Exception):
    """A file that the endpoint must not read; one sentence."""


@dataclass(frozen=True)
class Roots:
    """Folders and servers whose files may be read.

    Attributes
    ----------
    folders
        Folders, with all that is in them.
    urls
        Beginnings of URLs: ``root://server:1094/``.
    follow
        Whether these servers may lead on to any other.
    """

    folders: tuple[Path, ...] = ()
    urls: tuple[str, ...] = ()
    follow: bool = False

    @classmethod
    def of(cls, allowed: tuple[str | Path, ...], *, follow: bool = False) -> Roots:
        """Roots from folders and URLs.

        Raises
        ------
        NotAllowedError
            If a folder does not exist, or a URL names no server.
        """
        folders, urls = [], []
        for one in map(str, allowed):
            if "://" in one:
                parts = urlsplit(one)
                if parts.scheme not in URL_SCHEMES or not parts.netloc:
                    msg = f"{one} names no server: allow {'://..., '.join(URL_SCHEMES)}://..."
                    raise NotAllowedError(msg)
                urls.append(one if parts.path else f"{one}/")
            elif (folder := Path(one).expanduser().resolve()).is_dir():
                folders.append(folder)
            else:
                msg = f"there is no folder {one} to allow"
                raise NotAllowedError(msg)
        return cls(tuple(folders), tuple(urls), follow)

    def resolve(self, path: str) -> str:
        """What to open for a path of a request.

        Parameters
        ----------
        path
            Of a file, or URL.

        Returns
        -------
        str
            The URL, or the path with symbolic links and ``..`` resolved.

        Raises
        ------
        NotAllowedError
            If it is not below one of the roots. Whether there is such a file is not said.
        """
        msg = f"{path} is not in the folders that this endpoint may read"
        # uproot would expand a pattern, and follow links of that name without a look at them.
        if any(one in "*?[" or one < " " for one in path):
            raise NotAllowedError(msg)
        scheme, separator, rest = path.partition("://")
        if separator and scheme != "file":
            # The same server and a folder of it, however the path is written: no user before an @,
            # no step upwards, plain or in per cent.
            plain = not {"..", "."} & set(rest.replace("\\", "/").split("/")) and "%" not in rest
            if plain and any(path.startswith(one) for one in self.urls):
                return path
            raise NotAllowedError(msg)
        resolved = Path(rest if separator else path)
        if not resolved.is_absolute():
            raise NotAllowedError(msg)
        try:
            resolved = resolved.resolve()
        except (OSError, RuntimeError):
            raise NotAllowedError(msg) from None
        if not any(resolved.is_relative_to(folder) for folder in self.folders):
            raise NotAllowedError(msg)
        return str(resolved)
