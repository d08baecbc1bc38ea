#!/usr/bin/env bash
# Runs every fuzz target of the module for the given time each.
# Usage: test/fuzz.sh 5s
set -euo pipefail
cd "$(dirname "$0")/.."
for_each=${1:-5s}
grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do
  dir=$(dirname "$file")
  sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$file" | while read -r target; do
    echo "== $dir $target"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$for_each" "./$dir" </dev/null
  done
done
