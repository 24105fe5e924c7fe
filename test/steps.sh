# Sourced by the scripts here: a line per step with the time since the start, and commands shown as a person would type them.

STEPS_START=${STEPS_START:-$(date +%s%N)}
export STEPS_START

elapsed() {
  local ms=$((($(date +%s%N) - STEPS_START) / 1000000))
  printf '%d.%ds' $((ms / 1000)) $((ms % 1000 / 100))
}

# step TITLE: announces what comes next.
step() { printf '\n[%7s] %s\n' "$(elapsed)" "$*"; }

# show COMMAND...: prints a command as it can be typed, then runs it.
show() {
  printf '$'
  local word
  for word in "$@"; do
    case $word in
    *[!A-Za-z0-9_./:=@,+-]*) printf " '%s'" "${word//\'/\'\\\'\'}" ;;
    *) printf ' %s' "$word" ;;
    esac
  done
  printf '\n'
  "$@"
}

# modules prints the folders of the Go modules with code of this repository, seen from it.
modules() { awk '$1 == "code" { print $2 }' test/modules; }

# fail TEXT: ends the script.
fail() {
  printf '\n[%7s] FAILED: %s\n' "$(elapsed)" "$*" >&2
  exit 1
}

# until_ok SECONDS WHAT COMMAND...: runs a command until it succeeds.
until_ok() {
  local limit=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    ((SECONDS < limit)) || fail "$what: not within the time allowed"
    sleep 0.3
  done
}
