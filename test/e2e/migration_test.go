//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// handWritten is the Deployment by which Alibaba Cloud documents the KMS Agent as a sidecar, with our image and one changed line:
// args instead of a shell that runs two commands. What is besides it here is the emulator's certificate authority.
const handWritten = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: my-app
  namespace: %[1]s
spec:
  replicas: 1
  selector:
    matchLabels:
      app: my-app
  template:
    metadata:
      labels:
        app: my-app
    spec:
      serviceAccountName: app
      containers:
      - name: kmsagent
        image: kms-agent-injector/kms-agent:dev
        env:
        - name: ALIBABA_CLOUD_ROLE_ARN
          value: acs:ram::1234567890123456:role/e2e
        - name: ALIBABA_CLOUD_OIDC_PROVIDER_ARN
          value: acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0ffee
        - name: ALIBABA_CLOUD_OIDC_TOKEN_FILE
          value: /var/run/secrets/ack.alibabacloud.com/rrsa-tokens/token
        - name: KMS_TOKEN
          value: file:///var/run/kmstoken/token
        - name: SSL_CERT_FILE
          value: /etc/kms-agent/ca.pem
        volumeMounts:
          - name: shared-volume
            mountPath: /var/run/kmstoken
          - name: rrsa-oidc-token
            mountPath: /var/run/secrets/ack.alibabacloud.com/rrsa-tokens
            readOnly: true
          - name: config
            mountPath: /etc/kms-agent
        args: [agent, --token-file=/var/run/kmstoken/token, /etc/kms-agent/config.toml]
      - name: my-app
        image: kms-agent-injector/demo-app:dev
        command: [sleep, "100000"]
        volumeMounts:
          - name: shared-volume
            mountPath: /var/run/kmstoken
      volumes:
        - name: shared-volume
          emptyDir: {}
        - name: rrsa-oidc-token
          projected:
            defaultMode: 420
            sources:
            - serviceAccountToken:
               audience: sts.aliyuncs.com
               expirationSeconds: 3600
               path: token
        - name: config
          configMap:
            name: kms-agent
`

const configTOML = `[Server]
HttpPort = 2025
MaxConn = 8
[KMS]
Region = "cn-hangzhou"%s
[Cache]
CacheType = "InMemory"
CacheSize = 1000
TtlSeconds = 300
[Log]
LogLevel = "Debug"
LogPath = "./logs/"
MaxSize = 100
MaxBackups = 2
`

// The KMS Agent's own Deployment and config.toml go on with our image.
func TestHandWrittenDeployment(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	kubectl(t, "label", "namespace", ns, "pod-security.kubernetes.io/enforce-", "kms.alibabacloud.com/injection-") // it is as old as that
	name, want := secretName("dev/secret-1"), value()
	put(t, name, want)
	endpoint := ""
	if own == nil { // aliyuncs.com is the real one there
		endpoint = "\nEndpoint = \"kms-emulator.kms-emulator.svc.cluster.local\""
	}
	kubectl(t, "-n", ns, "create", "configmap", "kms-agent", "--from-literal=config.toml="+fmt.Sprintf(configTOML, endpoint),
		"--from-file=ca.pem="+filepath.Join(installDir(), "webhook", "emulator-ca.pem"))
	manifest := fmt.Sprintf(handWritten, ns)
	if own == nil {
		manifest = strings.Replace(manifest, "        - name: KMS_TOKEN\n",
			"        - name: ALIBABA_CLOUD_STS_ENDPOINT\n          value: kms-emulator.kms-emulator.svc.cluster.local\n        - name: KMS_TOKEN\n",
			1)
	}
	apply(t, manifest)
	kubectl(t, "-n", ns, "rollout", "status", "deployment/my-app", "--timeout=5m")
	eventually(t, patience, func() error {
		// As curl sends it: -H "X-Vault-Token:$(</var/run/kmstoken/token)" 'http://localhost:2025/secretsmanager/get?secretId=…'
		request := `'GET /secretsmanager/get?secretId=%s HTTP/1.1\r\nHost: localhost:2025\r\nAccept: */*\r\n` +
			`X-Vault-Token:%s\r\nConnection: close\r\n\r\n'`
		answer, err := tryKubectl(t.Context(), "", "-n", ns, "exec", "deploy/my-app", "-c", "my-app", "--", "sh", "-c",
			"(printf "+request+" "+name+` "$(cat /var/run/kmstoken/token)"; sleep 1) | nc 127.0.0.1 2025`)
		if err != nil {
			return err
		}
		if !strings.Contains(answer, " 200 OK\r\n") || !strings.Contains(answer, `"SecretData":"`+want+`"`) {
			return fmt.Errorf("the answer is not the secret: %s", answer)
		}
		return nil
	})
	// Connections over MaxConn are told so, while those that are there have sent the token and do nothing more.
	eventually(t, patience, func() error {
		answer, err := tryKubectl(t.Context(), "", "-n", ns, "exec", "deploy/my-app", "-c", "my-app", "--", "sh", "-c",
			`for i in 1 2 3 4 5 6 7 8; do (printf 'GET /secretsmanager/get?secretId=%s HTTP/1.1\r\nHost: localhost:2025\r\n`+
				`X-Vault-Token:%s\r\n\r\n' `+name+` "$(cat /var/run/kmstoken/token)"; sleep 4) | nc 127.0.0.1 2025 >/dev/null & done; sleep 2
			(printf 'GET /secretsmanager/get HTTP/1.0\r\n\r\n'; sleep 1) | nc 127.0.0.1 2025; wait`)
		if err == nil && !strings.Contains(answer, " 429 Too Many Requests\r\n") {
			err = fmt.Errorf("the ninth connection got %q", answer)
		}
		return err
	})
}
