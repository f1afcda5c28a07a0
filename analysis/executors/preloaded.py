"""What a fork server imports before it forks: importing it makes its process ready for that."""

from __future__ import annotations

import json
import os

from analysis.executors.fork_server import RESTORED
from analysis.executors.rehearsal import prepare_forks
from analysis.processes import die_with_parent, set_variables

# Of the thread that started it.
die_with_parent()
set_variables(json.loads(os.environ.pop(RESTORED)))
prepare_forks()
