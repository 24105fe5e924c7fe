package cluster

import (
	"strings"
	"testing"
)

func TestEncryptionConfiguration(t *testing.T) {
	for name, c := range map[string]struct {
		of         Encryption
		has, lacks string
	}{
		"plaintext": {Encryption{Provider: "identity"}, "- providers:\n        - identity: {}\n", "keys"},
		"two keys": {Encryption{Provider: "secretbox", Keys: []string{"new", "old"}, Identity: true},
			"- providers:\n        - secretbox:\n            keys:\n                - name: new\n", "aescbc"},
	} {
		text, err := c.of.configuration()
		if err != nil || !strings.Contains(string(text), c.has) || strings.Contains(string(text), c.lacks) ||
			!strings.Contains(string(text), "- identity: {}\n") {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}
