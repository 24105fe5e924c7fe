package clusterconfig

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Load is Read with the content of the CA files, which read returns by their names in the configuration.
func Load(document []byte, read func(name string) ([]byte, error)) (Config, error) {
	in, err := Read(document)
	if err != nil {
		return Config{}, err
	}
	for _, gateway := range []struct {
		field string
		*Gateway
	}{{"kms.caFile", &in.KMS}, {"sts.caFile", &in.STS.Gateway}} {
		if gateway.CAFile == "" {
			continue
		}
		text, err := read(gateway.CAFile)
		if err == nil {
			gateway.CABundle, err = certificates(text)
		}
		if err != nil {
			return Config{}, fmt.Errorf("%s: %s: %w", gateway.field, gateway.CAFile, err)
		}
	}
	return in, nil
}

// certificates returns the certificates of a PEM file and nothing else of it: they end up in pods, where a private key that lies
// beside them must not.
func certificates(text []byte) (string, error) {
	var out bytes.Buffer
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", err
		}
		if err := pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes}); err != nil {
			return "", err
		}
	}
	if out.Len() == 0 {
		return "", errors.New("has no certificate in PEM form")
	}
	return out.String(), nil
}
