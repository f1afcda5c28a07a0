"""Events that a test writes itself, as coffea's NanoEvents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from coffea.nanoevents import BaseSchema, NanoEventsFactory
from coffea.nanoevents.mapping import SimplePreloadedColumnSource

if TYPE_CHECKING:
    from collections.abc import Mapping


def nano_events(columns: Mapping[str, Any], **metadata: Any) -> Any:
    """Arrays by branch as NanoEvents with these metadata."""
    n = len(next(iter(columns.values())))
    source = SimplePreloadedColumnSource(dict(columns), str(uuid4()), n, "/Events")
    factory = NanoEventsFactory.from_preloaded(source, schemaclass=BaseSchema, metadata=metadata)
    return factory.events()
