#!/usr/bin/env bash
# What `make test` runs, in this order, but for the end-to-end tests, which run beside all that follows the checks; an argument (lint, unit,
# fuzz, faults, e2e) chooses one part.
set -euo pipefail
cd "$(dirname "$0")/.."
. test/steps.sh

checked=() skipped=()

# check TITLE: a step that passes if the script goes on.
check() {
  step "$1"
  checked+=("$1")
}

# skip WHY: the step is not run after all.
skip() {
  local last=$((${#checked[@]} - 1))
  skipped+=("${checked[last]}: $1")
  unset "checked[last]"
  echo "NOT RUN: $1"
}

summary() {
  step "Passed:"
  printf '  %s\n' "${checked[@]}"
  ((${#skipped[@]} > 0)) || return 0
  echo "Skipped, so nothing has shown that it passes:"
  printf '  %s\n' "${skipped[@]}"
}

# alike has commands that compile share what the images' build compiles.
alike=(env CGO_ENABLED=0 GOFLAGS=-trimpath)

lint() {
  check "Check formatting"
  local files
  files=$(git ls-files -z '*.go' | xargs -0 gofmt -l)
  [[ -z $files ]] || fail "gofmt would change: $files"
  check "Look for words that CONTRIBUTING.md replaces"
  test/words.sh || fail "write those of CONTRIBUTING.md instead"
  check "Vet"
  local module
  for module in $(modules); do "${alike[@]}" go vet -C "$module" -tags chart,e2e ./...; done # no file is left out by a tag
  check "Lint (golangci-lint, built once)"
  for module in $(modules); do (tools=$PWD/test/tools && cd "$module" && "$tools/run.sh" golangci-lint run ./...); done
  check "Check the licenses of what is linked (go-licenses, built once)"
  deploy/licenses.sh
  check "Check the chart and what is generated from it (helm, built once)"
  "${alike[@]}" deploy/verify.sh
  check "Look for vulnerabilities in databases made by hand (govulncheck, built once)"
  test/vulncheck_test.sh
  check "Look for known vulnerabilities"
  if [[ ${VULNCHECK:-} == skip ]]; then skip "VULNCHECK=skip"; else test/vulncheck.sh; fi
}

# large are tests of thousands of agents, or of time and memory, all of which the race detector multiplies: they run without it.
large='^Test(Fleet|Hostile|StrangersLockNobodyOut)'

unit() {
  check "Unit, property and integration tests, with the race detector"
  local module packages
  for module in $(modules); do
    go list -C "$module" ./... | grep -v '/test/faults$' | xargs go test -C "$module" -race -timeout 60m -skip "$large"
  done
  mapfile -t packages < <(git grep -lE "^func ${large#^}" -- '*_test.go' | xargs -n 1 dirname | sort -u)
  "${alike[@]}" go test -timeout 60m -run "$large" "${packages[@]/#/./}"
}

# An input that fails is left in the package's testdata/fuzz, where the unit tests try it every time.
fuzz() {
  local time=${FUZZTIME:-60s}
  check "Fuzz what strangers write: annotations, pods, AdmissionReviews, ExternalSecrets, templates, values; $time each, three at a time"
  xargs -P 3 -L 1 test/fuzz.sh <<EOF
./config/podconfig FuzzParse $time
./agent/render FuzzTemplate $time
./agent/render FuzzKeys $time
./injector FuzzDecide $time
./injector FuzzProperties $time
./injector FuzzDecodePod $time
./webhook FuzzReview $time
./cmd/kms-sync/content FuzzSpec $time
./cmd/kms-sync/content FuzzTemplate $time
./cmd/kms-sync/content FuzzYAML $time
./cmd/kms-sync/internal/admission FuzzWarnings $time
EOF
}

# faults are a step of their own because their tables are for people to read.
faults() {
  check "Break what an agent depends on, one thing at a time"
  go test -race -count=1 -timeout 20m -parallel 8 -v ./test/faults | awk '!/^ *=== |^ *--- PASS/'
}

has_cluster() { [[ -n ${KUBECONFIG:-} || ($(uname -s) == Linux && $(id -u) == 0) ]]; }

# suites tests the test cluster and, beside it and on a cluster of its own, everything else: both wait more than they compute.
suites() {
  local failed=
  [[ -n ${KUBECONFIG:-} ]] || go run -C test/cluster ./cmd/cluster build
  "${alike[@]}" go test -C test/cluster -tags e2e -count=1 -timeout 60m -v . >"$work/cluster.log" 2>&1 &
  "${alike[@]}" go test -tags e2e -count=1 -timeout 60m -parallel 6 -v ./test/e2e || failed=1
  wait $! || failed=1
  cat "$work/cluster.log"
  [[ -z $failed ]]
}

# e2e runs the suites, or waits for those that run already and shows what they print.
e2e() {
  check "End-to-end tests on a real Kubernetes"
  if ! has_cluster; then
    skip "the end-to-end suite needs Linux and root, or KUBECONFIG of a cluster to use"
    [[ ${CI:-} != true ]] || fail "CI must run the end-to-end suite"
    return 0
  fi
  if [[ -z ${running:-} ]]; then
    suites 2>&1 | tee "$work/e2e.log"
  else
    local rc=0
    wait "$running" || rc=$?
    running=
    cat "$work/e2e.log"
    ((rc == 0)) || fail "the end-to-end tests"
  fi
  while read -r test; do skipped+=("$test, which says why"); done < <(sed -n 's/^ *--- SKIP: \([^ ]*\).*/\1/p' "$work/e2e.log")
}

# finish waits for the suites, which remove their clusters when they end.
finish() {
  local rc=$?
  [[ -z ${building:-} ]] || kill "$building" 2>/dev/null || true
  if [[ -n ${running:-} ]]; then
    echo "The end-to-end tests still run; what they print follows when they end."
    wait "$running" || true
    cat "$work/e2e.log"
    echo "FAILED: see before the end-to-end tests" >&2
  fi
  rm -rf "$work"
  exit $rc
}

work=$(mktemp -d)
trap finish EXIT
case ${1:-all} in
all)
  if has_cluster && [[ -z ${KUBECONFIG:-} ]]; then # beside the checks: each has parts that leave a core idle
    { go build -C test/cluster -o "$work/" ./cmd/cluster && exec "$work/cluster" build; } >/dev/null 2>&1 &
    building=$!
  fi
  lint
  if has_cluster; then
    suites >"$work/e2e.log" 2>&1 &
    running=$!
    renice -n 10 $$ >/dev/null # what computes gives way to what waits
  fi
  unit
  FUZZTIME=${FUZZTIME:-20s} fuzz # ten minutes each night: .github/workflows/fuzz.yml
  faults
  e2e
  summary
  ;;
lint | unit | fuzz | faults | e2e) "$1" ;;
*) fail "usage: test/run.sh [lint | unit | fuzz | faults | e2e]" ;;
esac
