#!/bin/bash -eu
# Builds the fuzz targets for ClusterFuzzLite. Those of the injector are missing: they are in a package injector_test, which
# go-118-fuzz-build cannot import; FuzzReview reaches the same code by HTTP.

# go-118-fuzz-build overlays the standard library, which Go refuses for a toolchain in the module cache.
cp -r "$(go env GOROOT)" /tmp/goroot
export PATH=/tmp/goroot/bin:$PATH GOTOOLCHAIN=local

while read -r package target; do
  compile_native_go_fuzzer_v2 "github.com/kms-agent-injector/kms-agent-injector/$package" "$target" "$target"
  test -x "$OUT/$target" # the script succeeds where it finds no such target
done <<EOF
config/podconfig FuzzParse
config/podconfig FuzzPlainFields
agent/render FuzzKeys
agent/render FuzzTemplate
agent/httpapi FuzzRequest
webhook FuzzReview
EOF
