#!/usr/bin/env bash
# Makes the custom resource definitions of kms-sync's chart from its Go types: deploy/crds.sh [FOLDER].
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec test/tools/run.sh controller-gen crd paths=./cmd/kms-sync/api/... "output:crd:dir=${1:-deploy/chart/kms-sync/resources}"
