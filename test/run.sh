#!/usr/bin/env bash
# What `make test` runs, in this order; an argument (lint, unit, fuzz, faults, e2e) chooses one part.
set -euo pipefail
cd "$(dirname "$0")/.."
. test/steps.sh

lint() {
  step "Check formatting"
  local files
  files=$(git ls-files -z '*.go' | xargs -0 gofmt -l)
  [[ -z $files ]] || fail "gofmt would change: $files"
  step "Vet"
  go vet ./...
  go vet -tags e2e ./test/...
  step "Lint (golangci-lint, built once)"
  test/tools/run.sh golangci-lint run ./...
  step "Check the chart and what is generated from it (helm, built once)"
  deploy/verify.sh
  step "Look for known vulnerabilities"
  test/vulncheck.sh
}

unit() {
  step "Unit, property and integration tests, with the race detector"
  go list ./... | grep -v '/test/faults$' | xargs go test -race
}

# Who finds something leaves it in the package's testdata/fuzz, where the unit tests try it again for ever.
fuzz() {
  local time=${FUZZTIME:-60s}
  step "Fuzz what strangers write: annotations, pods, AdmissionReviews, templates; $time each, three at a time"
  xargs -P 3 -L 1 bash -c 'go test "$0" -run "^$" -fuzz "^$1\$" -fuzztime "$2" -fuzzminimizetime 1s -parallel 1' <<EOF
./config FuzzParse $time
./agent/render FuzzTemplate $time
./injector FuzzPlan $time
./injector FuzzProperties $time
./injector FuzzReadPod $time
./webhook/review FuzzReview $time
EOF
}

# faults are a step of their own because their tables are for people to read. The fleet, which is of the unit tests, shows its own again.
faults() {
  step "Break what an agent depends on, one thing at a time"
  go test -race -count=1 -timeout 5m -parallel 8 -v ./test/faults | awk '!/^ *=== |^ *--- PASS/'
  go test -count=1 -timeout 5m -v -run '^TestFleet' ./agent | awk '!/^ *=== |^ *--- PASS/'
}

e2e() {
  step "End-to-end tests on a real Kubernetes"
  if [[ -z ${KUBECONFIG:-} && ($(uname -s) != Linux || $(id -u) != 0) ]]; then
    echo "############################################################################################"
    echo "# NOT RUN: the end-to-end suite needs Linux and root, or KUBECONFIG of a cluster to use.   #"
    echo "# Nothing has shown that the whole works together.                                         #"
    echo "############################################################################################"
    [[ ${CI:-} != true ]] || fail "CI must run the end-to-end suite"
    return 0
  fi
  go test -tags e2e -count=1 -timeout 30m -v ./test/cluster ./test/e2e
}

case ${1:-all} in
all)
  lint
  unit
  fuzz
  faults
  e2e
  step "All passed"
  ;;
lint | unit | fuzz | faults | e2e) "$1" ;;
*) fail "usage: test/run.sh [lint | unit | fuzz | faults | e2e]" ;;
esac
