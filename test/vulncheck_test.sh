#!/usr/bin/env bash
# Tries test/vulncheck.sh on databases made by hand: it passes where nothing that is known can be reached, and nowhere else.
set -euo pipefail
cd "$(dirname "$0")/.."
. test/steps.sh
unset VULNCHECK
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# database NAME PACKAGE SYMBOL: one in which every version of the standard library has a vulnerable function.
database() {
  local dir=$work/$1 id=GO-2020-0001 at=2020-01-01T00:00:00Z
  mkdir -p "$dir/index" "$dir/ID"
  echo "{\"modified\":\"$at\"}" >"$dir/index/db.json"
  echo "[{\"id\":\"$id\",\"modified\":\"$at\"}]" >"$dir/index/vulns.json"
  echo "[{\"path\":\"stdlib\",\"vulns\":[{\"id\":\"$id\",\"modified\":\"$at\"}]}]" >"$dir/index/modules.json"
  cat >"$dir/ID/$id.json" <<JSON
{"schema_version":"1.3.1","id":"$id","modified":"$at","published":"$at","summary":"made by hand","details":"made by hand","database_specific":{"url":"https://example.com/$id"},
 "affected":[{"package":{"name":"stdlib","ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],
  "ecosystem_specific":{"imports":[{"path":"$2","symbols":["$3"]}]}}]}
JSON
}
database called net/http Server.Serve
database linked net/http FileServer
mkdir -p "$work/empty/index"
echo '{"modified":"2020-01-01T00:00:00Z"}' >"$work/empty/index/db.json"
echo '[]' | tee "$work/empty/index/modules.json" >"$work/empty/index/vulns.json"

# verdict NAME WANT TEXT: asks about the agent, the smallest of the programs.
verdict() {
  local got=passes db=(GOVULNDB="file://$work/$1")
  [[ $1 != unreachable ]] || db=(-u GOVULNDB HTTPS_PROXY=http://127.0.0.1:1 https_proxy=http://127.0.0.1:1) # the default one
  env "${db[@]}" test/vulncheck.sh ./cmd/kms-agent >"$work/out" 2>&1 || got=fails
  [[ $got == "$2" ]] && grep -q "$3" "$work/out" || { cat "$work/out" && fail "vulncheck.sh with the database \"$1\": $got, want: $2, with \"$3\""; }
  echo "database \"$1\": $got"
}
verdict called fails 'can reach what is known to be vulnerable'
verdict linked passes 'GO-2020-0001\|0 vulnerabilities'
verdict empty passes 'No vulnerabilities found'
verdict missing fails 'nothing was checked'
verdict unreachable fails 'nothing was checked'
VULNCHECK=skip verdict missing passes 'NOT RUN'
