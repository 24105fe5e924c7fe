#!/usr/bin/env bash
# The part of a release that .goreleaser.yaml leaves to the project: deploy/release.sh v1.2.3 [REGISTRY] makes dist/parts (images with
# their bills of materials, chart, licenses) and dist/manifests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=$1 registry=${2:-}
parts=$PWD/dist/parts images=$PWD/dist/release-images
rm -rf "$parts" "$images" dist/manifests
mkdir -p "$parts"
go run -C deploy ./images -tag "$version" -registry "$registry" -out "$images" kms-webhook kms-agent kms-sync
for image in kms-webhook kms-agent kms-sync; do
  mv "$images/$image.tar" "$parts/$image-$version.oci.tar"
  for platform in linux_amd64 linux_arm64; do
    test/tools/run.sh cyclonedx-gomod bin -json -std -noserial -notimestamp -version "$version" \
      -output "$parts/$image-$version-${platform/_/-}.cdx.json" "$images/bin/$platform/$image"
  done
done
deploy/package.sh "$version" "$registry" "$(<"$images/kms-webhook.tar.digest")" "$(<"$images/kms-agent.tar.digest")" \
  "$(<"$images/kms-sync.tar.digest")" "$parts"
mv "$parts/kms-agent-injector" dist/manifests
cp dist/THIRD_PARTY_LICENSES "$parts"
