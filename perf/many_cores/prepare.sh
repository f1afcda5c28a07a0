#!/usr/bin/env bash
# Gather in DIR what a machine without network needs for measure.sh: wheels of this suite and of all that it needs, for a version of
# Python on a system like this one. HAS names packages that are installed there and whose wheels are left out.
#   HAS="llvmlite matplotlib numba numpy pandas pyarrow scipy" perf/many_cores/prepare.sh DIR 3.12
set -euo pipefail
dir=${1:?usage: prepare.sh DIR [VERSION]}
version=${2:-$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$dir/wheels"
rm -f "$dir"/wheels/coffea_scaling-*.whl
python3 -m pip wheel --quiet --no-deps --wheel-dir "$dir/wheels" "$here/../.."
ours=$(echo "$dir"/wheels/coffea_scaling-*.whl)
python3 -m pip download --quiet --only-binary=:all: --python-version "$version" --constraint "$here/../../constraints.txt" \
  --dest "$dir/wheels" "$ours[parsl]"
for package in ${HAS:-}; do rm -f "$dir/wheels/${package//-/_}"-*.whl; done
cp "$here/measure.sh" "$dir/"
du -sh "$dir"
