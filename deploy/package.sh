#!/usr/bin/env bash
# Packs the charts and copies the manifests of a version into a folder; all name the version's images by their digests:
# deploy/package.sh v1.2.3 REGISTRY DIGEST-OF-KMS-WEBHOOK DIGEST-OF-KMS-AGENT DIGEST-OF-KMS-SYNC FOLDER
set -euo pipefail
version=$1 registry=$2 webhook=$3 agent=$4 sync=$5 folder=$(realpath "$6")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for digest in "$webhook" "$agent" "$sync"; do
  [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || { echo "\"$digest\" is not a digest" >&2 && exit 1; }
done
name=kms-agent-injector
mkdir "$folder/source"
cp -r deploy/chart/$name deploy/chart/kms-sync deploy/manifests "$folder/source"

images=${registry:+$registry/}$name
find "$folder/source/manifests" "$folder/source/$name/Chart.yaml" "$folder/source/kms-sync/Chart.yaml" -name '*.yaml' -exec sed -i \
  "s|$name/kms-webhook:dev|$images/kms-webhook:$version@$webhook|; s|$name/kms-agent:dev|$images/kms-agent:$version@$agent|; \
  s|$name/kms-sync:dev|$images/kms-sync:$version@$sync|; s|app.kubernetes.io/version: \"dev\"|app.kubernetes.io/version: \"$version\"|" {} +
sed -i "s|^  registry: \"\"$|  registry: \"$registry\"|; s|^  digest: \"\"$|  digest: \"$webhook\"|; \
  s|^  agentDigest: \"\"$|  agentDigest: \"$agent\"|; s|^  digestTag: \"\"$|  digestTag: \"$version\"|" "$folder/source/$name/values.yaml"
sed -i "s|^  registry: \"\"$|  registry: \"$registry\"|; s|^  digest: \"\"$|  digest: \"$sync\"|; \
  s|^  digestTag: \"\"$|  digestTag: \"$version\"|" "$folder/source/kms-sync/values.yaml"
find "$folder/source" -exec touch -d @0 {} + # equal sources give equal bytes
test/tools/run.sh helm package "$folder/source/$name" "$folder/source/kms-sync" --version "${version#v}" --app-version "$version" --destination "$folder"
mv "$folder/source/manifests" "$folder/$name"
rm -r "$folder/source"
