package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// If the source fails, the file stays as it was and no other file is left. A temporary file of a writer that was killed is replaced.
func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path+".next", []byte("half of a longer text"), 0o400); err != nil {
		t.Fatal(err)
	}
	failed := errors.New("failed")
	for _, c := range []struct {
		text string
		err  error
		want string
	}{{"one", nil, "one"}, {"two", failed, "one"}, {"three", nil, "three"}} {
		content := io.Reader(strings.NewReader(c.text))
		if c.err != nil {
			content = io.MultiReader(content, iotest.ErrReader(c.err))
		}
		err := Write(path, 0o444, content)
		data, readErr := os.ReadFile(path)
		if !errors.Is(err, c.err) || string(data) != c.want || readErr != nil {
			t.Errorf("%s: %v, %q, %v", c.text, err, data, readErr)
		}
		info, statErr := os.Stat(path)
		if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 || statErr != nil || info.Mode().Perm() != 0o444 {
			t.Errorf("%s: %v, %v, %v", c.text, entries, info, err)
		}
	}
}
