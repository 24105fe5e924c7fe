//go:build linux

package node

import (
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
)

// reaper waits for every child of PID 1: the components, and whatever their children leave behind. It is the only one who
// waits, since wait(2) for any child would take the end of a component away from exec.Cmd.Wait.
type reaper struct {
	mu    sync.Mutex // held from fork to registration, so that no end is reaped before somebody waits for it
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

// start starts cmd, which must have files for its standard streams, and returns where its end will be told.
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
