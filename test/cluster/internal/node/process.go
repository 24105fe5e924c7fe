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

// Process identifies one process for ever: a number is given to another process some day, its time of birth is not.
type Process struct {
	PID   int
	Start string // clock ticks from boot to its start: field 22 of /proc/PID/stat
	Boot  string // the kernel's random identifier of this boot
}

// record writes down a child that is not reaped yet, so that its number is still its own.
func record(dir string, pid int) (*Process, error) {
	start, err := startTime(pid)
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
	if err != nil {
		return nil, err
	}
	if p.Boot != boot || !p.alive() {
		return nil, nil
	}
	return &p, nil
}

func (p *Process) alive() bool {
	start, err := startTime(p.PID)
	return err == nil && start == p.Start
}

// Kill ends the node and every process in it, and returns when all are gone.
func (p *Process) Kill(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	// The descriptor holds on to whichever process has the number now. If that is ours, it stays ours.
	if !p.alive() {
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

// startTime reads proc_pid_stat(5). The name in parentheses may contain anything, so fields are counted behind the last one.
func startTime(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	end := bytes.LastIndexByte(data, ')')
	fields := strings.Fields(string(data[end+1:]))
	const startField, firstField = 22, 3
	if end < 0 || len(fields) <= startField-firstField {
		return "", fmt.Errorf("/proc/%d/stat: malformed", pid)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return "", fs.ErrNotExist // dead, and only its parent has not noticed
	}
	return fields[startField-firstField], nil
}

func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot's identifier: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
