package faults

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// full is a volume that has no room for another set of files: a real tmpfs where the test may mount one. Elsewhere nothing
// can be written into the agent's own volume, because a directory stands where the next state is to be.
func full() fault {
	f := fault{name: "tmpfs full", failures: 3, says: "is a directory", cost: secrets, change: func(*pod) {}}
	if canMount() {
		f.says = "the volume is full"
	}
	var filler string
	f.before = func(p *pod) {
		if canMount() {
			mount(p.t, p.doc.SecretsDir)
			filler = filepath.Join(p.doc.SecretsDir, "..filler")
		}
	}
	f.strike = func(p *pod) {
		if filler != "" {
			fill(p.t, filler)
		} else if err := os.Mkdir(obstacle(p), 0o700); err != nil {
			p.t.Error(err)
		}
		p.put(1, 2) // an unchanged set needs no room
	}
	f.heal = func(p *pod) {
		if filler == "" {
			filler = obstacle(p)
		}
		if err := os.Remove(filler); err != nil {
			p.t.Error(err)
		}
	}
	return f
}

func obstacle(p *pod) string { return filepath.Join(p.doc.StateDir, "state.json.next") }

// canMount reports whether this process may mount a tmpfs.
var canMount = sync.OnceValue(func() bool {
	directory, err := os.MkdirTemp("", "faults")
	if err != nil {
		return false
	}
	defer os.Remove(directory)
	return syscall.Mount("tmpfs", directory, "tmpfs", 0, room) == nil && syscall.Unmount(directory, syscall.MNT_DETACH) == nil
})

// room is enough for a few sets of files.
const room = "size=128k"

func mount(t *testing.T, directory string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", directory, "tmpfs", 0, room); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(directory, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// fill writes until there is no room.
func fill(t *testing.T, path string) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Error(err)
		return
	}
	defer file.Close()
	for err == nil {
		_, err = file.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
}
