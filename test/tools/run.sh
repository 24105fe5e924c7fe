#!/usr/bin/env bash
# Runs a tool at the version pinned in its own go.mod below this folder: test/tools/run.sh helm lint …
# Go builds it the first time (helm: two minutes, golangci-lint: one) and keeps it in its build cache.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tool=${1:?which tool?}
exec go tool -modfile="$here/$tool/go.mod" "$@"
