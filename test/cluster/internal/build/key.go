//go:build unix

package build

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// key identifies a build by its inputs: the sources in the module's directory, which pin the dependencies by go.mod and go.sum,
// the steps, the Go version that the module selects, and the architecture.
func (m Module) key(ctx context.Context) (string, error) {
	out, err := m.goCommand(ctx, false, "env", "GOVERSION", "GOARCH").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	return keyOf(m, strings.Join(strings.Fields(string(out)), " "))
}

func keyOf(m Module, toolchain string) (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, toolchain)
	mod := cmp.Or(m.Mod, "go.mod")
	for _, pattern := range []string{"*.go", mod, strings.TrimSuffix(mod, ".mod") + ".sum"} {
		files, err := filepath.Glob(filepath.Join(m.Dir, pattern)) // sorted
		if err != nil {
			return "", err
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(sum, "%s %d\n%s\n", filepath.Base(file), len(data), data)
		}
	}
	if err := json.NewEncoder(sum).Encode([]any{m.Steps, m.Links}); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil))[:12], nil
}
