#!/usr/bin/env bash
# Fails if a program is linked with a module whose license this project does not allow, and writes the licenses and notices of all
# modules, which they ask to be passed on, into dist/THIRD_PARTY_LICENSES: for the images and the archives. Does nothing while that
# file is newer than go.sum.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
report=dist/THIRD_PARTY_LICENSES
[[ $report -nt go.sum && $report -nt deploy/licenses.sh ]] && exit

allowed=Apache-2.0,BSD-2-Clause,BSD-3-Clause,ISC,MIT,0BSD,Unlicense
# These modules state no license; their authors publish everything else of the same kind under Apache-2.0.
unstated=(github.com/alibabacloud-go/darabonba-{array,encode-util,map,string})
# This one states Apache-2.0 by the short notice alone, which go-licenses does not recognize.
short=github.com/jmespath/go-jmespath
ignore=()
for module in "${unstated[@]}" "$short" github.com/kms-agent-injector/kms-agent-injector; do ignore+=("--ignore=$module"); done

mkdir -p dist
work=$(mktemp -d -p dist)
trap 'rm -rf "$work"' EXIT
licenses=$(test/tools/run.sh -n go-licenses)
GOROOT=$(go env GOROOT) # go-licenses knows the standard library by it
export GOROOT GOFLAGS=
for system in linux darwin windows; do
  packages=(./cmd/kubectl-kms)
  [[ $system != linux ]] || packages=(./cmd/...)
  for verb in "check --allowed_licenses=$allowed" "save --save_path=$work/$system"; do
    GOOS=$system "$licenses" $verb "${packages[@]}" "${ignore[@]}" 2>"$work/log" || { cat "$work/log" && exit 1; }
  done
  cp -r "$work/$system/." "$work/all"
done
mkdir -p "$work/all/$short"
cp "$(go list -m -f '{{.Dir}}' $short)/LICENSE" "$work/all/$short"
(
  cd "$work/all"
  echo "The programs of kms-agent-injector are linked with these modules, besides Go's standard library. Their licenses and notices follow."
  echo "No license is stated in: ${unstated[*]}."
  declare -A same # files of one text, by its digest
  while read -r sum file; do same[$sum]+=$file$'\n'; done < <(find * -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
  for files in "${same[@]}"; do printf '%s\0' "$files"; done | LC_ALL=C sort -z | while read -r -d '' files; do
    printf '\n%s\n%s\n' "$(printf '=%.0s' {1..80})" "$files"
    cat "${files%%$'\n'*}"
  done
) >"$work/report"
mv "$work/report" "$report"
