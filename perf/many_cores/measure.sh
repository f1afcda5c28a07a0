#!/usr/bin/env bash
# On a machine without network, in DIR of prepare.sh: install, make EVENTS ttbar events in FILES files, and run coffea-perf with the
# arguments given; results that are there already are kept. Three rounds of strong and of weak scaling, and of the start:
#   ./measure.sh scale data/fileset.json --executors iterative,futures,dask,parsl --untuned --implementation compiled \
#       --workers 1,2,4,8,16 --repeat 3 --shapes 64x250000 --output strong.jsonl
#   ./measure.sh scale data/fileset.json --executors iterative,futures,dask,parsl --implementation compiled \
#       --workers 1,2,4,8,16 --repeat 3 --weak 4x250000 --output weak.jsonl
#   ./measure.sh claims --only 'start-*'
set -euo pipefail
cd "$(dirname "$0")"
if [ ! -d site ]; then
  python3 -m pip install --quiet --no-index --no-deps --no-cache-dir --target site.part wheels/*.whl
  mv site.part site
fi
export PYTHONPATH="$PWD/site" PATH="$PWD/site/bin:$PATH"  # Parsl starts programs that it finds on the PATH.
if [ ! -e data/fileset.json ]; then
  makers=()
  for part in $(seq "${FILES:-8}"); do
    python3 -m analysis make-data "data/$part" --events $((${EVENTS:-4000000} / ${FILES:-8})) --seed "$part" --processes ttbar --variations nominal &
    makers+=($!)
  done
  for maker in "${makers[@]}"; do wait "$maker"; done
  python3 - data <<'P'
import json, sys
from pathlib import Path

data = Path(sys.argv[1])
((name, sample),) = json.loads((data / "1/fileset.json").read_text()).items()
sample["metadata"].pop("nevts", None)
sample["files"] = {str(file.absolute()): "Events" for file in sorted(data.glob("*/*.root"))}
(data / "fileset.json").write_text(json.dumps({name: sample}))
P
fi
python3 -m perf "$@"
