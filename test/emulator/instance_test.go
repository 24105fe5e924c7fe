package emulator_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	kms "github.com/alibabacloud-go/kms-20160120/v3/client"
	"github.com/alibabacloud-go/tea/tea"
	dkms "github.com/aliyun/alibabacloud-dkms-gcs-go-sdk/openapi"
	dkmsutil "github.com/aliyun/alibabacloud-dkms-gcs-go-sdk/openapi-util"
	sdk "github.com/aliyun/alibabacloud-dkms-gcs-go-sdk/sdk"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/clientkey"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

func instance(t *testing.T) (*emulatortest.Server, string, clientkey.Key) {
	t.Helper()
	var key clientkey.Key
	s := identities(t, func(c *emulator.Config) { key = emulatortest.WithInstance(t, c, "shop/*") })
	s.Put(t,
		emulator.Secret{Name: "shop/text", Value: emulator.Value{Text: "é <&>"}},
		emulator.Secret{Name: "shop/blob", Value: emulator.Value{Binary: base64.StdEncoding.EncodeToString([]byte{0, 255})}},
		emulator.Secret{
			Name: "shop/db", Type: "Rds", AutomaticRotation: "Enabled", RotationInterval: "3600s",
			NextRotation: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), ExtendedConfig: `{"a":1}`, Value: emulator.Value{Text: "{}"},
		},
	)
	return s, s.StartInstance(t), key
}

// dkmsClient is the real SDK of instance gateways.
func dkmsClient(t *testing.T, addr string, key clientkey.Key, ca []byte) *sdk.Client {
	t.Helper()
	client, err := sdk.NewClient(&dkms.Config{
		Endpoint: &addr, Protocol: tea.String("https"), ClientKeyContent: tea.String(string(key.JSON)), Password: &key.Password,
		Ca: tea.String(string(ca)), ConnectTimeout: tea.Int(60000), ReadTimeout: tea.Int(60000),
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestClientKey(t *testing.T) {
	s, addr, key := instance(t)
	client := dkmsClient(t, addr, key, emulatortest.InstanceCAPEM())
	once := &dkmsutil.RuntimeOptions{Autoretry: tea.Bool(false)}
	text, err := client.GetSecretValueWithOptions(&sdk.GetSecretValueRequest{SecretName: tea.String("shop/text")}, once)
	if err != nil {
		t.Fatal(err)
	}
	if *text.SecretData != "é <&>" || *text.SecretDataType != "text" || *text.VersionId != "v1" || *text.VersionStages[0] != "ACSCurrent" ||
		*text.RequestId == "" {
		t.Errorf("got %v", text)
	}
	db, err := client.GetSecretValueWithOptions(&sdk.GetSecretValueRequest{
		SecretName: tea.String("shop/db"), VersionStage: tea.String("ACSCurrent"), VersionId: tea.String("ignored"),
		FetchExtendedConfig: tea.Bool(true),
	}, once)
	if err != nil {
		t.Fatal(err)
	}
	if *db.NextRotationDate != "2030-01-02T03:04:05Z" || *db.ExtendedConfig != `{"a":1}` || *db.AutomaticRotation != "Enabled" ||
		*db.RotationInterval != "3600s" || *db.SecretType != "Rds" {
		t.Errorf("got %v", db)
	}

	code := func(client *sdk.Client, secret string) string {
		t.Helper()
		_, err := client.GetSecretValueWithOptions(&sdk.GetSecretValueRequest{SecretName: &secret}, once)
		var refusal *tea.SDKError
		if !errors.As(err, &refusal) {
			t.Fatalf("got %v", err)
		}
		return tea.StringValue(refusal.Code)
	}
	if got := code(client, "ours"); got != "Forbidden.NoPermission" {
		t.Errorf("a secret of others: %s", got)
	}
	if got := code(client, "shop/none"); got != "Forbidden.ResourceNotFound" {
		t.Errorf("no such secret: %s", got)
	}
	stranger, err := clientkey.New(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if got := code(dkmsClient(t, addr, stranger, emulatortest.InstanceCAPEM()), "shop/text"); got != "Forbidden.InvalidClientKey" {
		t.Errorf("unknown key: %s", got)
	}
	stranger.JSON = []byte(strings.Replace(string(stranger.JSON), stranger.ID, key.ID, 1))
	if got := code(dkmsClient(t, addr, stranger, emulatortest.InstanceCAPEM()), "shop/text"); got != "Forbidden.SignatureNotMatch" {
		t.Errorf("another's ID: %s", got)
	}
	s.Fault(t, emulator.Fault{Status: 503})
	if got := code(client, "shop/text"); got != "ServiceUnavailableTemporary" {
		t.Errorf("outage: %s", got)
	}
	if n := s.Calls().Sum(emulator.Call{Action: "GetSecretValue", Secret: "shop/text", Code: emulator.CodeOK}); n != 1 {
		t.Errorf("%d calls counted, want 1: %v", n, s.Calls())
	}
}

// The OpenAPI SDK talks to an instance's gateway too, which asks for kms:Decrypt as well.
func TestInstanceByOpenAPI(t *testing.T) {
	s, addr, _ := instance(t)
	s.Put(t, devSecret("shop/dev", "x"))
	c := mustAssume(t, s) // may do both with what is tagged env=dev
	client := func(id, secret string, token *string, ca []byte) *kms.Client {
		client, err := kms.NewClient(&openapi.Config{
			Endpoint: &addr, Ca: tea.String(string(ca)), AccessKeyId: &id, AccessKeySecret: &secret, SecurityToken: token,
			ConnectTimeout: tea.Int(60000), ReadTimeout: tea.Int(60000),
		})
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	name := &kms.GetSecretValueRequest{SecretName: tea.String("shop/dev")}
	if _, err := ask(client(c.AccessKeyId, c.AccessKeySecret, &c.SecurityToken, emulatortest.InstanceCAPEM()), name); err != nil {
		t.Error(err)
	}
	_, err := ask(client(userKey, userSecret, nil, emulatortest.InstanceCAPEM()), name)
	refused(t, err, "Forbidden.NoPermission", 403)

	role := s.Roles()[0]
	for resource, allowed := range map[string]bool{"key/*": true, "secret/shop/*": false} { // kms:Decrypt is a right on keys
		role.Policies = []string{`{"Version": "1", "Statement": [
			{"Effect": "Allow", "Action": "kms:GetSecretValue", "Resource": "acs:kms:*:*:secret/shop/*"},
			{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "acs:kms:*:*:` + resource + `"}]}`}
		if err := s.PutRole(role); err != nil {
			t.Fatal(err)
		}
		_, err := ask(client(c.AccessKeyId, c.AccessKeySecret, &c.SecurityToken, emulatortest.InstanceCAPEM()), name)
		if allowed && err != nil {
			t.Errorf("kms:Decrypt on %s: %v", resource, err)
		} else if !allowed {
			refused(t, err, "Forbidden.NoPermission", 403)
		}
	}
}

func TestInstanceHasAnAuthorityOfItsOwn(t *testing.T) {
	_, addr, key := instance(t)
	_, err := dkmsClient(t, addr, key, emulatortest.CAPEM()).GetSecretValueWithOptions(
		&sdk.GetSecretValueRequest{SecretName: tea.String("shop/text")}, &dkmsutil.RuntimeOptions{Autoretry: tea.Bool(false)})
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v", err)
	}
}
