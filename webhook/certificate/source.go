package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// A Source is the serving certificate of the process that listens. It follows a folder or a Secret that another program writes, and
// changes nothing in the cluster. There may be no certificate at first.
type Source struct {
	from     string // what is read, for people
	dir      string // "": the Secret
	options  Options
	watched  *watched
	trusted  *trusted
	handover *handover
	newest   atomic.Pointer[tls.Certificate] // nil until there is one
	reported atomic.Pointer[string]          // why there is none that can be used
}

// readInterval is how often files are read. The kernel could say when they change, but on a busy node it has no watches left
// to give.
const readInterval = time.Second

// NewFiles serves tls.crt and tls.key of a folder, which must exist; nothing is read before Run.
func NewFiles(dir string, o Options) (*Source, error) {
	if _, err := os.ReadDir(dir); err != nil {
		return nil, fmt.Errorf("find the serving certificate: %w", err)
	}
	return newSource("the folder "+dir, dir, o, o.configurations())
}

// NewSecret serves tls.crt and tls.key of the Secret that NewSelfSigned's Keeper writes. It is read from the API server: a mounted
// Secret arrives with the kubelet's next look, up to a minute and a half after the first installation has written it.
func NewSecret(o Options) (*Source, error) {
	secret := o.servingSecret()
	return newSource("the Secret "+secret.Name, "", o, append(o.configurations(), secret))
}

func newSource(from, dir string, o Options, objects []client.Object) (*Source, error) {
	w, err := watch(o, objects...)
	if err != nil {
		return nil, fmt.Errorf("the serving certificate in %s: %w", from, err)
	}
	t := &trusted{configuration: o.Configuration}
	return &Source{from: from, dir: dir, options: o, watched: w, trusted: t, handover: newHandover(o, t)}, nil
}

// Run follows the certificate, and what is trusted, until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.watched.run(ctx, s.look) })
	if s.dir != "" {
		group.Go(func() error { return s.followFiles(ctx) })
	}
	return group.Wait()
}

func (s *Source) look(ctx context.Context) error {
	var seen [][]byte
	err := each(ctx, s.watched.client, s.options, func(_ client.Object, bundles [][]byte) error {
		seen = append(seen, bundles...)
		return nil
	})
	if err != nil {
		return err
	}
	s.trusted.remember(seen, time.Now())
	if s.dir != "" {
		return nil
	}
	secret := s.options.servingSecret()
	err = s.watched.client.Get(ctx, client.ObjectKeyFromObject(secret), secret)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read the serving certificate: %w", err)
	}
	if err == nil {
		_, err = s.take(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	}
	s.report(err)
	return nil
}

func (s *Source) followFiles(ctx context.Context) error {
	tick := time.NewTicker(readInterval)
	defer tick.Stop()
	for {
		_, err := s.readFiles()
		s.report(err)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *Source) readFiles() (changed bool, err error) {
	certificate, err := os.ReadFile(filepath.Join(s.dir, corev1.TLSCertKey))
	if err != nil {
		return false, err
	}
	key, err := os.ReadFile(filepath.Join(s.dir, corev1.TLSPrivateKeyKey))
	if err != nil {
		return false, err
	}
	return s.take(certificate, key)
}

// take makes a pair the newest. What cannot be used, such as a certificate whose key is not there yet, changes nothing.
func (s *Source) take(certificate, key []byte) (changed bool, err error) {
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return false, err
	}
	if old := s.newest.Load(); old != nil && slices.EqualFunc(old.Certificate, pair.Certificate, bytes.Equal) {
		return false, nil
	}
	s.newest.Store(&pair)
	return true, nil
}

// report logs why no newer certificate could be used, each time that the reason changes.
func (s *Source) report(err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	if old := s.reported.Swap(&reason); err != nil && (old == nil || *old != reason) {
		s.options.Log.Info("Waiting for a serving certificate", "from", s.from, "reason", reason)
	}
}

// GetCertificate is for tls.Config.
func (s *Source) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	newest := s.newest.Load()
	if newest == nil {
		return nil, fmt.Errorf("no serving certificate has been read from tls.crt and tls.key in %s yet", s.from)
	}
	return s.handover.serve(newest), nil
}

// Ready is nil while the API server could accept the certificate.
func (s *Source) Ready() error {
	c, err := s.GetCertificate(nil)
	if err != nil {
		return err
	}
	return s.handover.ready(c)
}

// settleTime is how long after a webhook configuration's change every API server is taken to have seen it, and how far behind
// this clock theirs may be.
const settleTime = 10 * time.Second

// A handover hands out the newest certificate when the configurations have trusted it, and it has been valid, for a while, and
// until then the one before it, as long as they still trust that. So no request meets a certificate that it cannot verify.
type handover struct {
	trusted *trusted
	name    string // DNS name by which the API server calls; "" is any
	settle  time.Duration
	log     logr.Logger

	mu     sync.Mutex
	served *tls.Certificate
}

func newHandover(o Options, t *trusted) *handover {
	return &handover{trusted: t, name: o.serverName(), settle: settleTime, log: o.Log}
}

// serve returns the certificate to serve, given the newest there is.
func (h *handover) serve(newest *tls.Certificate) *tls.Certificate {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if newest != h.served && h.due(newest, now) {
		h.served = newest
		h.log.Info("Serving a new certificate", "expires", newest.Leaf.NotAfter)
	}
	return h.served
}

// due says whether it is time to turn from what is served to the newest.
func (h *handover) due(newest *tls.Certificate, now time.Time) bool {
	if h.served == nil || current(h.served, now) != nil {
		return true
	}
	settle := h.settle
	if h.trusted.trust(h.served, h.name, now, 0) != nil {
		settle = 0 // nothing is lost by turning early
	}
	return h.trusted.trust(newest, h.name, now, settle) == nil
}

// ready is nil while the API server could accept a certificate.
func (h *handover) ready(c *tls.Certificate) error {
	now := time.Now()
	if err := current(c, now); err != nil {
		return err
	}
	return h.trusted.trust(c, h.name, now, 0)
}

func current(c *tls.Certificate, now time.Time) error {
	if now.After(c.Leaf.NotAfter) {
		return fmt.Errorf("the serving certificate expired at %s", c.Leaf.NotAfter.Format(time.RFC3339))
	}
	return nil
}
