//go:build linux

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

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
