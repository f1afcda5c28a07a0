"""What a fork server imports before it forks: importing it makes its process ready for that."""

from __future__ import annotations

import json
import os
from contextlib import suppress

import numpy as np

from analysis.executors.fork_server import RESTORED
from analysis.executors.rehearsal import rehearse
from analysis.executors.worker import warm
from analysis.processes import die_with_parent, set_variables

# Of the thread that started it.
die_with_parent()
# Forks would otherwise all draw the same numbers; Python's own generator does this by itself.
os.register_at_fork(after_in_child=np.random.seed)
set_variables(json.loads(os.environ.pop(RESTORED)))
with suppress(Exception):  # as of a full disk: workers then take longer for their first chunk
    rehearse()
warm()
