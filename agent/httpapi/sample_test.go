package httpapi

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What the KMS Agent's documentation shows works as printed: the Go program, but for the port and the token's path, which
// belong to the machine and not to a test, and what curl makes of its line; where there is a curl, the line itself.
func TestDocumentedClients(t *testing.T) {
	directory := t.TempDir()
	tokenFile := filepath.Join(directory, "token")
	token, err := WriteToken(tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	source := newOrigin()
	source.answers["app/dev/secret-1"] = dbSecret
	address, _ := start(t, Config{Source: source, Token: token})
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("Go", func(t *testing.T) {
		text, err := os.ReadFile("testdata/sample/main.go")
		if err != nil {
			t.Fatal(err)
		}
		program := strings.NewReplacer("localhost:2025", "localhost:"+port, "/var/run/kmstoken/token", tokenFile).Replace(string(text))
		file := filepath.Join(directory, "main.go")
		if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "go", "run", file).CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "status code 200 - {") || !strings.Contains(string(out), `"SecretData":"`+sentinel+`"`) {
			t.Errorf("%v: %s", err, out)
		}
	})
	if _, err := exec.LookPath("curl"); err == nil {
		t.Run("curl itself", func(t *testing.T) {
			const line = `curl -v -H "X-Vault-Token:$(</var/run/kmstoken/token)" ` +
				`'http://localhost:2025/secretsmanager/get?secretId=app/dev/secret-1'`
			typed := exec.CommandContext(t.Context(), "bash", "-c",
				strings.NewReplacer("localhost:2025", "localhost:"+port, "/var/run/kmstoken/token", tokenFile).Replace(line))
			typed.Env = []string{"PATH=" + os.Getenv("PATH")} // no proxy
			if out, err := typed.Output(); err != nil || !strings.Contains(string(out), `"SecretData":"`+sentinel+`"`) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	t.Run("curl", func(t *testing.T) {
		connection, err := net.Dial("tcp", "localhost:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		fmt.Fprintf(connection, "GET /secretsmanager/get?secretId=app/dev/secret-1 HTTP/1.1\r\nHost: localhost:%s\r\nUser-Agent: curl/8.5.0\r\n"+
			"Accept: */*\r\nX-Vault-Token:%s\r\n\r\n", port, token)
		res, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(body), `"SecretData":"`+sentinel+`"`) {
			t.Errorf("%d, %v: %s", res.StatusCode, err, body)
		}
	})
}
