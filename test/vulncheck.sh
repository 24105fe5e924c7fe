#!/usr/bin/env bash
# Looks for known vulnerabilities that the programs (arguments; default: all) can reach, with govulncheck. Fails if there are any,
# and where it cannot look, unless VULNCHECK=skip. Its database is at GOVULNDB (default https://vuln.go.dev; file:///path for a copy).
set -euo pipefail
cd "$(dirname "$0")/.."
. test/steps.sh
[[ ${VULNCHECK:-} != skip ]] || { echo "NOT RUN: VULNCHECK=skip"; exit 0; }

out=$(mktemp)
trap 'rm -f "$out"' EXIT
programs=(./cmd/kms-webhook ./cmd/kms-agent ./cmd/kubectl-kms)
(($# == 0)) || programs=("$@")
database=(${GOVULNDB:+-db="$GOVULNDB"})
rc=0
# A scan of the module's dependencies is quick; one for what the programs call takes a minute and is for vulnerable ones only.
test/tools/run.sh govulncheck "${database[@]}" -C cmd/kms-agent -scan=module >"$out" 2>&1 || rc=$?
case $rc in
0) cat "$out" ;;
3) test/tools/run.sh govulncheck "${database[@]}" "${programs[@]}" || fail "the programs can reach what is known to be vulnerable; update the modules that are named above" ;;
*)
  cat "$out"
  fail "govulncheck could not look, so nothing was checked; GOVULNDB can name another copy of its database, and VULNCHECK=skip make test goes without"
  ;;
esac
