package volume

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestOldOrNewAtEveryStep writes random sets, crashes or fails before random steps, and looks at the directory before each
// step: it has the old set or the new one, never a mixture.
func TestOldOrNewAtEveryStep(t *testing.T) {
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(base, "")
		if err != nil {
			t.Fatal(err)
		}
		current := map[string]string{}
		for range rapid.IntRange(1, 6).Draw(t, "writes") {
			files := drawSet(t)
			next := asVisible(files)
			fault := rapid.SampledFrom([]string{"none", "none", "crash", "error"}).Draw(t, "fault")
			at := rapid.IntRange(1, 25).Draw(t, "step")

			ended := attempt(t, dir, files, fault, at, func() {
				if got := visible(t, dir); !reflect.DeepEqual(got, current) && !reflect.DeepEqual(got, next) {
					t.Fatalf("in between there is %q\nold %q\nnew %q", got, current, next)
				}
			})
			got := visible(t, dir)
			switch {
			case ended && !reflect.DeepEqual(got, next):
				t.Fatalf("after the write: %q\nwant %q", got, next)
			case !reflect.DeepEqual(got, current) && !reflect.DeepEqual(got, next):
				t.Fatalf("after %s: %q\nold %q\nnew %q", fault, got, current, next)
			}
			current = got
		}
		// One more write without faults leaves nothing behind.
		files := drawSet(t)
		attempt(t, dir, files, "none", 0, func() {})
		d, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := d.Sweep(); err != nil {
			t.Fatal(err)
		}
		want := asVisible(files)
		if got := visible(t, dir); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		tops := map[string]bool{}
		for path := range want {
			top, _, _ := strings.Cut(path, string(filepath.Separator))
			tops[top] = true
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != len(tops)+2 { // ..data and its set
			t.Fatalf("%v is more than %v, ..data and one set", entries, tops)
		}
	})
}

type crash struct{}

// attempt writes a set as a process of its own would, and reports whether Write returned without error.
func attempt(t *rapid.T, dir string, files []File, fault string, at int, look func()) (ok bool) {
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	defer func() {
		if r := recover(); r != nil {
			if _, ours := r.(crash); !ours {
				panic(r)
			}
		}
	}()
	n := 0
	d.step = func() error {
		look()
		if n++; n == at {
			switch fault {
			case "crash":
				panic(crash{})
			case "error":
				return errors.New("injected")
			}
		}
		return nil
	}
	_, err = d.Write(files)
	if err != nil && fault != "error" {
		t.Fatal(err)
	}
	return err == nil
}

func drawSet(t *rapid.T) []File {
	// The first two cannot be in one set with the others below them.
	paths := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "conf", "b", "a/x", "conf/x", "conf/deep/y", "conf/z"}), 0, 4,
		rapid.ID[string]).Draw(t, "paths")
	var files []File
	for _, p := range paths {
		f := File{Path: p, Data: []byte(rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "data")), Mode: 0o400}
		if rapid.Bool().Draw(t, "group") {
			f.Mode = 0o440
		}
		if _, err := check(append(files, f)); err == nil {
			files = append(files, f)
		}
	}
	return files
}

func asVisible(files []File) map[string]string {
	set := map[string]string{}
	for _, f := range files {
		set[filepath.FromSlash(f.Path)] = f.Mode.String() + " " + string(f.Data)
	}
	return set
}
