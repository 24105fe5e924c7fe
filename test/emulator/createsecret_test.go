package emulator_test

import (
	"net/http"
	"strings"
	"testing"

	kms "github.com/alibabacloud-go/kms-20160120/v3/client"
	"github.com/alibabacloud-go/tea/tea"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

func TestRefusedSecrets(t *testing.T) {
	s := administered(t, everything)
	request := func(change func(*kms.CreateSecretRequest)) *kms.CreateSecretRequest {
		r := &kms.CreateSecretRequest{SecretName: tea.String("new"), VersionId: tea.String("v1"), SecretData: tea.String("x")}
		change(r)
		return r
	}
	client := kmsClient(t, s, administrator, nil)
	if _, err := client.CreateSecret(request(func(r *kms.CreateSecretRequest) {
		r.SecretName, r.DKMSInstanceId, r.EncryptionKeyId = tea.String("taken"), tea.String(emulatortest.InstanceID), tea.String("key-1")
		r.SecretDataType, r.SecretData = tea.String("binary"), tea.String("AAEC/w==")
	})); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		change func(*kms.CreateSecretRequest)
		code   string
		status int
	}{
		"name taken":        {func(r *kms.CreateSecretRequest) { r.SecretName = tea.String("taken") }, "Rejected.ResourceExist", 409},
		"no name":           {func(r *kms.CreateSecretRequest) { r.SecretName = nil }, "MissingParameter", 400},
		"no version":        {func(r *kms.CreateSecretRequest) { r.VersionId = nil }, "MissingParameter", 400},
		"no value":          {func(r *kms.CreateSecretRequest) { r.SecretData = nil }, "MissingParameter", 400},
		"bad name":          {func(r *kms.CreateSecretRequest) { r.SecretName = tea.String("a b") }, "InvalidParameter", 400},
		"name of the cloud": {func(r *kms.CreateSecretRequest) { r.SecretName = tea.String("acs/ram/user/a") }, "InvalidParameter", 400},
		"long version":      {func(r *kms.CreateSecretRequest) { r.VersionId = tea.String(strings.Repeat("v", 65)) }, "InvalidParameter", 400},
		"long value":        {func(r *kms.CreateSecretRequest) { r.SecretData = tea.String(strings.Repeat("x", 30721)) }, "InvalidParameter", 400},
		"data type":         {func(r *kms.CreateSecretRequest) { r.SecretDataType = tea.String("Text") }, "InvalidParameter", 400},
		"not base64":        {func(r *kms.CreateSecretRequest) { r.SecretDataType = tea.String("binary") }, "InvalidParameter", 400},
		"tags of another":   {func(r *kms.CreateSecretRequest) { r.Tags = tea.String(`[{"Key":"env","Value":"prod"}]`) }, "InvalidParameter", 400},
		"tags not JSON":     {func(r *kms.CreateSecretRequest) { r.Tags = tea.String(`env=prod`) }, "InvalidParameter", 400},
		"tag twice":         {func(r *kms.CreateSecretRequest) { r.Tags = tea.String(`[{"TagKey":"a"},{"TagKey":"a"}]`) }, "InvalidParameter", 400},
		"managed":           {func(r *kms.CreateSecretRequest) { r.SecretType = tea.String("Rds") }, "UnsupportedOperation", 400},
		"no such instance":  {func(r *kms.CreateSecretRequest) { r.DKMSInstanceId = tea.String("kst-none") }, "Forbidden.KmsInstanceNotFound", 404},
		"instance's key":    {func(r *kms.CreateSecretRequest) { r.DKMSInstanceId = tea.String(emulatortest.InstanceID) }, "MissingParameter", 400},
		"no such key":       {func(r *kms.CreateSecretRequest) { r.EncryptionKeyId = tea.String("key-1") }, "Forbidden.KeyNotFound", 404},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client.CreateSecret(request(x.change))
			refused(t, err, x.code, x.status)
		})
	}
	if n := len(s.Secrets()); n != 1 {
		t.Errorf("there are %d secrets, want the one that was not refused", n)
	}
	// The gateway of an instance gives secrets out and makes none.
	_, err := kmsClient(t, s, administrator, func(r *http.Request) { r.Host = emulatortest.InstanceID + ".cryptoservice.kms.aliyuncs.com" }).
		CreateSecret(request(func(*kms.CreateSecretRequest) {}))
	refused(t, err, "InvalidAction.NotFound", 404)
}
