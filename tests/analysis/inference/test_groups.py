"""Parameters that are moved at once tell as much as each of them alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.inference import Model, Templates, open_backend
from analysis.inference.groups import groups
from perf.cases.inference import synthetic_templates

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_group_changes_what_its_members_change(models: Callable[[Templates], Model]) -> None:
    rng = np.random.default_rng(3)
    with open_backend("numpy"):
        model = models(synthetic_templates())
        at = model.nominal + 0.1 * rng.normal(size=len(model.names))
        here = model.asimov(at)
        members, changes = groups(model.pdf)
        assert sorted(np.concatenate(members)) == list(range(len(model.names)))
        assert len(members) < len(model.names) / 2
        for group in members:
            steps = np.diag(rng.uniform(0.01, 0.1, len(at)))[group]
            together = model.asimov(at + steps.sum(axis=0))
            for index, step in zip(group, steps, strict=True):
                alone = model.asimov(at + step)
                assert (alone != here).any()
                np.testing.assert_array_equal(np.where(changes[index], together, here), alone)
