package config

import "strings"

// nearest returns the candidate that is s but for capitals, else the one with the smallest edit distance to s, or "" when none is
// near enough to be what a person meant: more than a third of the longer word would have to change.
func nearest(s string, candidates []string) string {
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

// distance counts the insertions, deletions and replacements of bytes between a and b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
