#!/usr/bin/env bash
# Runs a tool at the version pinned in its own go.mod below this folder: test/tools/run.sh helm lint …; -n prints the tool's path instead.
# Go builds it the first time (helm and promtool: two minutes, golangci-lint: one, goreleaser: eight) and keeps it in its build cache.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tool=${1:?which tool?}
export CGO_ENABLED=0 GOFLAGS=-trimpath # as the images are built: what they have in common is compiled once
case $tool in
-n) exec go tool -modfile="$here/$2/go.mod" -n "$2" ;;
promtool) # without the SDKs of two dozen clouds, which only find targets; "go tool" cannot leave them out
  shift
  exec go run -modfile="$here/promtool/go.mod" -tags=remove_all_sd github.com/prometheus/prometheus/cmd/promtool "$@"
  ;;
*) exec go tool -modfile="$here/$tool/go.mod" "$@" ;;
esac
