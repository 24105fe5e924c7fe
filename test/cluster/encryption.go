package cluster

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Encryption is how the API server stores resources in etcd.
type Encryption struct {
	Provider string   // aescbc, secretbox or identity, which leaves values as they are
	Keys     []string // names; the first one's key writes, all read. The key of a name is always the same.
	Identity bool     // has plaintext read too
	Reload   bool     // has the API server read a change within a minute or two, instead of at its next start. It cannot change later.
}

// encryptionFile is in the directory of configurations.
const encryptionFile = "encryption.yaml"

// configuration returns the API server's encryption configuration.
func (e Encryption) configuration() ([]byte, error) {
	type object map[string]any
	var keys []object
	for _, key := range e.Keys {
		material := sha256.Sum256([]byte(key))
		keys = append(keys, object{"name": key, "secret": base64.StdEncoding.EncodeToString(material[:])})
	}
	providers := []object{{"identity": object{}}}
	if e.Provider != "identity" {
		providers = append([]object{{e.Provider: object{"keys": keys}}}, providers...)
	}
	if !e.Identity {
		providers = providers[:1]
	}
	var out bytes.Buffer
	err := yaml.NewEncoder(&out).Encode(object{"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
		"resources": []object{{"resources": []string{"secrets"}, "providers": providers}}})
	if err != nil {
		return nil, fmt.Errorf("write the encryption configuration: %w", err)
	}
	return out.Bytes(), nil
}
