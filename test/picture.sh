#!/usr/bin/env bash
# Draws docs/doctor-light.svg and docs/doctor-dark.svg: what kubectl kms doctor writes to a terminal of 110 columns about the pod of
# TestPicture, without the policies at its end.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=cmd/kubectl-kms/internal/doctor text=$(mktemp)
go test -c -o bin/doctor.test ./$folder
TERM=xterm script --quiet --return --command \
  "stty cols 110 && cd $folder && ../../../../bin/doctor.test -test.run ^TestPicture\$ -show" /dev/null >"$text" </dev/null
# As a terminal does, break a line that the doctor cannot.
LC_ALL=C.UTF-8 sed -i -E $'1i $ kubectl kms doctor -n shop web\ns/\r//; /Trust policy that/,$d; /\e/!s/.{110}/&\\\n/g' "$text"
draw() {
  test/tools/run.sh freeze --language ansi --theme "$2" --background "$3" --padding 16 --font.size 13 --line-height 1.4 \
    --font.family "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace" --output "docs/doctor-$1.svg" <"$text"
  sed -i -E '1,3s/<svg width="([^"]+)" height="([^"]+)"/& viewBox="0 0 \1 \2"/' "docs/doctor-$1.svg" # scales to its page
}
draw light modus-operandi '#ffffff'
draw dark github-dark '#0d1117'
rm "$text" bin/doctor.test
