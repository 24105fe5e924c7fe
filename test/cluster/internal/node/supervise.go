//go:build linux

package node

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
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

// hopeless is the number of exits of one component, in some fifteen seconds, after which the start of the cluster fails.
const hopeless = 8

// supervisor keeps components running.
type supervisor struct {
	reaper *reaper
	logDir string
	giveUp func(error) // called with the error of a component that keeps failing
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

// reaper waits for every child of PID 1: the components, and orphans of their children. Nothing else calls wait, because waiting
// for any child would steal the exit status of a component from exec.Cmd.Wait.
type reaper struct {
	mu    sync.Mutex // held from fork to registration, so that no process is reaped before its waiter is registered
	ended map[int]chan<- syscall.WaitStatus
}

func newReaper() *reaper {
	r := &reaper{ended: map[int]chan<- syscall.WaitStatus{}}
	children := make(chan os.Signal, 1) // one pending signal says as much as many
	signal.Notify(children, syscall.SIGCHLD)
	go func() {
		for range children {
			r.reap()
		}
	}()
	return r
}

// start starts cmd, whose standard streams must be files, and returns a channel for its exit.
func (r *reaper) start(cmd *exec.Cmd) (<-chan syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan syscall.WaitStatus, 1)
	r.ended[cmd.Process.Pid] = ended
	return ended, cmd.Process.Release()
}

func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid == 0 {
			return
		}
		if ended, ours := r.ended[pid]; ours {
			ended <- status
			delete(r.ended, pid)
		}
	}
}
