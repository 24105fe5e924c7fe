package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// maxSessionName is the longest RoleSessionName that STS takes; the shortest has two characters, and all are of
// [A-Za-z0-9.@_-].
const maxSessionName = 64

// SessionName makes a RoleSessionName of the names that lead to a pod, such as namespace, ServiceAccount and pod:
// that is how its calls are found in ActionTrail. A name that is too long is cut and ends in a hash of the whole.
func SessionName(names ...string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune(".@_-", r):
			return r
		}
		return '-'
	}, strings.Trim(strings.Join(names, "."), "."))
	switch {
	case len(name) < 2:
		return "kms-agent"
	case len(name) > maxSessionName:
		sum := sha256.Sum256([]byte(name))
		return name[:maxSessionName-9] + "-" + hex.EncodeToString(sum[:4])
	}
	return name
}
