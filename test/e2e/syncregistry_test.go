//go:build e2e

package e2e

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
)

// registryAddress is of the node's loopback interface, from which container runtimes pull without TLS.
const registryAddress = "127.0.0.1:25443"

const registryServer = `- name: registry
  image: %s
  imagePullPolicy: %s
  command: [/registry, "%s", puller, "%s"]
  securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
`

// The kubelet pulls an image from a registry that asks for a password, by an image pull secret, and without it gets none.
func testSyncRegistry(t *testing.T) {
	ns, host, name, password := namespace(t), namespace(t), secretName("registry"), rand.Text()
	kubectl(t, "label", "namespace", host, "--overwrite", "pod-security.kubernetes.io/enforce=privileged")
	apply(t, workload{name: "registry", spec: "hostNetwork: true",
		containers: fmt.Sprintf(registryServer, "kms-agent-injector/registry:dev", "IfNotPresent", registryAddress, password) +
			"  readinessProbe: {tcpSocket: {host: 127.0.0.1, port: 25443}, periodSeconds: 1}\n"}.pod(host))
	ready(t, host, "registry")
	node := "nodeName: " + kubectl(t, "-n", host, "get", "pod", "registry", "-o", "jsonpath={.spec.nodeName}")
	pulled := fmt.Sprintf(registryServer, registryAddress+"/registry:dev", "Always", "127.0.0.1:8080", "")

	apply(t, workload{name: "without", spec: node, containers: pulled}.pod(ns))
	eventually(t, patience, func() error {
		waits := kubectl(t, "-n", ns, "get", "pod", "without", "-o", "jsonpath={.status.containerStatuses[0].state.waiting}")
		if !strings.Contains(waits, "authorization failed") || !strings.Contains(waits, "ErrImagePull") && !strings.Contains(waits, "BackOff") {
			return fmt.Errorf("the pod without the image pull secret waits for %s", waits)
		}
		return nil
	})
	put(t, name, fmt.Sprintf(`{"auths":{%q:{"username":"puller","password":%q}}}`, registryAddress, password))
	apply(t, externalSecret(ns, "registry", appOnly,
		"type: kubernetes.io/dockerconfigjson\ndata:\n- {key: "+name+", name: .dockerconfigjson}\n"))
	synced(t, ns, "registry")
	apply(t, workload{name: "with", spec: node + "\nimagePullSecrets: [{name: registry}]", containers: pulled}.pod(ns))
	ready(t, ns, "with")
	kubectl(t, "-n", ns, "delete", "externalsecrets", "--all", "--timeout=5m")
}
