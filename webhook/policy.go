package webhook

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

// policyInterval is how often the operator's file is looked at. The kubelet takes up to a minute to bring a ConfigMap's change.
const policyInterval = 5 * time.Second

// A policy is the operator's document in a file, and an injector for what it last said that was right.
type policy struct {
	file, version string
	log           logr.Logger

	now  atomic.Pointer[injector.Injector]
	read [][]byte // the file and the CA files that now is made of
	err  string   // the last thing wrong with them, to say it once
}

func loadPolicy(file, version string, log logr.Logger) (*policy, error) {
	p := &policy{file: file, version: version, log: log}
	return p, p.load()
}

func (p *policy) current() *injector.Injector { return p.now.Load() }

// watch reloads the document when its files change, until ctx ends. A broken change leaves what was.
func (p *policy) watch(ctx context.Context) error {
	tick := time.NewTicker(policyInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := p.load()
		if err == nil {
			p.err = ""
		} else if p.err != err.Error() {
			p.err = err.Error()
			p.log.Error(err, "Operator's configuration is broken; the last good one stays", "file", p.file)
		}
	}
}

func (p *policy) load() error {
	document, err := os.ReadFile(p.file)
	if err != nil {
		return fmt.Errorf("read the operator's configuration: %w", err)
	}
	policy, err := config.ReadInjector(document)
	if err != nil {
		return fmt.Errorf("%s: %w", p.file, err)
	}
	read := [][]byte{document}
	for _, gateway := range []struct {
		field string
		*config.Gateway
	}{{"kms.caFile", &policy.KMS}, {"sts.caFile", &policy.STS}} {
		if gateway.CAFile == "" {
			continue
		}
		path := gateway.CAFile
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(p.file), path)
		}
		bundle, err := certificates(path)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", p.file, gateway.field, err)
		}
		gateway.CABundle = string(bundle)
		read = append(read, bundle)
	}
	if same(p.read, read) {
		return nil
	}
	in, err := injector.New(policy, p.version)
	if err != nil {
		return fmt.Errorf("%s: %w", p.file, err)
	}
	if p.now.Swap(in) != nil {
		p.log.Info("Operator's configuration reloaded", "file", p.file)
	}
	p.read = read
	return nil
}

// certificates are the certificates of a PEM file and nothing else of it: they end up in pods, where a private key that lies
// beside them must not.
func certificates(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if err := pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes}); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	if out.Len() == 0 {
		return nil, errors.New(file + " has no certificate in PEM form")
	}
	return out.Bytes(), nil
}

func same(a, b [][]byte) bool {
	return bytes.Equal(bytes.Join(a, []byte{0}), bytes.Join(b, []byte{0}))
}
