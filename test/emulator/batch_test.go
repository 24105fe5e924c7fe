package emulator_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	openapiutil "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	kms "github.com/alibabacloud-go/kms-20160120/v3/client"
	"github.com/alibabacloud-go/tea/dara"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

// batch is the answer as the generated SDKs of later versions read it.
type batch struct {
	RequestID    string
	SecretValues []struct {
		RequestID, SecretName, SecretType, SecretData, SecretDataType, VersionID, ExtendedConfig string
		VersionStages                                                                            struct{ VersionStage []string }
	}
	Errors []struct {
		SecretName, Code, Message string
		HTTPStatus                int
	}
}

// askBatch sends what a generated SDK sends that knows the action.
func askBatch(t *testing.T, client *kms.Client, list string) (b batch, err error) {
	t.Helper()
	answer, err := client.CallApi(&openapiutil.Params{
		Action: dara.String("BatchGetSecretValue"), Version: dara.String("2016-01-20"), Protocol: dara.String("HTTPS"),
		Method:   dara.String("POST"),
		Pathname: dara.String("/"), Style: dara.String("RPC"), AuthType: dara.String("AK"), ReqBodyType: dara.String("formData"),
		BodyType: dara.String("string"),
	}, &openapiutil.OpenApiRequest{Query: map[string]*string{"SecretsList": &list}}, &dara.RuntimeOptions{})
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal([]byte(answer["body"].(string)), &b); err != nil {
		t.Fatal(err)
	}
	return b, nil
}

// A secret that is refused hides no other.
func TestBatch(t *testing.T) {
	s := emulatortest.Start(t)
	s.Put(t, devSecret("text", "one"),
		emulator.Secret{Name: "db", Type: "Rds", Tags: map[string]string{"env": "dev"}, ExtendedConfig: `{"a":1}`,
			Value: emulator.Value{Text: "{}"}},
		emulator.Secret{Name: "bin", Tags: map[string]string{"env": "dev"}, Value: emulator.Value{Binary: "AP8="}},
		emulator.Secret{Name: "theirs", Tags: map[string]string{"env": "prod"}, Value: emulator.Value{Text: "x"}})
	if err := s.Rotate("text", emulator.Version{Value: emulator.Value{Text: "two"}}); err != nil {
		t.Fatal(err)
	}
	client := kmsClient(t, s, mustAssume(t, s), nil)
	b, err := askBatch(t, client, `[{"SecretName":"text","VersionStage":"ACSPrevious"},{"SecretName":"theirs"},
		{"SecretName":"acs:kms:cn-hangzhou:`+emulatortest.Account+`:secret/db","FetchExtendedConfig":"true"},
		{"SecretName":"nothing"},{"SecretName":"bin","VersionId":"v1"}]`)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range b.SecretValues {
		if v.RequestID != b.RequestID {
			t.Errorf("%s has the request id %s, its batch %s", v.SecretName, v.RequestID, b.RequestID)
		}
	}
	for i := range b.SecretValues {
		b.SecretValues[i].RequestID = ""
	}
	got := fmt.Sprintf("%+v %+v", b.SecretValues, b.Errors)
	for _, want := range []string{
		"SecretName:text SecretType:Generic SecretData:one SecretDataType:text VersionID:v1 ExtendedConfig: " +
			"VersionStages:{VersionStage:[ACSPrevious]}",
		`SecretName:db SecretType:Rds SecretData:{} SecretDataType:text VersionID:v1 ExtendedConfig:{"a":1}`,
		"SecretData:AP8= SecretDataType:binary",
		"{SecretName:theirs Code:Forbidden.NoPermission Message:This operation is forbidden by permission system. HTTPStatus:403}",
		"{SecretName:nothing Code:Forbidden.ResourceNotFound Message:Resource not found. HTTPStatus:404}",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
	if len(b.SecretValues) != 3 || len(b.Errors) != 2 {
		t.Errorf("got %d values and %d errors", len(b.SecretValues), len(b.Errors))
	}
	calls := s.Calls()
	for _, name := range []string{"", "text", "db", "nothing"} {
		if n := calls.Sum(emulator.Call{Action: "*GetSecretValue", Secret: name, Code: emulator.CodeOK}); n != 1 {
			t.Errorf("%d calls counted for %q, want 1: %v", n, name, calls)
		}
	}
	if n := calls.Sum(emulator.Call{Action: "GetSecretValue"}) + calls.Sum(emulator.Call{Secret: "text,theirs"}); n != 0 {
		t.Errorf("counted as a call for one secret: %v", calls)
	}
}

func TestRefusedBatches(t *testing.T) {
	s := emulatortest.Start(t)
	c := mustAssume(t, s)
	many := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`{"SecretName":"s%d"}`, i))
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	for list, code := range map[string]string{
		many(20):             "",
		many(21):             "InvalidParameter",
		"":                   "MissingParameter",
		"[]":                 "InvalidParameter",
		"[{}]":               "InvalidParameter",
		"[null]":             "InvalidParameter",
		`["a"]`:              "InvalidParameter",
		`{"SecretName":"a"}`: "InvalidParameter",
		`[{"SecretName":"a"`: "InvalidParameter",
		`[{"SecretName":"a","FetchExtendedConfig":true}]`:                                                 "InvalidParameter",
		`[{"SecretName":"a"},{"SecretName":"a","VersionStage":"ACSPrevious"}]`:                            "InvalidParameter",
		`[{"SecretName":"a"},{"SecretName":"acs:kms:cn-hangzhou:` + emulatortest.Account + `:secret/a"}]`: "InvalidParameter",
	} {
		_, err := askBatch(t, kmsClient(t, s, c, nil), list)
		if code != "" {
			refused(t, err, code, http.StatusBadRequest)
		} else if err != nil {
			t.Errorf("%s: %v", list, err)
		}
	}
	_, err := askBatch(t, kmsClient(t, s, c, func(r *http.Request) { r.URL.RawQuery = strings.ReplaceAll(r.URL.RawQuery, "s0", "s1") }),
		many(1))
	refused(t, err, "SignatureDoesNotMatch", http.StatusBadRequest)
}

// A fault of one secret strikes the calls that ask for it, with others or alone; the cloud of before this call is a fault too.
func TestFaultsOfBatches(t *testing.T) {
	s := emulatortest.Start(t)
	s.Put(t, devSecret("a", "x"), devSecret("b", "x"))
	client := kmsClient(t, s, mustAssume(t, s), nil)
	const both = `[{"SecretName":"a"},{"SecretName":"b"}]`
	id := s.Fault(t, emulator.Fault{Secret: "b", Status: 503})
	_, err := askBatch(t, client, both)
	refused(t, err, "ServiceUnavailableTemporary", 503)
	if _, err := askBatch(t, client, `[{"SecretName":"a"}]`); err != nil {
		t.Error(err)
	}
	if err := s.RemoveFault(id); err != nil {
		t.Fatal(err)
	}
	s.Fault(t, emulator.Fault{Action: "BatchGetSecretValue", Code: "InvalidAction.NotFound"})
	_, err = askBatch(t, client, both)
	refused(t, err, "InvalidAction.NotFound", http.StatusNotFound)
	if _, err := ask(client, &kms.GetSecretValueRequest{SecretName: dara.String("b")}); err != nil {
		t.Error(err)
	}
}
