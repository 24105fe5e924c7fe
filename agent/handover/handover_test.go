package handover

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	directory := t.TempDir()
	var got map[string]string
	if err := Read(directory, "x.json", &got); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	for _, value := range []string{"one", "two"} {
		if err := Write(directory, "x.json", map[string]string{"k": value}); err != nil {
			t.Fatal(err)
		}
		if err := Read(directory, "x.json", &got); err != nil || got["k"] != value {
			t.Errorf("%v, %v", got, err)
		}
	}
	entries, err := os.ReadDir(directory)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	Remove(directory, "x.json")
	if err := Read(directory, "x.json", &got); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed: %v", err)
	}
}

// A file that cannot be used says why, without its content.
func TestDamagedFiles(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "damaged",
		"sentinel":                            "damaged",
		`{"format":3,"holds":{"k":"senti`:     "damaged",
		`{"format":3,"holds":["sentinel"]}`:   "damaged",
		`{"format":1,"secrets":["sentinel"]}`: "has format 1, this agent reads 3",
		`{}`:                                  "has format 0",
	} {
		directory := t.TempDir()
		if err := os.WriteFile(filepath.Join(directory, "x.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var got map[string]string
		if err := Read(directory, "x.json", &got); err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "sentinel") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
