"""Backends and optimisers are opened and given back."""

from __future__ import annotations

import importlib.util

import pyhf
import pytest

from analysis.errors import InputError, NotInstalledError
from analysis.inference import (
    open_backend,
)


def test_backend_is_given_back() -> None:
    before = pyhf.get_backend()
    with open_backend("jax"):
        assert pyhf.tensorlib.name == "jax"
    assert pyhf.get_backend()[1] is before[1]
    with pytest.raises(ZeroDivisionError), open_backend("jax", "scipy"):
        assert 1 / 0
    assert pyhf.get_backend()[0].name == before[0].name
    assert pyhf.get_backend()[1] is before[1]


def test_backend_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no backend 'torch': use one of numpy, jax"):
        open_backend("torch").__enter__()  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no optimizer 'newton' with the backend numpy"):
        open_backend("numpy", "newton").__enter__()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(NotInstalledError, match=r"pip install 'coffea-scaling\[jax\]'"):
        open_backend("jax").__enter__()
    with pytest.raises(NotInstalledError, match="iminuit is not installed"):
        open_backend("numpy", "minuit").__enter__()
