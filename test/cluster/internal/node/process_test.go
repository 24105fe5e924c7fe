//go:build linux

package node

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// sleeper starts a child that lives until the test ends, and returns a record of it.
func sleeper(t *testing.T, dir string) (*exec.Cmd, *Process) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	p, err := record(dir, cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, p
}

func TestFindAndKill(t *testing.T) {
	dir := t.TempDir()
	if p, err := Find(dir); p != nil || err != nil {
		t.Fatalf("found %v, %v where nothing ever ran", p, err)
	}
	cmd, _ := sleeper(t, dir)
	p, err := Find(dir)
	if err != nil || p == nil || p.PID != cmd.Process.Pid {
		t.Fatalf("found %v, %v, want process %d", p, err, cmd.Process.Pid)
	}
	for range 2 { // the second time it is dead
		if err := Kill(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
	// Not waited for by its parent, it is a zombie: dead all the same.
	if p, err := Find(dir); p != nil || err != nil {
		t.Errorf("found %v, %v after the kill", p, err)
	}
}

// The number in a stale record belongs to another process by now.
func TestReusedNumberIsNotOurs(t *testing.T) {
	dir := t.TempDir()
	cmd, p := sleeper(t, dir)
	for name, stale := range map[string]Process{
		"started at another time": {PID: p.PID, Start: p.Start + "0", Boot: p.Boot},
		"of another boot":         {PID: p.PID, Start: p.Start, Boot: "another"},
	} {
		data, err := json.Marshal(stale)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, recordFile), data, 0o644); err != nil {
			t.Fatal(err)
		}
		if found, err := Find(dir); found != nil || err != nil {
			t.Errorf("%s: found %v, %v", name, found, err)
		}
	}
	stale := Process{PID: p.PID, Start: p.Start + "0", Boot: p.Boot}
	if err := stale.kill(t.Context()); err != nil {
		t.Error(err)
	}
	if start, state, err := stat(cmd.Process.Pid); err != nil || start != p.Start || state == zombie {
		t.Errorf("process %d was killed for another: state %q, %v", cmd.Process.Pid, state, err)
	}
}

func TestTornRecordIsNoNode(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, recordFile), []byte(`{"PID":1`), 0o644); err != nil {
		t.Fatal(err)
	}
	if p, err := Find(dir); p != nil || err != nil {
		t.Errorf("found %v, %v", p, err)
	}
}
