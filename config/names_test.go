package config

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMatchesIsTheRegularExpression(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab*]{1,8}\*[ab*]{0,4}`).Draw(t, "pattern")
		text := rapid.StringMatching(`[ab]{0,12}`).Draw(t, "text")
		oracle := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$")
		if got, want := matches(pattern, text), oracle.MatchString(text); got != want {
			t.Fatalf("matches(%q, %q) = %v", pattern, text, got)
		}
	})
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"*", "", true}, {"*", "a/b:c", true}, {"a*", "ab", true}, {"a*", "ba", false}, {"*a", "ba", true},
		{"a*b", "ab", true}, {"a*b", "a/x/b", true}, {"a*b", "ax", false}, {"a*b*c", "a1b2c", true}, {"a*b*c", "acb", false}, {"a*a", "a", false},
		{"**", "x", true},
	} {
		if got := matches(c.pattern, c.s); got != c.want {
			t.Errorf("matches(%q, %q) = %v", c.pattern, c.s, got)
		}
	}
}
