package pattern

import (
	"strings"
	"testing"
)

func TestWhole(t *testing.T) {
	for _, c := range []struct {
		source, text string
		matches      bool
	}{
		{"shop", "shop", true}, {"ho", "shop", false}, {"a|shop", "shop", true}, {"x)|(?:.*", "shop", false},
		{`sho\Qp`, "shop", true}, {"(?i)SHOP", "shop", true}, {"", "shop", false},
	} {
		r, err := Whole(c.source)
		if got := err == nil && r.MatchString(c.text); got != c.matches {
			t.Errorf("%q matches %q: %v, %v", c.source, c.text, got, err)
		}
	}
}

func TestLimits(t *testing.T) {
	for source, want := range map[string]string{
		strings.Repeat("a", 2000): "at most 1024 are allowed", "(a{100}){100}": "regular expression", "(": "missing closing )",
	} {
		if _, err := Compile(source); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", source, err, want)
		}
	}
	if n, err := Instructions("[a-z]+"); err != nil || n < 2 {
		t.Error(n, err)
	}
}
