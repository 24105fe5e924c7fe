package webhook

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	crwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/share"
)

// admissionServer answers at the paths of this package.
func admissionServer(o Options, a *admission, m *webhookMetrics, draining *atomic.Bool) (*http.Server, error) {
	secure := &tls.Config{
		GetCertificate:              o.Certificate.GetCertificate,
		MinVersion:                  tls.VersionTLS12,
		DynamicRecordSizingDisabled: true, // the API server reads an answer whole: small records at first are only more system calls
	}
	if o.ClientCA != "" {
		authorities := &clientCA{file: o.ClientCA, base: secure, log: o.Log}
		if err := authorities.load(); err != nil {
			return nil, err
		}
		secure = &tls.Config{GetConfigForClient: authorities.config, MinVersion: tls.VersionTLS12}
	}
	uncounted := func(review.Verdict, time.Duration) {}
	long := share.LongRequests()
	mux := http.NewServeMux()
	mux.Handle(MutatePath, &review.Handler[injector.Pod]{
		Decide: a.mutatePod, Observe: m.pod, MaxBody: review.OneObject, Bytes: long, Log: o.Log, Draining: draining,
	})
	counted := crwebhook.NewServer(crwebhook.Options{WebhookMux: mux}) // for its metrics of each path; it has no limits to set
	counted.Register(ValidatePath, &review.Handler[workload]{
		Decide: a.validateWorkload, Observe: uncounted, MaxBody: review.TwoObjects, Bytes: long, Advisory: true, Log: o.Log, Draining: draining,
	})
	counted.Register(BarePodsPath, &review.Handler[injector.Pod]{
		Decide: a.validateBarePod, Observe: uncounted, MaxBody: review.OneObject, Bytes: long, Advisory: true, Log: o.Log, Draining: draining,
	})
	counted.Register(ConfigPath, &review.Handler[configMap]{
		Decide: a.validateConfiguration, Observe: uncounted, MaxBody: review.TwoObjects, Bytes: long, Advisory: true, Log: o.Log,
		Draining: draining,
	})
	server := share.NewServer(mux, o.Log)
	server.TLSConfig = secure
	return server, nil
}

// clientCA asks clients for a certificate that an authority of a file has signed.
type clientCA struct {
	file string
	base *tls.Config // without it
	log  logr.Logger

	mu       sync.Mutex
	read     []byte
	current  *tls.Config // for what was read
	reported string
}

// load makes current of what the file says now.
func (c *clientCA) load() error {
	read, err := os.ReadFile(c.file)
	if err != nil {
		return fmt.Errorf("read the authorities of clients: %w", err)
	}
	if c.current != nil && bytes.Equal(read, c.read) {
		return nil
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(read) {
		return fmt.Errorf("read the authorities of clients: %s has no certificate in PEM", c.file)
	}
	current := c.base.Clone()
	current.NextProtos = []string{"http/1.1"}
	current.ClientAuth = tls.RequireAndVerifyClientCert
	current.ClientCAs = authorities
	current.SessionTicketsDisabled = true // a session would outlive its authority
	c.read, c.current = read, current
	return nil
}

// config is for tls.Config.GetConfigForClient. The file is small beside a handshake's work, so that it is read for each. While it
// cannot be read, or has no certificate, what it said last stays.
func (c *clientCA) config(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	reason := ""
	if err := c.load(); err != nil {
		reason = err.Error()
	}
	if reason != "" && reason != c.reported {
		c.log.Info("The authorities of clients stay as they were", "reason", reason)
	}
	c.reported = reason
	return c.current, nil
}
