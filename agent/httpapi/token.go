package httpapi

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/agent/atomicfile"
)

// DefaultTokenVariables returns the environment variables that may say the token; the first that is set counts.
func DefaultTokenVariables() []string {
	return []string{"KMS_TOKEN", "KMS_SESSION_TOKEN", "KMS_CONTAINER_AUTHORIZATION_TOKEN"}
}

// TokenFromEnv returns the token of the first of the variables that is set: the token itself, or file:///path of its
// file. White space around it does not count.
func TokenFromEnv(getenv func(string) string, variables []string) (string, error) {
	for _, name := range variables {
		setting := strings.TrimSpace(getenv(name))
		if setting == "" {
			continue
		}
		path, isFile := strings.CutPrefix(setting, "file://")
		if !isFile {
			return setting, nil
		}
		if !filepath.IsAbs(path) {
			return "", fmt.Errorf("%s names a token file without its full path: write it as file:///var/run/kmstoken/token", name)
		}
		token, err := ReadToken(path)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		return token, nil
	}
	return "", fmt.Errorf("there is no token: set %s to the token or to file:///path of its file", strings.Join(variables, " or "))
}

// ReadToken reads a token file. A file that is not there is fs.ErrNotExist.
func ReadToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("the token file %s is empty: write it with kms-agent token %s", path, path)
	}
	return token, nil
}

// WriteToken writes a new random token to path, in one step, and returns it. There is no line break in the file, because
// programs put its bytes into a header as they are.
//
// Everybody may read the file (0444), as the containers that share it run as different users: what keeps others out is
// that the volume it lies in is mounted in the chosen containers only.
func WriteToken(path string) (string, error) {
	token := rand.Text()
	if err := atomicfile.Write(path, 0o444, strings.NewReader(token)); err != nil {
		return "", fmt.Errorf("write the token %s: %w", path, err)
	}
	return token, nil
}

// KeepToken returns the token in path and writes one if there is none. An agent that starts again so goes on with the
// token that the other containers have read.
func KeepToken(path string) (string, error) {
	token, err := ReadToken(path)
	if errors.Is(err, fs.ErrNotExist) {
		return WriteToken(path)
	}
	return token, err
}
