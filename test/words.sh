#!/usr/bin/env bash
# Finds the words that CONTRIBUTING.md replaces: those in code font in its table. It leaves out tests' data, and names of other packages.
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files -- '*.go' '*.md' '*.sh' '*.tpl' '*.yaml' '*.yml' '*.json' ':!*/testdata/*' ':!CONTRIBUTING.md' |
  xargs awk '
    FILENAME == "CONTRIBUTING.md" {
      table = /^## / ? /Words/ : table
      split($0, cell, "|")
      while (table && match(cell[3], /`[^`]+`/)) {
        instead[substr(cell[3], RSTART + 1, RLENGTH - 2)] = cell[2]
        cell[3] = substr(cell[3], RSTART + RLENGTH)
        words++
      }
      next
    }
    {
      line = " " tolower($0) " "
      for (word in instead)
        if (index(line, word) && match(line, "[^a-z0-9_.]" word "[^a-z0-9_]")) { # not http.NoBody
          print FILENAME ":" FNR ": \"" word "\"; write:" instead[word]
          found = 1
        }
    }
    END { exit found || !words }' CONTRIBUTING.md
