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
	attempts   = 6                // until the next change
	firstPause = time.Second      // the longest after the first failure; each further one doubles it
	callLimit  = 5 * time.Second  // for one attempt
	largest    = 30 * time.Second // of the pauses
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

// Notifier delivers changes. Its zero value is not usable; its methods may be called at the same time.
type Notifier struct {
	log    *slog.Logger
	client *http.Client
	proc   string
	noted  func(target config.Target, change Change, attempts int, err error)

	group     sync.WaitGroup
	mu        sync.Mutex
	pending   map[config.Target]*Change // an entry while a goroutine delivers to the target; nil when it has taken the change
	delivered atomic.Uint64
	failed    atomic.Uint64
}

// New returns a Notifier that writes what it does to log. Noted hears of each change before the first attempt, and after each with
// the number of attempts and the last one's error.
func New(log *slog.Logger, noted func(target config.Target, change Change, attempts int, err error)) *Notifier {
	return &Notifier{log: log, client: newClient(), proc: "/proc", noted: noted, pending: map[config.Target]*Change{}}
}

// Notify tells target, in the background until ctx ends, and returns at once. A change that comes before the one before
// is delivered is delivered with it, so that a target hears of the newest and never of an older one after it.
func (n *Notifier) Notify(ctx context.Context, target config.Target, change Change) {
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

// serve delivers until nothing is left for the target.
func (n *Notifier) serve(ctx context.Context, target config.Target) {
	var change Change
	for failures := 0; ; {
		switch {
		case n.take(target, &change):
			failures = 0 // something new is worth as many attempts again
			n.noted(target, change, 0, nil)
		case failures == 0 && n.idle(target):
			return
		case failures == 0:
			continue
		}
		err := n.deliver(ctx, target, change)
		if ctx.Err() != nil {
			n.forget(target)
			return
		}
		if err == nil {
			n.delivered.Add(1)
			n.noted(target, change, failures+1, nil)
			n.log.Info("notified", logkey.Target, target.String(), logkey.Files, len(change.Files))
			change, failures = Change{}, 0
			continue
		}
		n.failed.Add(1)
		failures++
		n.noted(target, change, failures, err)
		if failures == attempts {
			n.log.Error("notification failed; giving up until the next change",
				logkey.Target, target.String(), logkey.Attempts, failures, logkey.Error, err)
			change, failures = Change{}, 0
			continue
		}
		wait := pause.UpTo(pause.Doubled(firstPause, failures-1, largest))
		n.log.Warn("notification failed; trying again",
			logkey.Target, target.String(), logkey.Attempt, failures, logkey.In, wait.String(), logkey.Error, err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			n.forget(target)
			return
		}
	}
}

// take moves what is pending into change.
func (n *Notifier) take(target config.Target, change *Change) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	waiting := n.pending[target]
	if waiting == nil {
		return false
	}
	change.merge(*waiting)
	n.pending[target] = nil
	return true
}

// idle ends the service of a target, unless something came in.
func (n *Notifier) idle(target config.Target) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pending[target] != nil {
		return false
	}
	delete(n.pending, target)
	return true
}

func (n *Notifier) forget(target config.Target) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.pending, target)
}

func (n *Notifier) deliver(ctx context.Context, target config.Target, change Change) error {
	if target.URL != "" {
		return n.post(ctx, target.URL, change)
	}
	return n.send(signals[target.Signal], target.Process)
}

// A Router knows which target hears of which files.
type Router struct {
	notifier *Notifier
	pod      config.Target            // hears of all files that have no target of their own; zero: there is none
	files    map[string]config.Target // by path
}

// NewRouter returns the Router of a document.
func NewRouter(n *Notifier, doc agentconfig.Config) (r Router, err error) {
	r = Router{notifier: n, files: map[string]config.Target{}}
	if doc.OnChange != "" {
		if r.pod, err = config.ParseOnChange(doc.OnChange); err != nil {
			return r, fmt.Errorf("onChange: %w", err)
		}
	}
	for _, f := range doc.Files {
		if f.OnChange != "" {
			if r.files[f.Path], err = config.ParseOnChange(f.OnChange); err != nil {
				return r, fmt.Errorf("file %s: onChange: %w", f.Path, err)
			}
		}
	}
	return r, nil
}

// Targets returns all targets of notifications, as the configuration writes them.
func (r Router) Targets() []string {
	var all []string
	if r.pod != (config.Target{}) {
		all = append(all, r.pod.String())
	}
	for _, target := range r.files {
		all = append(all, target.String())
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Tell tells each target, once, of its files of a change. It returns at once.
func (r Router) Tell(ctx context.Context, change Change) {
	parts := map[config.Target]*Change{}
	for _, f := range change.Files {
		target, own := r.files[f.Path]
		if !own {
			target = r.pod
		}
		if target == (config.Target{}) {
			continue
		}
		if parts[target] == nil {
			parts[target] = &Change{At: change.At}
		}
		parts[target].Files = append(parts[target].Files, f)
	}
	for target, part := range parts {
		r.notifier.Notify(ctx, target, *part)
	}
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
