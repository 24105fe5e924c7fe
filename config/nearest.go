package config

import (
	"errors"
	"fmt"
	"strings"
)

// Nearest returns the candidate that is s but for capitals, else the one with the smallest edit distance to s, or "" when none is
// near enough to be what a person meant: more than a third of the longer word would have to change.
func Nearest(s string, candidates []string) string {
	best, bestDistance := "", 0
	for _, c := range candidates {
		if strings.EqualFold(s, c) {
			return c
		}
		near := max(len(s), len(c)) / 3
		if max(len(s)-len(c), len(c)-len(s)) > near {
			continue // as many insertions at least
		}
		d := distance(s, c)
		if d > near {
			continue
		}
		if best == "" || d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance counts the insertions, deletions and replacements of bytes, and swaps of neighbours, between a and b (optimal string
// alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			replace := last[j]
			if a[i] != b[j] {
				replace++
			}
			row[j+1] = min(replace, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

// NotOneOf returns the error for a word that is not among those which are allowed. It suggests the nearest.
func NotOneOf(value string, allowed []string) error {
	err := fmt.Sprintf("%q is not one of %s", value, strings.Join(allowed, ", "))
	if near := Nearest(value, allowed); near != "" {
		err += fmt.Sprintf("; did you mean %q?", near)
	}
	return errors.New(err)
}
