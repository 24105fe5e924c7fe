package webhook

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"

	"github.com/go-logr/logr"
)

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

func newClientCA(file string, base *tls.Config, log logr.Logger) (*clientCA, error) {
	c := &clientCA{file: file, base: base, log: log}
	return c, c.load()
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
