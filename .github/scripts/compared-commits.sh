#!/usr/bin/env bash
# compared-commits.sh CLONE: clone coffea, and print base=COMMIT and head=COMMIT of what is compared.
#
# $REFERENCE is what somebody typed: the number of a pull request of coffea, or a commit of it or of
# one. It is compared with where it left the main branch; a commit of that, with the one before it.
set -euo pipefail
clone=$1 repository=${COFFEA:-https://github.com/scikit-hep/coffea.git}
if [[ $REFERENCE =~ ^[0-9]{1,6}$ ]]; then
  what=refs/pull/$REFERENCE/head
elif [[ $REFERENCE =~ ^[0-9a-f]{40}$ ]]; then
  what=$REFERENCE
else
  echo "error: name a pull request of coffea by its number, or a commit by its 40 characters" >&2
  exit 2
fi
git clone --quiet --bare "$repository" "$clone"
git -C "$clone" fetch --quiet origin "$what:refs/heads/compared"
main=$(git -C "$clone" symbolic-ref --short HEAD)
head=$(git -C "$clone" rev-parse compared) base=$(git -C "$clone" merge-base "$main" compared)
[[ $base != "$head" ]] || base=$(git -C "$clone" rev-parse compared^)
printf 'base=%s\nhead=%s\n' "$base" "$head"
