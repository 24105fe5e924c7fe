// Package authority is the emulator's certificate authority: it vouches for Alibaba Cloud's host names to clients that
// chose to trust it.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// CertFile and KeyFile are the names of the authority's files in its folder.
	CertFile = "ca.crt"
	KeyFile  = "ca.key"

	caLifetime   = 10 * 365 * 24 * time.Hour
	leafLifetime = 30 * 24 * time.Hour
	renewBefore  = 24 * time.Hour
	// backdate allows for clients whose clock is behind.
	backdate   = time.Hour
	cachedLeaf = 256
)

// permitted are the names under which anyone may reach an emulator, and so the only ones that the authority can sign
// for: who adds it to the system's roots does not hand over the rest of the internet.
var permitted = []string{"aliyuncs.com", "localhost", "svc", "cluster.local"}

// Authority signs a certificate for each host name that a client asks for. It is safe for concurrent use.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey

	mu     sync.Mutex
	leaves map[string]*tls.Certificate
}

// New makes an authority with a fresh key.
func New() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of certificate authority: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:                big.NewInt(1),
		Subject:                     pkix.Name{CommonName: "kms-emulator CA", Organization: []string{"kms-agent-injector"}},
		NotBefore:                   time.Now().Add(-backdate),
		NotAfter:                    time.Now().Add(caLifetime),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		PermittedDNSDomains:         permitted,
		PermittedDNSDomainsCritical: true,
		PermittedIPRanges: []*net.IPNet{
			{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
			{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
		},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read certificate authority: %w", err)
	}
	return &Authority{cert: cert, key: key, leaves: map[string]*tls.Certificate{}}, nil
}

// Load reads the files that Save wrote.
func Load(dir string) (*Authority, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile))
	if err != nil {
		return nil, fmt.Errorf("load certificate authority, as made by \"kms-emulator ca --dir=%s\": %w", dir, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("load certificate authority from %s: want one with an ECDSA key, as made by \"kms-emulator ca\"", dir)
	}
	return &Authority{cert: pair.Leaf, key: key, leaves: map[string]*tls.Certificate{}}, nil
}

// Save writes the certificate and, readable to the owner only, the key into the folder.
func (a *Authority) Save(dir string) error {
	der, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		return fmt.Errorf("encode key of certificate authority: %w", err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, KeyFile), key, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, CertFile), a.PEM(), 0o644)
}

// PEM returns the authority's certificate, which clients need to trust.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// GetCertificate is for tls.Config: it answers with a certificate of the name that the client asks for, or of the
// address that it dialled if it named none.
func (a *Authority) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	host := hello.ServerName
	if host == "" {
		if addr, ok := hello.Conn.LocalAddr().(*net.TCPAddr); ok {
			host = addr.IP.String()
		}
	}
	return a.Leaf(host)
}

// Leaf returns a certificate for the host name or IP address, signed now or cached.
func (a *Authority) Leaf(host string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if leaf := a.leaves[host]; leaf != nil && time.Until(leaf.Leaf.NotAfter) > renewBefore {
		return leaf, nil
	}
	leaf, err := a.sign(host)
	if err != nil {
		return nil, fmt.Errorf("sign certificate for %q: %w", host, err)
	}
	if len(a.leaves) >= cachedLeaf {
		clear(a.leaves)
	}
	a.leaves[host] = leaf
	return leaf, nil
}

func (a *Authority) sign(host string) (*tls.Certificate, error) {
	if host == "" {
		return nil, errors.New("no host name")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		NotBefore:   time.Now().Add(-backdate),
		NotAfter:    time.Now().Add(leafLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
