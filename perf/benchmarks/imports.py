"""Import of coffea, each time by a new interpreter: wall seconds."""

from __future__ import annotations

from typing import Any

from ._suite import VERSION

MODULES = {
    "coffea": "import coffea",
    "nanoevents": "import coffea.nanoevents",
    "processor": "import coffea.processor",
    "analysis_tools": "import coffea.analysis_tools",
}


def timeraw_import_wall_seconds(module: str) -> str:
    """A new interpreter imports a module of coffea."""
    return MODULES[module]


_settings: dict[str, Any] = {
    "params": [list(MODULES)],
    "param_names": ["module"],
    "number": 1,
    "repeat": 4,
    "version": VERSION,
    "timeout": 120,
}
for _name, _value in _settings.items():
    setattr(timeraw_import_wall_seconds, _name, _value)
