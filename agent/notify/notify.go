// Package notify tells a program of the same pod that its files have changed.
package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/logkey"
	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

const (
	firstPause = time.Second     // the longest after the first failure; each further one doubles it
	callLimit  = 5 * time.Second // for one attempt
	largest    = 2 * time.Minute // of the pauses
)

// A Change is what a target is told: one refresh, or several that came while it could not be reached.
type Change struct {
	Files []File    `json:"files"`
	At    time.Time `json:"at"` // of the newest
}

// A File has changed because a secret has. A file of several secrets is there once for each that changed.
type File struct {
	Path            string `json:"path"` // below the secrets' directory
	Secret          string `json:"secret"`
	Version         string `json:"version,omitempty"`         // empty: the secret is gone
	PreviousVersion string `json:"previousVersion,omitempty"` // empty: it was not there
}

// merge adds a later change. What a file was before is what the target last heard of.
func (c *Change) merge(later Change) {
	c.At = later.At
next:
	for _, f := range later.Files {
		for i, known := range c.Files {
			if known.Path == f.Path && known.Secret == f.Secret {
				c.Files[i].Version = f.Version
				continue next
			}
		}
		c.Files = append(c.Files, f)
	}
}

// Notifier delivers the changes of files to the targets that a pod names for them. Its methods may be called at the same time.
type Notifier struct {
	log    *slog.Logger
	client *http.Client
	proc   string
	noted  func(target config.Target, change Change, attempts int, err error)

	pod   config.Target            // is notified of all files that have no target of their own; zero: there is none
	files map[string]config.Target // by path

	group     sync.WaitGroup
	mu        sync.Mutex
	pending   map[config.Target]*Change // an entry while a goroutine delivers to the target; nil when it has taken the change
	delivered atomic.Uint64
	failed    atomic.Uint64
}

// New returns the Notifier of a configuration. Noted is called with each change before the first attempt, and after each with the
// number of attempts and the last one's error.
func New(log *slog.Logger, doc agentconfig.Config, noted func(target config.Target, change Change, attempts int, err error)) (
	n *Notifier, err error,
) {
	n = &Notifier{
		log: log, client: newClient(), proc: "/proc", noted: noted,
		files: map[string]config.Target{}, pending: map[config.Target]*Change{},
	}
	if doc.OnChange != "" {
		if n.pod, err = config.ParseOnChange(doc.OnChange); err != nil {
			return nil, fmt.Errorf("onChange: %w", err)
		}
	}
	for _, f := range doc.Files {
		if f.OnChange != "" {
			if n.files[f.Path], err = config.ParseOnChange(f.OnChange); err != nil {
				return nil, fmt.Errorf("file %s: onChange: %w", f.Path, err)
			}
		}
	}
	return n, nil
}

// Targets returns all targets of notifications, as the configuration writes them.
func (n *Notifier) Targets() []string {
	var all []string
	if n.pod != (config.Target{}) {
		all = append(all, n.pod.String())
	}
	for _, target := range n.files {
		all = append(all, target.String())
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Target returns what is notified of a file; zero: nothing.
func (n *Notifier) Target(path string) config.Target {
	if own, found := n.files[path]; found {
		return own
	}
	return n.pod
}

// Tell notifies each target, once, of its files of a change. It returns at once.
func (n *Notifier) Tell(ctx context.Context, change Change) {
	parts := map[config.Target]*Change{}
	for _, f := range change.Files {
		target := n.Target(f.Path)
		if target == (config.Target{}) {
			continue
		}
		if parts[target] == nil {
			parts[target] = &Change{At: change.At}
		}
		parts[target].Files = append(parts[target].Files, f)
	}
	for target, part := range parts {
		n.notify(ctx, target, *part)
	}
}

// notify delivers in the background until ctx ends. A change that comes before the one before is delivered is delivered with it, so
// that a target is notified of the newest and never of an older one after it.
func (n *Notifier) notify(ctx context.Context, target config.Target, change Change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	waiting, busy := n.pending[target]
	if waiting != nil {
		waiting.merge(change)
		return
	}
	own := Change{At: change.At}
	own.merge(change)
	n.pending[target] = &own
	if !busy {
		n.group.Go(func() { n.serve(ctx, target) })
	}
}

// Wait returns when nothing is under way any more, which it soon is after the end of the contexts.
func (n *Notifier) Wait() { n.group.Wait() }

// Counts returns how many attempts have succeeded and failed.
func (n *Notifier) Counts() (delivered, failed uint64) { return n.delivered.Load(), n.failed.Load() }

// serve delivers until nothing is left for the target, or ctx ends.
func (n *Notifier) serve(ctx context.Context, target config.Target) {
	var change Change
	for tried := 0; ; {
		switch added, left := n.next(target, &change); {
		case !left:
			return
		case added:
			tried = 0
			n.noted(target, change, 0, nil) // also where there is no time left to tell it: the next process will
		}
		err := n.deliver(ctx, target, change)
		if err != nil && ctx.Err() != nil {
			break
		}
		tried++
		n.noted(target, change, tried, err)
		switch {
		case err == nil:
			n.delivered.Add(1)
			n.log.Info("notified", logkey.Target, target.String(), logkey.Files, len(change.Files))
			change = Change{}
		default:
			n.failed.Add(1)
			wait := pause.UpTo(pause.Doubled(firstPause, tried-1, largest))
			n.log.Warn("notification failed; trying again",
				logkey.Target, target.String(), logkey.Attempt, tried, logkey.In, wait.String(), logkey.Error, err)
			pause.Sleep(ctx, wait)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.pending, target)
}

// next adds to a change what came in since, if anything did. If nothing is left to deliver the target's service ends.
func (n *Notifier) next(target config.Target, change *Change) (added, left bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if waiting := n.pending[target]; waiting != nil {
		change.merge(*waiting)
		n.pending[target] = nil
		return true, true
	}
	if change.At.IsZero() {
		delete(n.pending, target)
	}
	return false, !change.At.IsZero()
}

func (n *Notifier) deliver(ctx context.Context, target config.Target, change Change) error {
	if target.URL != "" {
		return n.post(ctx, target.URL, change)
	}
	return n.send(signals[target.Signal], target.Process)
}

// newClient returns a client that stays in the pod: no proxy, no redirects, loopback only, whatever the target is. It keeps no
// connections: changes are hours apart.
func newClient() *http.Client {
	dialer := &net.Dialer{Timeout: callLimit, Control: func(_, address string, _ syscall.RawConn) error {
		if host, err := netip.ParseAddrPort(address); err != nil || !host.Addr().IsLoopback() {
			return fmt.Errorf("%s is not in this pod", address)
		}
		return nil
	}}
	return &http.Client{
		Timeout:       callLimit,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true},
	}
}

func (n *Notifier) post(ctx context.Context, url string, change Change) error {
	body, err := json.Marshal(change)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "kms-agent")
	response, err := n.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	const most = 64 << 10 // of an answer, which is thrown away, so that the program can finish it
	_, _ = io.CopyN(io.Discard, response.Body, most)
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("POST %s: HTTP %d; 2xx is expected, redirects are not followed", url, response.StatusCode)
	}
	return nil
}
