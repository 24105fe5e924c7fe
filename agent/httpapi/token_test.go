package httpapi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	first, err := WriteToken(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || string(data) != first || len(first) < 26 || strings.TrimSpace(first) != first {
		t.Errorf("%q, %v; want %q, 128 random bits or more without a line break", data, err, first)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o444 {
		t.Errorf("%v, %v; every user of the volume can read it, none can write it", info.Mode(), err)
	}
	if kept, err := KeepToken(path); err != nil || kept != first {
		t.Errorf("an agent that starts again must keep the token: %q, %v", kept, err)
	}
	second, err := WriteToken(path)
	if err != nil || second == first {
		t.Errorf("%q twice, %v", second, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("left over: %v, %v", entries, err)
	}
	made, err := KeepToken(filepath.Join(t.TempDir(), "token"))
	if err != nil || made == "" {
		t.Errorf("%q, %v", made, err)
	}
	missing := filepath.Join(t.TempDir(), "no", "token")
	if _, err := WriteToken(missing); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("%v; want the path that was asked for", err)
	}
}

func TestTokenFromEnv(t *testing.T) {
	directory := t.TempDir()
	file, empty := filepath.Join(directory, "token"), filepath.Join(directory, "empty")
	for path, text := range map[string]string{file: "from-file\n", empty: "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		env  map[string]string
		want string
		err  string
	}{
		{env: map[string]string{"KMS_TOKEN": "literal"}, want: "literal"},
		{env: map[string]string{"KMS_TOKEN": "file://" + file}, want: "from-file"},
		{env: map[string]string{"KMS_TOKEN": "", "KMS_SESSION_TOKEN": "second", "KMS_CONTAINER_AUTHORIZATION_TOKEN": "third"}, want: "second"},
		{env: map[string]string{"KMS_CONTAINER_AUTHORIZATION_TOKEN": "third"}, want: "third"},
		{err: "set KMS_TOKEN or KMS_SESSION_TOKEN or KMS_CONTAINER_AUTHORIZATION_TOKEN"},
		{env: map[string]string{"KMS_TOKEN": "file://token"}, err: "full path"},
		{env: map[string]string{"KMS_TOKEN": "file://" + empty}, err: "is empty"},
		{env: map[string]string{"KMS_SESSION_TOKEN": "file://" + file + "x"}, err: "KMS_SESSION_TOKEN: read the token"},
	} {
		got, err := TokenFromEnv(func(name string) string { return c.env[name] }, DefaultTokenVariables())
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%v: %q, %v; want %q, %s", c.env, got, err, c.want, c.err)
		}
	}
}
