package main

import "slices"

const proxyName = "mesh-proxy"

// mesh puts a proxy before all other init containers, as a native sidecar with a user of its own.
func mesh(p pod) array {
	if slices.ContainsFunc(p.Spec.InitContainers, func(c container) bool { return c.Name == proxyName }) {
		return nil
	}
	proxy := object{
		"name": proxyName, "image": "kms-agent-injector/demo-app:dev", "imagePullPolicy": "IfNotPresent",
		"command": array{"sleep", "100000"}, "restartPolicy": "Always",
		"securityContext": object{
			"runAsUser": 1337, "runAsNonRoot": true, "allowPrivilegeEscalation": false,
			"capabilities": object{"drop": array{"ALL"}}, "seccompProfile": object{"type": "RuntimeDefault"},
		},
	}
	if p.Spec.InitContainers == nil {
		return array{add("/spec/initContainers", array{proxy})}
	}
	return array{add("/spec/initContainers/0", proxy)}
}
