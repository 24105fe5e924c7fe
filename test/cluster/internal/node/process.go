//go:build linux

package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// recordFile, in the state directory, says which process is the node's PID 1.
const recordFile = "node.json"

// A Process identifies a process by its ID and start time, because the kernel reuses IDs.
type Process struct {
	PID   int
	Start string // clock ticks from boot to its start: field 22 of /proc/PID/stat
	Boot  string // the kernel's random identifier of this boot
}

// record writes down a child that is not reaped yet, so that its number is still its own.
func record(dir string, pid int) (*Process, error) {
	start, _, err := stat(pid)
	if err != nil {
		return nil, fmt.Errorf("identify the node's process: %w", err)
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	p := &Process{PID: pid, Start: start, Boot: boot}
	data, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, recordFile), data, 0o644); err != nil {
		return nil, err
	}
	return p, nil
}

// Find returns the running node whose state is in dir, or nil if there is none: never started, or dead.
func Find(dir string) (*Process, error) {
	p, err := recorded(dir)
	if p == nil || err != nil {
		return nil, err
	}
	if start, state, err := stat(p.PID); err != nil || start != p.Start || state == zombie {
		return nil, nil
	}
	return p, nil
}

// Kill ends the node whose state is in dir, if there is one, and every process in it. It returns when all are gone.
func Kill(ctx context.Context, dir string) error {
	p, err := recorded(dir)
	if p == nil || err != nil {
		return err
	}
	return p.kill(ctx)
}

// recorded returns the process that the record in dir is about, or nil if there is no record of this boot.
func recorded(dir string) (*Process, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var p Process
	if json.Unmarshal(data, &p) != nil {
		return nil, nil // the writer was killed while writing: its child got no configuration and ended with it
	}
	boot, err := bootID()
	if err != nil || p.Boot != boot {
		return nil, err
	}
	return &p, nil
}

func (p *Process) kill(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	// The descriptor holds on to whichever process has the number now. If that is ours, it stays ours. It may be a zombie
	// already, while the kernel is still busy killing the others.
	if start, _, err := stat(p.PID); err != nil || start != p.Start {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", p.PID, err)
	}
	// The kernel reports the end of a PID 1 after that of all others in its namespace.
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int((100 * time.Millisecond).Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the end of process %d: %w", p.PID, err)
		}
		if n > 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for the end of process %d: %w", p.PID, context.Cause(ctx))
		}
	}
}

const zombie = "Z"

// stat reads the state and the start time from proc_pid_stat(5): fields 3 and 22. The name before them may contain
// anything, so fields are counted from the last parenthesis.
func stat(pid int) (start, state string, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", "", err
	}
	end := bytes.LastIndexByte(data, ')')
	fields := strings.Fields(string(data[end+1:]))
	const stateField, startField = 3, 22
	if end < 0 || len(fields) <= startField-stateField {
		return "", "", fmt.Errorf("/proc/%d/stat: malformed", pid)
	}
	return fields[startField-stateField], fields[0], nil
}

func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot's identifier: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
