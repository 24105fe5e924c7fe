package emulator_test

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	openapiutil "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	kms "github.com/alibabacloud-go/kms-20160120/v3/client"
	"github.com/alibabacloud-go/tea/dara"
	"github.com/alibabacloud-go/tea/tea"
	"github.com/aliyun/credentials-go/credentials/providers"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

const (
	everything = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	trustPod   = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole",
		"Principal":{"Federated":["` + emulatortest.ProviderARN + `"]},
		"Condition":{"StringEquals":{"oidc:sub":["` + emulatortest.Subject + `"]}}}]}`
	readProd = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"kms:GetSecretValue","Resource":"*",
		"Condition":{"StringEquals":{"kms:tag/env":["prod"]}}}]}`
)

var administrator = &providers.Credentials{AccessKeyId: userKey, AccessKeySecret: userSecret}

// administered is a cloud with a user who has the policy, and with a KMS instance that has a key.
func administered(t *testing.T, policy string) *emulatortest.Server {
	t.Helper()
	issuer := emulatortest.NewIssuer(t, emulatortest.IssuerURL)
	config := emulatortest.Config(issuer)
	config.Users = []emulator.User{{
		Name: "administrator", AccessKeys: []emulator.AccessKey{{ID: userKey, Secret: userSecret}}, Policies: []string{policy},
	}}
	config.Instances = []emulator.Instance{{ID: emulatortest.InstanceID, Keys: []string{"key-1"}}}
	return emulatortest.StartConfig(t, issuer, config)
}

type parameters map[string]string

func (p parameters) with(name, value string) parameters {
	changed := parameters{name: value}
	for n, v := range p {
		if n != name {
			changed[n] = v
		}
	}
	return changed
}

// callRAM is Alibaba Cloud's SDK for any product; signature "v2" is that of the RPC style.
func callRAM(t *testing.T, s *emulatortest.Server, signature, action string, p parameters) (map[string]any, error) {
	t.Helper()
	client, err := openapi.NewClient(&openapiutil.Config{
		Endpoint: &s.Addr, AccessKeyId: dara.String(userKey), AccessKeySecret: dara.String(userSecret), SignatureAlgorithm: &signature,
		HttpClient: &httpClient{Client: http.Client{Timeout: time.Minute, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: emulatortest.Roots()}, DisableKeepAlives: true,
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	query := map[string]*string{}
	for name, value := range p {
		query[name] = &value
	}
	answer, err := client.CallApi(&openapiutil.Params{
		Action: &action, Version: dara.String("2015-05-01"), Protocol: dara.String("HTTPS"), Pathname: dara.String("/"), Method: dara.String("POST"),
		AuthType: dara.String("AK"), Style: dara.String("RPC"), ReqBodyType: dara.String("formData"), BodyType: dara.String("json"),
	}, &openapiutil.OpenApiRequest{Query: query}, &dara.RuntimeOptions{})
	if err != nil {
		return nil, err
	}
	return answer["body"].(map[string]any), nil
}

var (
	someRole   = parameters{"RoleName": "shop-web", "AssumeRolePolicyDocument": trustPod}
	somePolicy = parameters{"PolicyName": "shop-secrets", "PolicyDocument": readProd}
	attachment = parameters{"PolicyType": "Custom", "PolicyName": "shop-secrets", "RoleName": "shop-web"}
)

// What an administrator makes is what a pod then has.
func TestSetUp(t *testing.T) {
	for _, signature := range []string{"v2", "ACS3-HMAC-SHA256"} {
		t.Run(signature, func(t *testing.T) {
			s := administered(t, everything)
			role, err := callRAM(t, s, signature, "CreateRole", someRole.with("Description", "the shop's"))
			if err != nil {
				t.Fatal(err)
			}
			got := role["Role"].(map[string]any)
			if got["Arn"] != "acs:ram::1234567890123456:role/shop-web" || got["AssumeRolePolicyDocument"] != trustPod || got["Description"] != "the shop's" {
				t.Errorf("role: got %v", got)
			}
			policy, err := callRAM(t, s, signature, "CreatePolicy", somePolicy)
			if err != nil {
				t.Fatal(err)
			}
			if got := policy["Policy"].(map[string]any); got["PolicyName"] != "shop-secrets" || got["PolicyType"] != "Custom" || got["DefaultVersion"] != "v1" {
				t.Errorf("policy: got %v", got)
			}
			secret, err := kmsClient(t, s, administrator, nil).CreateSecret(&kms.CreateSecretRequest{
				SecretName: tea.String("shop/prod/db"), VersionId: tea.String("first"), SecretData: tea.String("s3cret & more"),
				Tags: tea.String(`[{"TagKey":"env","TagValue":"prod"}]`),
			})
			if err != nil {
				t.Fatal(err)
			}
			secret.Body.RequestId = nil
			if diff := cmp.Diff(&kms.CreateSecretResponseBody{
				Arn: tea.String("acs:kms:cn-hangzhou:1234567890123456:secret/shop/prod/db"), SecretName: tea.String("shop/prod/db"),
				SecretType: tea.String("Generic"), VersionId: tea.String("first"),
			}, secret.Body); diff != "" {
				t.Error("secret (-want +got):\n", diff)
			}

			pod, err := assume(t, s, func(b *providers.OIDCCredentialsProviderBuilder) {
				b.WithRoleArn("acs:ram::1234567890123456:role/shop-web")
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = get(t, s, pod, "shop/prod/db")
			refused(t, err, "Forbidden.NoPermission", 403)
			if _, err := callRAM(t, s, signature, "AttachPolicyToRole", attachment); err != nil {
				t.Fatal(err)
			}
			read, err := get(t, s, pod, "shop/prod/db")
			if err != nil || *read.SecretData != "s3cret & more" || *read.VersionId != "first" {
				t.Errorf("got %v, %v", read, err)
			}
		})
	}
}

func TestRefusedAdministration(t *testing.T) {
	s := administered(t, everything)
	for action, p := range map[string]parameters{"CreateRole": someRole, "CreatePolicy": somePolicy} {
		if _, err := callRAM(t, s, "v2", action, p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := callRAM(t, s, "v2", "AttachPolicyToRole", attachment); err != nil {
		t.Fatal(err)
	}
	roles := len(s.Roles())
	newRole, newPolicy := someRole.with("RoleName", "other"), somePolicy.with("PolicyName", "other")
	for name, x := range map[string]struct {
		action string
		p      parameters
		code   string
		status int
	}{
		"role's name taken":          {"CreateRole", someRole, "EntityAlreadyExists.Role", 409},
		"no role's name":             {"CreateRole", someRole.with("RoleName", ""), "MissingParameter.RoleName", 400},
		"role's name misspelt":       {"CreateRole", parameters{"Rolename": "other", "AssumeRolePolicyDocument": trustPod}, "MissingParameter.RoleName", 400},
		"role's name with a slash":   {"CreateRole", someRole.with("RoleName", "shop/web"), "InvalidParameter.RoleName.InvalidChars", 400},
		"role's name with a _":       {"CreateRole", someRole.with("RoleName", "shop_web"), "InvalidParameter.RoleName.InvalidChars", 400},
		"long role's name":           {"CreateRole", someRole.with("RoleName", strings.Repeat("a", 65)), "InvalidParameter.RoleName.Length", 400},
		"no trust policy":            {"CreateRole", parameters{"RoleName": "other"}, "MissingParameter.AssumeRolePolicyDocument", 400},
		"trust policy not JSON":      {"CreateRole", newRole.with("AssumeRolePolicyDocument", "trust.json"), "MalformedPolicyDocument", 400},
		"permissions for trust":      {"CreateRole", newRole.with("AssumeRolePolicyDocument", readProd), "MalformedPolicyDocument", 400},
		"trust policy too long":      {"CreateRole", newRole.with("AssumeRolePolicyDocument", trustPod+strings.Repeat(" ", 2048)), "InvalidParameter.AssumeRolePolicyDocument.Length", 400},
		"description too long":       {"CreateRole", newRole.with("Description", strings.Repeat("x", 1025)), "InvalidParameter.Description.Length", 400},
		"session of a minute":        {"CreateRole", newRole.with("MaxSessionDuration", "60"), "InvalidParameter.MaxSessionDuration", 400},
		"policy's name taken":        {"CreatePolicy", somePolicy, "EntityAlreadyExists.Policy", 409},
		"policy's name with a dot":   {"CreatePolicy", somePolicy.with("PolicyName", "shop.secrets"), "InvalidParameter.PolicyName.InvalidChars", 400},
		"long policy's name":         {"CreatePolicy", somePolicy.with("PolicyName", strings.Repeat("a", 129)), "InvalidParameter.PolicyName.Length", 400},
		"no policy":                  {"CreatePolicy", parameters{"PolicyName": "other"}, "MissingParameter.PolicyDocument", 400},
		"policy not JSON":            {"CreatePolicy", newPolicy.with("PolicyDocument", "{"), "MalformedPolicyDocument", 400},
		"trust for permissions":      {"CreatePolicy", newPolicy.with("PolicyDocument", trustPod), "MalformedPolicyDocument", 400},
		"policy too long":            {"CreatePolicy", newPolicy.with("PolicyDocument", readProd+strings.Repeat(" ", 6144)), "InvalidParameter.PolicyDocument.Length", 400},
		"attached twice":             {"AttachPolicyToRole", attachment, "EntityAlreadyExists.Role.Policy", 409},
		"to no role":                 {"AttachPolicyToRole", attachment.with("RoleName", "nobody"), "EntityNotExist.Role", 404},
		"no such policy":             {"AttachPolicyToRole", attachment.with("PolicyName", "nothing"), "EntityNotExist.Policy", 404},
		"of the cloud's own":         {"AttachPolicyToRole", attachment.with("PolicyType", "System"), "EntityNotExist.Policy", 404},
		"type in lower case":         {"AttachPolicyToRole", attachment.with("PolicyType", "custom"), "InvalidParameter.PolicyType", 400},
		"no type":                    {"AttachPolicyToRole", attachment.with("PolicyType", ""), "MissingParameter.PolicyType", 400},
		"operation that RAM has not": {"CreateRoles", someRole, "InvalidAction.NotFound", 404},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := callRAM(t, s, "v2", x.action, x.p)
			refused(t, err, x.code, x.status)
		})
	}
	if len(s.Roles()) != roles {
		t.Error("what was refused has made a role")
	}
}

// Who may read secrets may not make roles, nor the other way round; rights may be for some names only.
func TestAdministrationNeedsRights(t *testing.T) {
	limited := func(action, resource string) string {
		return `{"Version":"1","Statement":[{"Effect":"Allow","Action":` + action + `,"Resource":"` + resource + `"}]}`
	}
	create := func(s *emulatortest.Server, change func(*kms.CreateSecretRequest)) error {
		r := &kms.CreateSecretRequest{SecretName: tea.String("a"), VersionId: tea.String("v1"), SecretData: tea.String("x")}
		if change != nil {
			change(r)
		}
		_, err := kmsClient(t, s, administrator, nil).CreateSecret(r)
		return err
	}
	s := administered(t, limited(`["kms:*"]`, "acs:kms:*:1234567890123456:secret"))
	_, err := callRAM(t, s, "v2", "CreateRole", someRole)
	if sdk := refused(t, err, "NoPermission", 403); sdk.AccessDeniedDetail["AuthAction"] != "ram:CreateRole" {
		t.Errorf("got %v", sdk.AccessDeniedDetail)
	}
	_, err = callRAM(t, s, "v2", "CreatePolicy", somePolicy)
	refused(t, err, "NoPermission", 403)
	if err := create(s, nil); err != nil {
		t.Error(err)
	}
	refused(t, create(s, func(r *kms.CreateSecretRequest) {
		r.SecretName, r.DKMSInstanceId, r.EncryptionKeyId = tea.String("b"), tea.String(emulatortest.InstanceID), tea.String("key-1")
	}), "Forbidden.NoPermission", 403)

	s = administered(t, limited(`["ram:CreateRole","ram:AttachPolicyToRole"]`, "acs:ram:*:1234567890123456:role/shop-*"))
	if _, err := callRAM(t, s, "v2", "CreateRole", someRole); err != nil {
		t.Error(err)
	}
	_, err = callRAM(t, s, "v2", "CreateRole", someRole.with("RoleName", "bank-web"))
	refused(t, err, "NoPermission", 403)
	_, err = callRAM(t, s, "v2", "AttachPolicyToRole", attachment) // needs the right to the policy too
	refused(t, err, "NoPermission", 403)
	refused(t, create(s, nil), "Forbidden.NoPermission", 403)
}
