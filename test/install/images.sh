#!/usr/bin/env bash
# Writes the images that only tests and the demo use to a folder (default dist/images): demo-app, with the busybox of Debian's package,
# otherwebhook, and a registry.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p "${1:-dist/images}" dist/debian
folder=$(realpath "${1:-dist/images}")
if [[ ! -f dist/debian/bin/busybox ]]; then
  (
    cd dist/debian
    apt-get -q download busybox-static || { apt-get -q update && apt-get -q download busybox-static; }
    dpkg-deb --extract busybox-static_*.deb .
  )
fi
applets=(sh ash cat chmod cp cut date echo env false find grep head hexdump id kill ln ls md5sum mkdir mount mv nc pidof ps pwd readlink rm
  sed sha256sum sleep sort stat tail tee test timeout touch tr true wc whoami)
links=("${applets[@]/#/bin/}")
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags='-s -w' -o dist/otherwebhook ./test/otherwebhook
CGO_ENABLED=0 go build -C test/cluster -trimpath -buildvcs=false -ldflags='-s -w' -o ../../dist/registry ./cmd/registry

pack() { go run -C test/cluster ./cmd/image "$folder/$1.tar" "kms-agent-injector/$1:dev" "${@:2}"; }
pack demo-app "sleep infinity" tmp/ "bin/busybox=$PWD/dist/debian/bin/busybox" "${links[@]/%/@busybox}"
pack otherwebhook /otherwebhook "otherwebhook=$PWD/dist/otherwebhook"
pack registry /registry "registry=$PWD/dist/registry"
