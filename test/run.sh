#!/usr/bin/env bash
# What `make test` runs, in this order; an argument (lint, unit, fuzz, faults, e2e) chooses one part.
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

lint() {
  check "Check formatting"
  local files
  files=$(git ls-files -z '*.go' | xargs -0 gofmt -l)
  [[ -z $files ]] || fail "gofmt would change: $files"
  check "Look for words that CONTRIBUTING.md replaces"
  test/words.sh || fail "write those of CONTRIBUTING.md instead"
  check "Vet"
  local module
  for module in $(modules); do go vet -C "$module" -tags chart,e2e ./...; done # no file is left out by a tag
  check "Lint (golangci-lint, built once)"
  for module in $(modules); do (tools=$PWD/test/tools && cd "$module" && "$tools/run.sh" golangci-lint run ./...); done
  check "Check the licenses of what is linked (go-licenses, built once)"
  deploy/licenses.sh
  check "Check the chart and what is generated from it (helm, built once)"
  deploy/verify.sh
  check "Look for vulnerabilities in databases made by hand (govulncheck, built once)"
  test/vulncheck_test.sh
  check "Look for known vulnerabilities"
  if [[ ${VULNCHECK:-} == skip ]]; then skip "VULNCHECK=skip"; else test/vulncheck.sh; fi
}

unit() {
  check "Unit, property and integration tests, with the race detector"
  local module
  for module in $(modules); do
    go list -C "$module" ./... | grep -v '/test/faults$' | xargs go test -C "$module" -race -timeout 60m
  done
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

e2e() {
  check "End-to-end tests on a real Kubernetes"
  if [[ -z ${KUBECONFIG:-} && ($(uname -s) != Linux || $(id -u) != 0) ]]; then
    skip "the end-to-end suite needs Linux and root, or KUBECONFIG of a cluster to use"
    [[ ${CI:-} != true ]] || fail "CI must run the end-to-end suite"
    return 0
  fi
  local log
  log=$(mktemp)
  go test -C test/cluster -tags e2e -count=1 -timeout 60m -v . | tee "$log"
  go test -tags e2e -count=1 -timeout 60m -v ./test/e2e | tee -a "$log"
  while read -r test; do skipped+=("$test, which says why"); done < <(sed -n 's/^ *--- SKIP: \([^ ]*\).*/\1/p' "$log")
  rm "$log"
}

case ${1:-all} in
all)
  lint
  unit
  FUZZTIME=${FUZZTIME:-20s} fuzz # a minute by itself; ten each night: .github/workflows/fuzz.yml
  faults
  e2e
  summary
  ;;
lint | unit | fuzz | faults | e2e) "$1" ;;
*) fail "usage: test/run.sh [lint | unit | fuzz | faults | e2e]" ;;
esac
