package kms

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// What is asked, and whose answer is taken: that of a name or an ARN, in the version that was asked for, and no other's.
func TestBatch(t *testing.T) {
	const arn = "acs:kms:cn-hangzhou:999:secret/team/remote"
	const current = `"VersionStages":{"VersionStage":["ACSCurrent"]}`
	var got *http.Request
	_, cfg := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		value := func(name, version, stages, more string) string {
			return fmt.Sprintf(`{"SecretName":%q,"SecretType":"Generic","SecretData":"sentinel-%s","SecretDataType":"text","VersionId":%q,`+
				`"VersionStages":{"VersionStage":[%s]}%s}`, name, name, version, stages, more)
		}
		io.WriteString(w, `{"RequestId":"R1","SecretValues":[`+strings.Join([]string{
			value("plain", "v1", `"ACSCurrent"`, `,"RequestId":"R2"`),
			value(arn, "v1", `"ACSCurrent"`, ""),
			value("pinned", "v3", `"ACSCurrent"`, ""),
			value("staged", "v4", `"ACSPrevious","prod"`, ""),
			value("unasked", "v1", `"ACSCurrent"`, ""),
			value("wrong/id", "v2", `"ACSCurrent"`, ""),
			value("wrong/stage", "v2", `"ACSPrevious"`, ""),
			`{"SecretName":"bin","SecretType":"Generic","SecretData":"AP8=","SecretDataType":"binary","VersionId":"v1",` + current + `}`,
			`{"SecretName":"damaged","SecretData":"sentinel!","SecretDataType":"binary","VersionId":"v1",` + current + `}`,
			`{"SecretName":"db","SecretType":"Rds","SecretData":"{}","VersionId":"v9",` + current + `,"NextRotationDate":"2030-01-02T03:04:05Z"}`,
		}, ",")+`],"Errors":[{"SecretName":"refused","Code":"Forbidden.NoPermission","HttpStatus":403,"Message":"m"}]}`)
	})
	refs := []Ref{
		{Name: "plain"}, {Name: arn}, {Name: "pinned", VersionID: "v3"}, {Name: "staged", VersionStage: "prod"}, {Name: "bin"},
		{Name: "db", VersionID: "v1"},
		{Name: "wrong/id", VersionID: "v1"}, {Name: "wrong/stage"}, {Name: "damaged"}, {Name: "refused"}, {Name: "missing"},
	}
	given, err := client(t, cfg).BatchGetSecretValue(t.Context(), session, refs)
	if err != nil {
		t.Fatal(err)
	}
	want := map[Ref]string{refs[0]: "sentinel-plain", refs[1]: "sentinel-" + arn, refs[2]: "sentinel-pinned", refs[3]: "sentinel-staged",
		refs[4]: "\x00\xff", refs[5]: "{}"}
	for i, ref := range refs {
		value, ok := want[ref]
		if s := given[i]; ok != (s.VersionID != "") || string(s.Data) != value || ok && s.Name != ref.ShortName() {
			t.Errorf("%s: %s, %q", ref, s, s.Data)
		}
	}
	if one, two := given[0].Answer.RequestID, given[1].Answer.RequestID; one != "R2" || two != "R1" {
		t.Errorf("request ids %s, %s", one, two)
	}
	if given[5].NextRotation.IsZero() {
		t.Error("the rotation is lost")
	}

	query := got.URL.Query()
	var list []map[string]string
	if err := json.Unmarshal([]byte(query.Get("SecretsList")), &list); err != nil || len(query) != 1 ||
		got.Header.Get("x-acs-action") != "BatchGetSecretValue" ||
		got.Header.Get("x-acs-version") != "2016-01-20" || got.Method != http.MethodPost {
		t.Fatalf("%v: %s %s", err, got.Method, got.URL)
	}
	if text := fmt.Sprint(list[1:4]); text != "[map[FetchExtendedConfig:true SecretName:"+arn+"] "+
		"map[FetchExtendedConfig:true SecretName:pinned VersionId:v3] map[FetchExtendedConfig:true SecretName:staged VersionStage:prod]]" {
		t.Errorf("asked for %s", text)
	}
}

func TestRefusedBatch(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		code   string
		class  Class
	}{
		{404, `{"Code":"InvalidAction.NotFound","Message":"m","RequestId":"R1"}`, "InvalidAction.NotFound", Permanent},
		{429, `{"Code":"Rejected.Throttling","Message":"m","RequestId":"R1"}`, "Rejected.Throttling", Retryable},
		{404, "<html>sentinel", "", Permanent},
		{200, `{"SecretValues":[{"SecretName":"a","SecretData":"sentinel"`, "", Retryable},
		{200, `{"SecretValues":[{"SecretName":"a","SecretData":"` + strings.Repeat("sentinel", 1<<17) + `"}]}`, "", Retryable},
	} {
		_, cfg := serve(t, reply(test.status, test.body))
		given, err := client(t, cfg).BatchGetSecretValue(t.Context(), session, []Ref{{Name: "a"}, {Name: "b"}})
		var e *Error
		if !errors.As(err, &e) || e.Status != test.status || e.Code != test.code || e.Class() != test.class || given != nil ||
			strings.Contains(err.Error(), "sentinel") {
			t.Errorf("%d %s: %v", test.status, test.code, err)
		}
	}
}
