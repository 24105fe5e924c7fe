package policy

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The oracle says the same in a regular expression.
func TestMatchAgreesWithRegexp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab/é*?]{0,8}`).Draw(t, "pattern")
		value := rapid.StringMatching(`[ab/é]{0,8}`).Draw(t, "value")
		quoted := strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(pattern))
		want := regexp.MustCompile(`^(?s:` + quoted + `)$`).MatchString(value)
		if got := Match(pattern, value); got != want {
			t.Fatalf("Match(%q, %q) = %v, want %v", pattern, value, got, want)
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("acs:kms:*:*:secret/app/?", "acs:kms:cn-hangzhou:1:secret/app/a")
	f.Add("***a", "aaaa\xff")
	f.Fuzz(func(t *testing.T, pattern, value string) {
		if !Match(value, value) && !strings.ContainsAny(value, "*?") {
			t.Errorf("%q does not match itself", value)
		}
		if !Match("*", value) {
			t.Errorf("* does not match %q", value)
		}
		Match(pattern, value)
	})
}
