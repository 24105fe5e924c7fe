//go:build unix

package build

import (
	"maps"
	"slices"
	"testing"
	"time"
)

func TestEstimate(t *testing.T) {
	e := newEstimate(map[string]int64{"small": 10, "large": 80, "main": 10})
	for _, c := range []struct {
		begins  string
		elapsed time.Duration
		want    string
	}{
		{"small", 20 * time.Second, "compiling package 1 of 3"},
		{"large", 14 * time.Second, "compiling package 2 of 3"},
		{"", 20 * time.Second, "compiling package 2 of 3, about 3 min to go"},
		{"main", 3 * time.Minute, "compiling package 3 of 3, less than a minute to go"},
	} {
		if c.begins != "" {
			e.begin(c.begins)
		}
		if got := e.after(c.elapsed); got != c.want {
			t.Errorf("after %s of %s: %s, want %s", c.elapsed, c.begins, got, c.want)
		}
	}
}

// What the build cache has takes no time.
func TestToCompile(t *testing.T) {
	m := source(t, "one")
	if _, err := m.Ensure(t.Context(), t.TempDir(), nil); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]string{"one": nil, "another " + t.Name() + time.Now().String(): {"example.test/hello"}} {
		m.Dir = source(t, text).Dir
		sizes, err := m.toCompile(t.Context(), m.Steps[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Collect(maps.Keys(sizes)); !slices.Equal(got, want) {
			t.Errorf("%q: %q is to be compiled, want %q", text, got, want)
		}
	}
}
