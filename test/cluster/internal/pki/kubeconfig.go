package pki

import (
	"encoding/base64"
	"fmt"
)

// Kubeconfig lets the owner of pair talk to the API server at the URL server. The names in it are what `kubectl config`
// shows.
func Kubeconfig(name, server string, authority []byte, pair Pair) []byte {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: %[1]s
clusters:
- name: %[1]s
  cluster:
    server: %[2]s
    certificate-authority-data: %[3]s
users:
- name: %[1]s
  user:
    client-certificate-data: %[4]s
    client-key-data: %[5]s
contexts:
- name: %[1]s
  context:
    cluster: %[1]s
    user: %[1]s
`, name, server, b64(authority), b64(pair.Cert), b64(pair.Key))
}
