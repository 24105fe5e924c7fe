//go:build linux

package node

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// A component that ends is started again: after firstPause, then after twice the last pause up to longestPause, and after
// firstPause again once it has run for a steady time.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	steady       = 30 * time.Second
)

// hopeless is how many ends of one component, some fifteen seconds of them, make the start of a cluster fail.
const hopeless = 8

// supervisor keeps components running.
type supervisor struct {
	reaper *reaper
	logDir string
	giveUp func(error) // told of a component that is hopeless
}

// keep starts the component when it may start and again whenever it ends, until ctx ends.
func (s *supervisor) keep(ctx context.Context, c component) {
	if c.after != nil {
		if err := c.after(ctx); err != nil {
			return // ctx ended
		}
	}
	pause := firstPause
	for ends := 1; ctx.Err() == nil; ends++ {
		began := time.Now()
		how, err := s.run(c)
		if err != nil {
			how = err.Error()
		}
		ran := time.Since(began)
		if ran > steady {
			pause = firstPause
		}
		slog.Warn("component ended", "component", c.name, "how", how, "ran", ran.Round(time.Millisecond), "restartIn", pause)
		if ends == hopeless {
			s.giveUp(fmt.Errorf("%s ended %d times (%s); its log ends with: %s", c.name, ends, how, s.lastLine(c)))
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// run starts the component once and returns how it ended.
func (s *supervisor) run(c component) (string, error) {
	log, err := os.OpenFile(s.logFile(c), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return "", err
	}
	defer log.Close()
	cmd := &exec.Cmd{
		Path:   c.program,
		Args:   append([]string{c.name}, c.args...),
		Env:    environment(),
		Dir:    "/",
		Stdout: log,
		Stderr: log,
		// A terminal's or a component's signals to its group must not reach the others.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	ended, err := s.reaper.start(cmd)
	if err != nil {
		return "", err
	}
	slog.Info("component started", "component", c.name)
	status := <-ended
	if status.Signaled() {
		return "killed by " + status.Signal().String(), nil
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus()), nil
}

func (s *supervisor) logFile(c component) string { return filepath.Join(s.logDir, c.name+".log") }

func (s *supervisor) lastLine(c component) string {
	data, err := os.ReadFile(s.logFile(c))
	if err != nil {
		return err.Error()
	}
	data = bytes.TrimSpace(data)
	return string(data[bytes.LastIndexByte(data, '\n')+1:])
}
