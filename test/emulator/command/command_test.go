package command_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/command"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

// program is a kms-emulator that runs until the test ends.
type program struct {
	address, control, metadata, dir string
	ended                           chan error
	stop                            context.CancelFunc
}

func start(t *testing.T, flags ...string) *program {
	t.Helper()
	p := &program{dir: t.TempDir(), ended: make(chan error, 1)}
	if _, err := run(t, "", "ca", "--dir", p.dir); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(p.dir, "config.yaml")
	if err := os.WriteFile(config, []byte(`{account: "1234567890123456", region: cn-hangzhou}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, p.stop = context.WithCancel(t.Context())
	t.Cleanup(p.stop)
	logs, w := io.Pipe()
	go func() {
		defer w.Close()
		p.ended <- command.Run(ctx, command.Streams{Out: io.Discard, Err: w}, append([]string{
			"--config=" + config, "--ca-dir=" + p.dir, "--listen=127.0.0.1:0", "--control-listen=127.0.0.1:0",
		}, flags...))
	}()
	lines := bufio.NewScanner(logs)
	if !lines.Scan() {
		t.Fatalf("the program says nothing and ends: %v", <-p.ended)
	}
	var first struct{ Msg, Address, Control, Metadata string }
	if err := json.Unmarshal(lines.Bytes(), &first); err != nil || first.Msg != "serving" {
		t.Fatalf("first line: %s %v", lines.Bytes(), err)
	}
	go io.Copy(io.Discard, logs)
	p.address, p.control, p.metadata = first.Address, "http://"+first.Control, first.Metadata
	return p
}

func run(t *testing.T, in string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := command.Run(t.Context(), command.Streams{In: strings.NewReader(in), Out: &out, Err: io.Discard}, args)
	return out.String(), err
}

func TestStory(t *testing.T) {
	p := start(t)
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(p.dir, "ca.crt"))
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		t.Fatal("no certificate authority", err)
	}
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: roots, ServerName: "kms-vpc.cn-hangzhou.aliyuncs.com",
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Post("https://"+p.address+"/?Action=GetSecretValue&Version=2016-01-20&SecretName=app%2Fdb", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()

	role, err := json.Marshal(emulatortest.Config(emulatortest.NewIssuer(t, emulatortest.IssuerURL)).Roles[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		in   string
		args string
		want string // regular expression
	}{
		{"", "put-secret app/db --value=one --tag=env=dev --tag team=a", "secret app/db put"},
		{"\xff\x00", "put-secret blob --value-stdin", "secret blob put"},
		{"two\n", "rotate --value-stdin app/db --version-id second", "secret app/db rotated"},
		{"", "tag blob env=prod", "secret blob tagged env=prod"},
		{"", "secrets", `NAME +TYPE +TAGS +VERSIONS\napp/db +Generic +env=dev,team=a +v1=ACSPrevious,second=ACSCurrent\n` +
			`blob +Generic +env=prod +v1=ACSCurrent\n$`},
		{"", "delete-secret blob", "secret blob deleted"},
		{"", "secrets -o json", `(?s)"name": "app/db".*"id": "second"`},
		{string(role), "put-role", "role dev-role-for-rrsa put"},
		{"", "calls", `ACTION +SECRET +ROLE +CODE +CALLS\nGetSecretValue +app/db +- +MissingAccessKeyId +1\n$`},
		{"", "fault --action=GetSecretValue --latency=5ms --count=3 --clock-skew=-20m", "fault 1 set"},
		{"", "fault --code=Throttling.User --retry-after=30s", "fault 2 set"},
		{"", "faults", `{"id":"1","action":"GetSecretValue","count":3,"latency":"5ms","clockSkew":"-20m0s"}\n` +
			`{"id":"2","status":400,"code":"Throttling.User","message":".*","retryAfter":"30s"}\n`},
		{"", "remove-fault 2", "^$"},
		{"", "expire-sessions", "^$"},
		{"", "reset", "^$"},
		{"", "faults", "^$"},
		{"", "calls -o json", `^\[\]\n$`},
	} {
		out, err := run(t, step.in, append(strings.Fields(step.args), "--control="+p.control)...)
		if err != nil {
			t.Fatalf("%s: %v", step.args, err)
		}
		if !regexp.MustCompile(step.want).MatchString(out) {
			t.Errorf("%s: got\n%swant\n%s", step.args, out, step.want)
		}
	}

	p.stop()
	select {
	case err := <-p.ended:
		if err != nil {
			t.Errorf("a program that was told to end says %v", err)
		}
	case <-time.After(2 * time.Minute):
		t.Error("the program does not end")
	}
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(config, []byte("accounts: []"), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"no-such-command":                         `unknown command "no-such-command"`,
		"serve":                                   "--config and --ca-dir are required",
		"--config=x --ca-dir=y --log-format=z":    `--log-format "z"`,
		"--config=" + dir + "/none --ca-dir=y":    "no such file",
		"--config=" + config + " --ca-dir=" + dir: "field accounts not found",
		"serve x":                              "serve: want no operands",
		"put-secret":                           "put-secret: want NAME",
		"put-secret a b --value=x":             "put-secret: want NAME",
		"put-secret a":                         "either --value or --value-stdin",
		"put-secret a --value=x --value-stdin": "either --value or --value-stdin",
		"put-secret a --value=x --tag=env":     "want key=value",
		"tag":                                  "tag: want NAME [key=value]...",
		"tag a env":                            "want key=value",
		"put-role":                             "read role from the input",
		"fault --latency=5":                    "latency",
		"calls --control=http://127.0.0.1:1":   "connection refused",
	} {
		if _, err := run(t, "", strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", args, err, want)
		}
	}
}

func TestClientKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	out, err := run(t, "", "client-key", "--dir", dir, "--valid-for=1h")
	if err != nil {
		t.Fatal(err)
	}
	config := "account: \"1\"\ninstances: [{id: i, accessPoints: [{name: a, clientKeys: KEYS}]}]"
	var keys []map[string]string
	if err := yaml.Unmarshal([]byte(out), &keys); err != nil || len(keys) != 1 {
		t.Fatalf("%v in\n%s", err, out)
	}
	list, _ := json.Marshal(keys)
	parsed, err := emulator.ParseConfig([]byte(strings.Replace(config, "KEYS", string(list), 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := emulator.New(parsed); err != nil {
		t.Errorf("what is printed is no configuration: %v", err)
	}
	var file struct{ KeyID string }
	text, err := os.ReadFile(filepath.Join(dir, "clientKey"))
	if err != nil || json.Unmarshal(text, &file) != nil || file.KeyID != keys[0]["id"] {
		t.Errorf("clientKey: %v, %q", err, file.KeyID)
	}
	if password, err := os.ReadFile(filepath.Join(dir, "password")); err != nil || len(password) == 0 {
		t.Errorf("password: %v", err)
	}
}

// Instances' gateways have another authority than the rest of the cloud, and the metadata service a port of its own.
func TestInstanceAuthorityAndMetadata(t *testing.T) {
	instances := t.TempDir()
	if _, err := run(t, "", "ca", "--dir", instances); err != nil {
		t.Fatal(err)
	}
	p := start(t, "--instance-ca-dir="+instances, "--metadata-listen=127.0.0.1:0")
	for name, dir := range map[string]string{"kms.cn-hangzhou.aliyuncs.com": p.dir, "kst-1.cryptoservice.kms.aliyuncs.com": instances} {
		roots := x509.NewCertPool()
		ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
		if err != nil || !roots.AppendCertsFromPEM(ca) {
			t.Fatal("no certificate authority", err)
		}
		conn, err := tls.Dial("tcp", p.address, &tls.Config{RootCAs: roots, ServerName: name})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		conn.Close()
	}
	resp, err := http.Get("http://" + p.metadata + "/latest/meta-data/ram/security-credentials/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("without a token: %s", resp.Status)
	}
}

func TestHelp(t *testing.T) {
	out, err := run(t, "", "--help")
	if err != nil || !strings.Contains(out, "put-secret NAME") {
		t.Errorf("got %s %v", out, err)
	}
	if _, err := run(t, "", "fault", "--help"); err != nil {
		t.Error(err)
	}
}

// An authority that clients trust already is not replaced.
func TestAuthorityIsKept(t *testing.T) {
	dir := t.TempDir()
	if _, err := run(t, "", "ca", "--dir", dir); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "", "ca", "--dir", dir)
	if err != nil || !strings.Contains(out, "already") {
		t.Errorf("got %s %v", out, err)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, "ca.crt")); !bytes.Equal(before, after) {
		t.Error("the authority was replaced")
	}
}
