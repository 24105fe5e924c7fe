//go:build linux

package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// probes ask the node's components whether they do their work.
type probes struct {
	client *http.Client // as cluster administrator
}

func newProbes() (*probes, error) {
	authority, err := os.ReadFile(pki("ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	pair, err := tls.LoadX509KeyPair(pki("admin.crt"), pki("admin.key"))
	if err != nil {
		return nil, err
	}
	return &probes{client: &http.Client{
		Timeout:   2 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}},
	}}, nil
}

const apiURL = "https://127.0.0.1:" + APIServerPort

func (p *probes) apiserver(ctx context.Context) error { return p.wait(ctx, apiURL+"/readyz", nil) }

func (p *probes) defaultServiceAccount(ctx context.Context) error {
	return p.wait(ctx, apiURL+"/api/v1/namespaces/default/serviceaccounts/default", nil)
}

// Both have their health endpoints' default addresses; the Corefile repeats CoreDNS's.
func (p *probes) kubeProxy(ctx context.Context) error {
	return p.wait(ctx, "http://127.0.0.1:10256/healthz", nil)
}
func (p *probes) coreDNS(ctx context.Context) error {
	return p.wait(ctx, "http://127.0.0.1:8181/ready", nil)
}

func (p *probes) nodeReady(ctx context.Context) error {
	return p.wait(ctx, apiURL+"/api/v1/nodes/"+Name, func(r *http.Response) bool {
		var node struct {
			Status struct {
				Conditions []struct{ Type, Status string }
			}
		}
		if json.NewDecoder(r.Body).Decode(&node) != nil {
			return false
		}
		for _, c := range node.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" {
				return true
			}
		}
		return false
	})
}

func (p *probes) containerd(ctx context.Context) error {
	return poll(ctx, "containerd's socket", func() error {
		conn, err := net.DialTimeout("unix", ContainerdSocket, time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// wait asks url until it answers 200 and ok, if given, is content with the answer.
func (p *probes) wait(ctx context.Context, url string, ok func(*http.Response) bool) error {
	return poll(ctx, url, func() error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := p.client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		if ok != nil && !ok(response) {
			return errors.New("not ready yet")
		}
		return nil
	})
}

func poll(ctx context.Context, what string, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last: %v)", what, ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
