#!/usr/bin/env bash
# Makes a release twice, from clones of this commit in two folders of different names, and compares every byte.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
version=v0.0.0-verify
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for folder in one another/and-deeper; do
  git clone --quiet --no-hardlinks . "$work/$folder"
  (
    cd "$work/$folder"
    git tag "$version"
    go run ./deploy/release --version="$version"
  )
done
diff "$work/one/dist/$version/SHA256SUMS" "$work/another/and-deeper/dist/$version/SHA256SUMS"
cat "$work/one/dist/$version/SHA256SUMS"
echo "Both are equal."
