"""coffea's Runner, which distinguishes files that cannot be read from processors that fail."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from coffea.processor import Runner
from coffea.processor.executor import WorkItem

from analysis.errors import ChangedError, ChunkError, UnreadableError
from analysis.files import bulk, inspection, kept
from analysis.files.parquet import ChunkFile
from analysis.runner.column_cache import of_file
from analysis.runner.counting import Chunk
from analysis.runner.failures import chunk_error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from analysis.files.inspection import File


@dataclass(unsafe_hash=True, frozen=True)
class Item(WorkItem):
    """A chunk of coffea's Runner, with the stamp of its file."""

    stamp: inspection.Stamp | None = field(default=None, compare=False)
    form: Collection[str] | None = field(default=None, compare=False)
    """Columns that events of a Parquet file have; None for all."""
    run: str = field(default="", compare=False)
    """Tells chunks of one run from those of another."""

    @classmethod
    def of(
        cls,
        file: File,
        start: int,
        stop: int,
        metadata: Mapping[str, Any],
        preload: Collection[str] | None,
        form: Collection[str] | None,
        run: str,
    ) -> Item:
        """A range of events of a file, and the branches that are read when it is opened."""
        return cls(
            dataset=file.dataset,
            filename=file.path,
            treename=file.tree,
            entrystart=start,
            entrystop=stop,
            fileuuid=file.uuid,
            usermeta=dict(metadata),
            preload=preload,
            stamp=file.stamp,
            form=form,
            run=run,
        )

    @property
    def chunk(self) -> Chunk:
        """Data set, file and range of events."""
        return Chunk(self.dataset, self.filename, int(self.entrystart), int(self.entrystop))


class ChunkRunner(Runner):
    """coffea's Runner, which checks stamps, and says whether a file or the processor is at fault."""

    @staticmethod
    def _work_function(
        *settings: Any, processor_instance: Any, cache_function: Any, **options: Any
    ) -> Any:
        """Process a chunk, on a worker."""
        *first, given = settings
        item, *heavy = given if isinstance(given, tuple) else (given,)
        _check_stamp(item)
        file = f"{item.filename} {item.fileuuid!r} {item.stamp}"
        bulk.begin()
        kept.begin(item.run)
        try:
            opened = _opened(item) if first[0] == "parquet" else item
            out = Runner._work_function(
                *first,
                (opened, *heavy) if heavy else opened,
                processor_instance=processor_instance,
                cache_function=partial(of_file, cache_function, file),
                **options,
            )
        except ChunkError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  (sorted out in there)
            raise chunk_error(item, error) from None
        _check_stamp(item)
        out["processed"] = {item}
        out["metrics"]["read ahead"] = dict(bulk.counted())
        return out

    @staticmethod
    def automatic_retries(
        retries: int,
        skipbadfiles: bool | tuple[type[BaseException], ...],  # noqa: FBT001  (coffea's)
        func: Callable[..., Any],
        *args: Any,
        use_result_type: bool = False,  # noqa: ARG004
        **kwargs: Any,
    ) -> Any:
        """Like coffea's, without its warnings, which workers would print."""
        for left in reversed(range(retries + 1)):
            try:
                return func(*args, **kwargs)
            except ChangedError:
                raise
            except Exception as error:
                if left:
                    continue
                if skipbadfiles and isinstance(error, UnreadableError):
                    return None
                raise
        return None  # pragma: no cover  (there is at least one try)


def _opened(item: Item) -> Item:
    """A chunk of a Parquet file with that file open, in the place of its name.

    This is how it comes to `NanoEventsFactory.from_parquet`; events have its name all the same.
    """
    try:
        file = ChunkFile(
            item.filename, item.entrystart, item.entrystop, item.preload or (), item.form
        )
    except Exception as error:
        msg = f"Failed to open file: {item!r}"  # as coffea begins
        raise RuntimeError(msg) from error
    about = {"filename": item.filename, **(item.usermeta or {})}
    other: dict[str, Any] = {"filename": file, "usermeta": about}
    return replace(item, **other)


def _check_stamp(item: Item) -> None:
    if item.stamp is not None and inspection.Stamp.of(item.filename) != item.stamp:
        raise ChangedError(inspection.changed(item.filename))
