package certificate

import (
	"crypto/tls"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

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

// serve is the certificate to serve, given the newest there is.
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
