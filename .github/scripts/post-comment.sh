#!/usr/bin/env bash
# post-comment.sh FILE: post a comparison as a comment on issue $ISSUE, in place of an earlier one.
#
# The file was written beside code of a pull request: it is text to show, and names nobody. Without
# it the comparison has failed. $REFERENCE is what was compared, $RUN the address of the run.
set -euo pipefail
limit=60000 # bytes; a comment may have 65,536 characters
[[ $ISSUE =~ ^[0-9]+$ ]] || { echo "error: an issue has a number" >&2; exit 2; }
compared=$(tr --complement --delete '[:alnum:]' <<< "$REFERENCE" | head --bytes 40)
marker="<!-- perf compare $compared -->"
body=$(mktemp)
{
  echo "$marker"
  if [ -f "$1" ]; then
    # Nobody is notified by what a benchmark is called.
    head --bytes "$limit" "$1" | iconv --from-code utf-8 --to-code utf-8 -c | sed $'s/@/@\u200b/g'
  else
    echo "The comparison of \`$compared\` failed."
  fi
  echo
  echo "[Log and all measurements]($RUN)"
} > "$body"
comments=repos/$GITHUB_REPOSITORY/issues
# Only its own comments are replaced, whoever writes the same beginning.
found=$(gh api --paginate "$comments/$ISSUE/comments" --jq \
  ".[] | select(.user.login == \"github-actions[bot]\" and (.body | startswith(\"$marker\"))) | .id")
if [ -n "$found" ]; then
  gh api --silent --method PATCH "$comments/comments/${found%%$'\n'*}" --field "body=@$body"
else
  gh api --silent --method POST "$comments/$ISSUE/comments" --field "body=@$body"
fi
