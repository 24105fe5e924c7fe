// Package clientkey makes client keys as the KMS console gives them out: a JSON file that holds a PKCS#12 store, and the
// password that opens it.
package clientkey

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// Key is a client key: the two parts that an application holds, and the certificate that KMS keeps.
type Key struct {
	ID          string
	JSON        []byte // the application's file: {"KeyId":…,"PrivateKeyData":…}
	Password    string
	Certificate []byte // PEM
}

// document is the application's file.
type document struct {
	KeyID          string `json:"KeyId"`
	PrivateKeyData []byte // base64 in JSON
}

// New makes a client key that is valid from an hour ago until the given time.
func New(until time.Time) (Key, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return Key{}, fmt.Errorf("make private key: %w", err)
	}
	id := "KAAP." + strings.ToLower(rand.Text())
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: id},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     until,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return Key{}, fmt.Errorf("sign certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return Key{}, fmt.Errorf("read certificate: %w", err)
	}
	password := rand.Text()
	// The SDKs open the old ciphers only.
	store, err := pkcs12.LegacyDES.Encode(private, certificate, nil, password)
	if err != nil {
		return Key{}, fmt.Errorf("encode PKCS#12: %w", err)
	}
	file, err := json.Marshal(document{KeyID: id, PrivateKeyData: store})
	if err != nil {
		return Key{}, fmt.Errorf("encode client key: %w", err)
	}
	return Key{
		ID: id, JSON: file, Password: password,
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	}, nil
}
