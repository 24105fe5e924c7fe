package failure

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/written"
)

// The codes that docs/troubleshooting.md lists are those that the agent knows.
func TestTroubleshooting(t *testing.T) {
	written.Check(t, "../../docs/troubleshooting.md", "codes", codes())
}

// codes are the catalogues as Markdown.
func codes() string {
	var b strings.Builder
	for _, of := range []struct {
		call      string
		catalogue []advice
	}{
		{"STS, `AssumeRoleWithOIDC`: the pod's ServiceAccount becomes its role", stsAdvice},
		{"STS, `AssumeRole`: a second role, or that of an access key", chainAdvice},
		{"KMS, `GetSecretValue`", kmsAdvice},
		{"The node's metadata service, with `identity: node-role`", nodeAdvice},
	} {
		fmt.Fprintf(&b, "\n### %s\n\n| code | why | fix |\n|---|---|---|\n", of.call)
		for _, entry := range of.catalogue {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", entry.code, entry.cause, entry.cure)
		}
	}
	return inPod().Replace(b.String()) + "\n"
}
