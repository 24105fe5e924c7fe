package notify

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/kms-agent-injector/kms-agent-injector/agent/logkey"
)

// signals are the signals that config.ParseOnChange accepts.
var signals = map[string]syscall.Signal{
	"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "TERM": syscall.SIGTERM,
	"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "WINCH": syscall.SIGWINCH,
}

// process is a process as /proc shows it.
type process struct {
	pid, parent int
	uid         string
	name        string // comm, of at most 15 bytes
	program     string // the last part of the first argument
}

const commLimit = 15 // bytes

func (p process) is(name string) bool {
	return p.program == name || p.name == name[:min(len(name), commLimit)]
}

// send signals the processes of that name. Of a family, such as a server's master and its workers, it is the eldest,
// which passes on to the others what is for them. Never the agent, nor the pause container that holds the namespace.
func (n *Notifier) send(signal syscall.Signal, name string) error {
	found, others, err := n.find(name)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		if others == 0 {
			return fmt.Errorf("no process %s: the agent sees no other process at all; the pod needs shareProcessNamespace: true", name)
		}
		return fmt.Errorf("no process %s among the %d of the pod; the name is that of the program, without its directory", name, others)
	}
	var errs []error
	for _, p := range found {
		if err := n.sendTo(p, signal, name); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 && len(errs) < len(found) { // another attempt would be a second signal for the others
		n.log.Warn("not all processes were signalled", logkey.Name, name, logkey.Error, errors.Join(errs...))
		return nil
	}
	return errors.Join(errs...)
}

// find returns the processes of that name whose parents have another, and how many there are besides the agent's.
func (n *Notifier) find(name string) (found []process, others int, err error) {
	entries, err := os.ReadDir(n.proc)
	if err != nil {
		return nil, 0, err
	}
	matches := map[int]process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		p, err := n.read(pid)
		if err != nil || pid == 1 && p.name == "pause" {
			continue // it has ended meanwhile
		}
		others++
		if p.is(name) {
			matches[pid] = p
		}
	}
	for _, p := range matches {
		if _, ok := matches[p.parent]; !ok {
			found = append(found, p)
		}
	}
	return found, others, nil
}

func (n *Notifier) read(pid int) (process, error) {
	directory := filepath.Join(n.proc, strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(directory, "status"))
	if err != nil {
		return process{}, err
	}
	p := process{pid: pid}
	for line := range strings.Lines(string(status)) {
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":\t")
		switch field {
		case "Name":
			p.name = value
		case "State":
			if strings.HasPrefix(value, "Z") {
				return process{}, os.ErrProcessDone
			}
		case "PPid":
			if p.parent, err = strconv.Atoi(value); err != nil {
				return process{}, err
			}
		case "Uid":
			p.uid, _, _ = strings.Cut(value, "\t")
		}
	}
	arguments, err := os.ReadFile(filepath.Join(directory, "cmdline"))
	if err != nil {
		return process{}, err
	}
	first, _, _ := strings.Cut(string(arguments), "\x00")
	p.program = path.Base(first)
	return p, nil
}

// sendTo holds on to the process, looks again whether it is the one, and only then signals it: numbers are used again.
func (n *Notifier) sendTo(p process, signal syscall.Signal, name string) error {
	handle, err := os.FindProcess(p.pid)
	if err != nil {
		return err
	}
	defer func() { _ = handle.Release() }()
	if again, err := n.read(p.pid); err != nil || !again.is(name) {
		return fmt.Errorf("process %s (%d) has just ended", name, p.pid)
	}
	return explain(handle.Signal(signal), p, name)
}

func explain(err error, p process, name string) error {
	if errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("process %s (%d) belongs to user %s and the agent runs as %d: "+
			"signals need the same user; set runAsUser for the pod", name, p.pid, p.uid, os.Getuid())
	}
	return err
}
