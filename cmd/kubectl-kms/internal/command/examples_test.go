package command

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the examples are injected as anew")

// The manifests that people copy have nothing to warn about, and what the webhook makes of them is in testdata/examples.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../../../docs/examples/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("found %d examples, %v", len(files), err)
	}
	policy := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(policy, []byte("accountID: '1234567890123456'\nclusterID: c0ffee\nregion: cn-hangzhou\n"+
		"agent: {image: registry.example.com/kms-agent:v1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			code, stdout, stderr := run(t, "", "validate", "-f", file, "--config", policy)
			if code != 0 || !strings.Contains(stdout, "1 asking for injection") || !strings.Contains(stdout, "0 mistakes, 0 warnings") {
				t.Errorf("validate: exit code %d\n%s%s", code, stdout, stderr)
			}
			code, stdout, stderr = run(t, "", "inject", "-f", file, "--config", policy)
			if code != 0 || stderr != "" {
				t.Fatalf("inject: exit code %d\n%s", code, stderr)
			}
			golden := filepath.Join("testdata", "examples", filepath.Base(file))
			if *update {
				if err := os.WriteFile(golden, []byte(stdout), 0o644); err != nil { //nolint:gosec // for everybody to read
					t.Fatal(err)
				}
			}
			if want, err := os.ReadFile(golden); err != nil || stdout != string(want) {
				t.Errorf("%s says otherwise (go test ./cmd/kubectl-kms/internal/command -update): %v\n%s", golden, err, stdout)
			}
		})
	}
}
