#!/usr/bin/env bash
# Looks for known vulnerabilities that programs can reach, with govulncheck: those in the arguments; without any, the three that people
# install, and the code of the other modules. Fails if there are any, and where it cannot look, unless VULNCHECK=skip. Its database is
# at GOVULNDB (default https://vuln.go.dev; file:///path for a copy).
set -euo pipefail
cd "$(dirname "$0")/.."
. test/steps.sh
[[ ${VULNCHECK:-} != skip ]] || { echo "NOT RUN: VULNCHECK=skip"; exit 0; }

out=$(mktemp)
trap 'rm -f "$out"' EXIT
database=(${GOVULNDB:+-db="$GOVULNDB"})

# look MODULE PACKAGE...: a scan of the module's dependencies is quick; one for what the packages call takes a minute and is for
# vulnerable ones only.
look() {
  local rc=0 module=$1 dir
  shift
  dir=$(sed -n '/./{p;q}' <<<"$(go list -C "$module" -f '{{if .GoFiles}}{{.Dir}}{{end}}' "$@")") # some folder with code
  test/tools/run.sh govulncheck "${database[@]}" -C "$dir" -scan=module >"$out" 2>&1 || rc=$?
  case $rc in
  0) cat "$out" ;;
  3)
    test/tools/run.sh govulncheck "${database[@]}" -C "$module" "$@" ||
      fail "the programs can reach what is known to be vulnerable; update the modules that are named above"
    ;;
  *)
    cat "$out"
    fail "govulncheck could not look, so nothing was checked; GOVULNDB can name another copy of its database, and VULNCHECK=skip make test goes without"
    ;;
  esac
}
(($# == 0)) || { look . "$@" && exit; }
look . ./cmd/kms-webhook ./cmd/kms-agent ./cmd/kubectl-kms
for module in $(modules); do [[ $module == . ]] || look "$module" ./...; done
