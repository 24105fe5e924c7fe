#!/usr/bin/env bash
# Checks the charts with the pinned Helm, the alerts with the pinned promtool, that the manifests are what the chart gives, and that the
# custom resource definitions are what their Go types give. With --update it writes manifests and definitions anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
../test/tools/run.sh helm version --short >/dev/null # builds it where that has not been done, outside the tests' time limit
if [[ ${1:-} == --update ]]; then
  ./crds.sh
  exec go test -count=1 -tags chart -run '^(TestManifestsAreTheChart|TestSyncRendering)$' . -update
fi
../test/tools/run.sh promtool --version >/dev/null
../test/tools/run.sh controller-gen --version >/dev/null
go vet -tags chart .
exec go test -count=1 -timeout 30m -tags chart .
