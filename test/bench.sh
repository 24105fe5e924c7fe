#!/usr/bin/env bash
# Runs the benchmarks and prints each as a ratio to the "bare" one of its group, in the same run: a bare net/http handler. Those of
# test/benchmarks measure the agent's program. Sizes have limits and fail over them: the program, its private memory, what a refresh
# allocates. Times have none.
set -euo pipefail
cd "$(dirname "$0")/.."

go test -run '^$' -bench . -benchmem ./webhook/... ./agent/... ./injector/... ./test/benchmarks | tee /dev/stderr | awk '
  /^Benchmark/ {
    name = $1; sub(/-[0-9]+$/, "", name)
    group = name; sub(/\/[^\/]*$/, "", group)
    for (i = 3; i < NF; i += 2) {
      unit = $(i + 1)
      if (unit == "ns/op" || unit == "B/op") value[name, unit] = $i
      if (unit == "CPU") {
        served = served sprintf("  %-46s CPU %.2f\n", name, $i)
        sum[group] += $i
        if (++runs[group] == 2) served = served sprintf("  %-46s CPU %.2f\n", group " (mean)", sum[group] / 2)
      }
    }
    if (name ~ /^Benchmark(Binary|Start|Idle)$/ || name == "BenchmarkGet" || name == "BenchmarkRefreshUnchanged") {
      figure = sprintf("  %-26s", substr(name, 10))
      for (i = 3; i < NF; i += 2) if ($(i + 1) !~ /^ns\/op$|^allocs/ && ($(i + 1) != "B/op" || name ~ /Refresh/)) figure = figure sprintf("  %s %s", $i, $(i + 1))
      figures = figures figure "\n"
    }
    names[++n] = name; groups[n] = group
  }
  END {
    print "\nAn admission over HTTPS, CPU of the server, as a ratio to the bare one of the same run:"
    printf "%s", served
    print "\nRatios to the bare handler of the same run, without HTTP:"
    for (i = 1; i <= n; i++) {
      bare = groups[i] "/bare"
      if (names[i] == bare || !((bare, "ns/op") in value)) continue
      printf "  %-46s time %.2f  memory %.2f\n", names[i], value[names[i], "ns/op"] / value[bare, "ns/op"], value[names[i], "B/op"] / value[bare, "B/op"]
    }
    print "\nThe agent, beside a bare net/http server of the same run:"
    printf "%s", figures
  }'
