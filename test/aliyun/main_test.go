package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	kms "github.com/alibabacloud-go/kms-20160120/v3/client"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

// TestMain makes this process the program if a test started it as such.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_OF_ALIYUN") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// terminal is where somebody types, with the environment that the CLI documents.
type terminal struct{ environment []string }

func open(t *testing.T, s *emulatortest.Server, changes ...string) terminal {
	t.Helper()
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, emulatortest.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return terminal{append([]string{
		"TEST_OF_ALIYUN=1", "HTTPS_PROXY=" + emulatortest.StartProxy(t, s.Addr), "SSL_CERT_FILE=" + authority,
		"ALIBABA_CLOUD_ACCESS_KEY_ID=LTAI-of-a-test", "ALIBABA_CLOUD_ACCESS_KEY_SECRET=of nobody", "ALIBABA_CLOUD_REGION_ID=cn-beijing",
	}, changes...)}
}

func (o terminal) enter(t *testing.T, args ...string) (stdout, stderr string, exitCode int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = o.environment
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	var exit *exec.ExitError
	if e := cmd.Run(); e != nil && !errors.As(e, &exit) {
		t.Fatal(e)
	}
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

func cloud(t *testing.T) *emulatortest.Server {
	t.Helper()
	issuer := emulatortest.NewIssuer(t, emulatortest.IssuerURL)
	config := emulatortest.Config(issuer)
	config.Users = []emulator.User{{
		Name: "administrator", AccessKeys: []emulator.AccessKey{{ID: "LTAI-of-a-test", Secret: "of nobody"}},
		Policies: []string{`{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`},
	}}
	return emulatortest.StartConfig(t, issuer, config)
}

func TestCall(t *testing.T) {
	s := cloud(t)
	o := open(t, s)
	stdout, stderr, code := o.enter(t, "kms", "CreateSecret", "--SecretName", "shop/db", "--VersionId=v1", "--SecretData", "a=b & <c>",
		"--Tags", `[{"TagKey":"env","TagValue":"prod"}]`)
	if code != 0 || stderr != "" {
		t.Fatalf("ended with %d: %s", code, stderr)
	}
	var answer map[string]string
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil || answer["Arn"] != "acs:kms:cn-beijing:1234567890123456:secret/shop/db" {
		t.Errorf("%v in %s", err, stdout)
	}
	if !strings.HasPrefix(stdout, "{\n\t\"Arn\": ") {
		t.Errorf("not sorted and indented as the CLI's: %s", stdout)
	}
	if secrets := s.Secrets(); len(secrets) != 1 || secrets[0].Region != "cn-beijing" || secrets[0].Tags["env"] != "prod" {
		t.Errorf("KMS has %v", secrets)
	}
	stdout, stderr, code = o.enter(t, "kms", "CreateSecret", "--SecretName", "shop/db", "--VersionId", "v1", "--SecretData", "x")
	if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "ERROR: SDK.ServerError\nErrorCode: Rejected.ResourceExist\nRecommend: https://") ||
		!strings.HasSuffix(stderr, "\nMessage: The resource already exists.\n") {
		t.Errorf("ended with %d: %s%s", code, stdout, stderr)
	}
}

func TestRefusedBeforeTheCall(t *testing.T) {
	s := cloud(t)
	secret := []string{"kms", "CreateSecret", "--SecretName", "a", "--VersionId", "v1", "--SecretData", "x"}
	for name, x := range map[string]struct {
		args    []string
		changes []string
		want    string
	}{
		"product":           {args: []string{"rams", "CreateRole"}, want: "'rams' is not a valid command or product."},
		"operation":         {args: []string{"ram", "CreateRoles"}, want: "'CreateRoles' is not a valid api. See `aliyun help ram`."},
		"another product's": {args: []string{"ram", "CreateSecret"}, want: "'CreateSecret' is not a valid api."},
		"parameter":         {args: []string{"ram", "CreateRole", "--Rolename", "a"}, want: "'--Rolename' is not a valid parameter or flag. See `aliyun help ram CreateRole`."},
		"missing":           {args: secret[:4], want: "required parameters not assigned:\n  --SecretData\n  --VersionId\n"},
		"without value":     {args: []string{"ram", "CreateRole", "--RoleName", "--Description", "x"}, want: "--RoleName must be assigned with value"},
		"twice":             {args: append(secret, "--VersionId", "v2"), want: "--VersionId duplicated"},
		"a word too much":   {args: append([]string{"aliyun"}, secret...), want: "have 3 words"},
		"single dash":       {args: []string{"ram", "CreateRole", "-RoleName", "a"}, want: "not support flag form -RoleName"},
		"no region":         {args: secret, changes: []string{"ALIBABA_CLOUD_REGION_ID="}, want: "region can't be empty"},
		"no key":            {args: secret, changes: []string{"ALIBABA_CLOUD_ACCESS_KEY_SECRET="}, want: "access key can't be empty"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := open(t, s, x.changes...).enter(t, x.args...)
			if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "ERROR: ") || !strings.Contains(stderr, x.want) {
				t.Errorf("ended with %d: %s%s", code, stdout, stderr)
			}
		})
	}
	if calls := s.Calls(); len(calls) != 0 {
		t.Errorf("called: %v", calls)
	}
}

// The cloud looks at the key, and the program at the cloud's certificate.
func TestTrust(t *testing.T) {
	s := cloud(t)
	args := []string{"ram", "CreatePolicy", "--PolicyName", "a", "--PolicyDocument", "{}"}
	for change, want := range map[string]string{
		"ALIBABA_CLOUD_ACCESS_KEY_SECRET=another": "ErrorCode: SignatureDoesNotMatch\n",
		"ALIBABA_CLOUD_ACCESS_KEY_ID=another":     "ErrorCode: InvalidAccessKeyId.NotFound\n",
		"SSL_CERT_FILE=/dev/null":                 "certificate signed by unknown authority",
		"UNCHANGED=":                              "ErrorCode: MalformedPolicyDocument\n",
	} {
		_, stderr, code := open(t, s, change).enter(t, args...)
		if code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%s: ended with %d: %s", change, code, stderr)
		}
	}
}

// The names of the parameters are those that Alibaba Cloud's SDK generates from the same metadata.
func TestParametersAreTheSDKs(t *testing.T) {
	request := reflect.TypeFor[kms.CreateSecretRequest]()
	names := map[string]bool{}
	for i := range request.NumField() {
		name, _, _ := strings.Cut(request.Field(i).Tag.Get("json"), ",")
		names[name] = true
	}
	for name := range products["kms"].apis["CreateSecret"] {
		if !names[name] {
			t.Errorf("the SDK knows no parameter %s", name)
		}
	}
}
