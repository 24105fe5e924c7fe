//go:build unix

package build

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestPrune(t *testing.T) {
	cache, now := t.TempDir(), time.Now()
	const monthAgo = unused + time.Hour
	for name, c := range map[string]struct {
		age   time.Duration
		held  bool // by a node that runs
		built bool // by another run, now
		stays bool
	}{
		"kubernetes-0123456789ab":         {age: monthAgo},
		"kubernetes-0123456789ac":         {age: unused - time.Hour, stays: true},
		"kubernetes-0123456789ad":         {age: monthAgo, held: true, stays: true},
		"kubernetes-0123456789ae":         {age: monthAgo, built: true, stays: true},
		"kubernetes-0123456789af.partial": {age: monthAgo},
		"kubernetes-0123456789a0.partial": {age: monthAgo, built: true, stays: true},
		"foreign":                         {age: monthAgo, stays: true},
	} {
		dir := filepath.Join(cache, name)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "program"), nil, 0o755),
			os.Chtimes(dir, now, now.Add(-c.age))); err != nil {
			t.Fatal(err)
		}
		if c.held {
			if err := Hold(dir); err != nil {
				t.Fatal(err)
			}
		}
		if c.built {
			unlock, err := lock(t.Context(), filepath.Join(cache, name[:len("kubernetes-0123456789ab")]+".lock"))
			if err != nil {
				t.Fatal(err)
			}
			defer unlock()
		}
		defer func() {
			if _, err := os.Stat(filepath.Join(dir, "program")); (err == nil) != c.stays || err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s stays: %v, want %v", name, err == nil, c.stays)
			}
		}()
	}
	if err := prune(cache, now.Add(-unused)); err != nil {
		t.Error(err)
	}
}

// TestEnsurePrunes builds twice, a month apart, from sources that have changed, and once more from the first.
func TestEnsurePrunes(t *testing.T) {
	cache, first, second := t.TempDir(), source(t, "one"), source(t, "two")
	old, err := first.Ensure(t.Context(), cache, nil)
	if err != nil {
		t.Fatal(err)
	}
	monthAgo := time.Now().Add(-unused - time.Hour)
	age := func() {
		if err := os.Chtimes(old, monthAgo, monthAgo); err != nil {
			t.Fatal(err)
		}
	}
	age()
	if _, err := first.Ensure(t.Context(), cache, nil); err != nil { // which uses it
		t.Fatal(err)
	}
	if _, err := second.Ensure(t.Context(), cache, nil); err != nil {
		t.Fatal(err)
	}
	if !exists(old) {
		t.Fatal("programs that were used just now have been removed")
	}
	age()
	if _, err := source(t, "three").Ensure(t.Context(), cache, nil); err != nil {
		t.Fatal(err)
	}
	if exists(old) {
		t.Error("programs that were not used for a month are still there")
	}
}
