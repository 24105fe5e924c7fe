#!/usr/bin/env bash
# Looks for known vulnerabilities that the programs can reach, with govulncheck. Fails if there are any. Its database is at
# GOVULNDB (default https://vuln.go.dev; file:///path for a copy); where that cannot be read, nothing is checked, and it says so.
set -euo pipefail
cd "$(dirname "$0")/.."
. test/steps.sh

out=$(mktemp)
trap 'rm -f "$out"' EXIT
programs=(./cmd/kms-webhook ./cmd/kms-agent ./cmd/kubectl-kms)
# A scan of the module alone is quick, and needs the database too.
database=(${GOVULNDB:+-db="$GOVULNDB"})
rc=0
test/tools/run.sh govulncheck "${database[@]}" -C cmd/kms-agent -scan=module >"$out" 2>&1 || rc=$?
if ((rc == 1)) && grep -q 'fetching vulnerabilities' "$out"; then
  cat "$out"
  echo "############################################################################################"
  echo "# NOT RUN: govulncheck cannot read its database; GOVULNDB can name another copy of it.     #"
  echo "# Nobody has looked for known vulnerabilities of what the programs are linked of.          #"
  echo "############################################################################################"
  exit 0
fi
# 3 says that there are some in the modules; whether the programs can reach them is the next question.
((rc == 0 || rc == 3)) || { cat "$out" && fail "govulncheck"; }
test/tools/run.sh govulncheck "${database[@]}" "${programs[@]}" || fail "the programs can reach what is known to be vulnerable; update the modules that are named above"
