//go:build linux

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Marker is the environment variable that tells a program that Start started it, and that it is to call Main.
const Marker = "KMS_CLUSTER_NODE"

// Starting is a node that is not ready yet and ends if this process does.
type Starting struct {
	control *os.File
}

// Start runs this same program again as PID 1 of new mount, PID, network, host name and IPC namespaces, in a session of its
// own. It forwards the connections of listener to the API server.
func Start(cfg Config, listener *net.TCPListener) (*Starting, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	door, err := listener.File()
	if err != nil {
		return nil, err
	}
	defer door.Close()
	log, err := os.OpenFile(filepath.Join(cfg.Dir, LogDir, "node.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()

	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = "kms-cluster-node"
	cmd.Env = append(environment(), Marker+"=1")
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{theirs, door} // controlFD, listenerFD
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Setsid:     true,
	}
	if err := cmd.Start(); err != nil {
		ours.Close()
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w: this root has no CAP_SYS_ADMIN, as in an ordinary container; "+
				"use the machine itself, or a privileged container", err)
		}
		return nil, fmt.Errorf("start the node's PID 1 in new namespaces: %w", err)
	}
	go cmd.Wait() //nolint:errcheck // only to reap it, in case this process lives longer; AwaitReady says why it ended

	_, err = record(cfg.Dir, cmd.Process.Pid)
	if err == nil {
		err = json.NewEncoder(ours).Encode(cfg)
	}
	if err != nil {
		ours.Close() // which ends the child
		return nil, err
	}
	return &Starting{control: ours}, nil
}

func socketPair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	// Non-blocking, so that Close interrupts a Read.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}

// Descriptors that PID 1 inherits.
const (
	controlFD  = 3 // one end of a socket pair; the starter has the other
	listenerFD = 4 // the API server's port on the machine's loopback address
)

// Config is what the starter tells PID 1, as one JSON document.
type Config struct {
	Dir        string // the state directory
	Kubernetes string // directory of the program kubernetes
	Containerd string // directory of containerd, its shim, runc and the CNI plugins

	APIServer, ControllerManager []string // arguments besides the usual ones
}

// message is what PID 1 tells the starter, a JSON document each. Exactly one of the fields is set.
type message struct {
	Step  string // something is done
	Ready bool
	Error string // the last one: PID 1 ends
}

var sending sync.Mutex

func send(control io.Writer, m message) {
	sending.Lock()
	defer sending.Unlock()
	json.NewEncoder(control).Encode(m) //nolint:errcheck // the starter has detached
}

// AwaitReady passes on what the node reports until it is ready, has failed, or died.
func (s *Starting) AwaitReady(report func(step string)) error {
	messages := json.NewDecoder(s.control)
	for {
		var m message
		switch err := messages.Decode(&m); {
		case errors.Is(err, os.ErrClosed):
			return errors.New("given up")
		case err != nil:
			return errors.New("the node's PID 1 died without a word: its log may say why")
		case m.Error != "":
			return fmt.Errorf("start the node: %s", m.Error)
		case m.Ready:
			return nil
		}
		report(m.Step)
	}
}

// Abandon ends the node, unless Detach came first.
func (s *Starting) Abandon() { s.control.Close() } //nolint:errcheck // closed twice is closed

// Detach lets the node outlive this process.
func (s *Starting) Detach() error {
	defer s.control.Close()
	_, err := io.WriteString(s.control, "{}\n")
	return err
}
