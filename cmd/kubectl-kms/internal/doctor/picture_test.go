package doctor

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"

	"github.com/kms-agent-injector/kms-agent-injector/agent/failure"
	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
)

var (
	update = flag.Bool("update", false, "rewrite the golden file")
	show   = flag.Bool("show", false, "write what the picture shows to the terminal")
)

// TestUntrusted compares the report about a pod that its role's trust policy does not name to testdata/untrusted.txt, and that to the
// pictures of the documents, which test/picture.sh draws.
func TestUntrusted(t *testing.T) {
	k := whole(t)
	k.Objects[webhooks].(*admissionv1.MutatingWebhookConfiguration).Webhooks[0].ClientConfig.CABundle =
		bundleUntil(t, time.Date(2027, 11, 22, 0, 0, 0, 0, time.UTC))
	for _, guard := range []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"} {
		k.Objects["/apis/admissionregistration.k8s.io/v1/"+guard+"/kms-agent-injector"] = map[string]any{}
	}
	last(k, status.Text(failure.Adviser{}.Problems(&identity.Error{
		Action: identity.AssumeRoleWithOIDC, Host: "sts-vpc.cn-hangzhou.aliyuncs.com", RoleARN: "acs:ram::1234567890123456:role/shop",
		ProviderARN: "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0ffee", Code: "AuthenticationFail.NoPermission",
		Message: "There is no permission", RequestID: "0A370861-9D64-425E-ADB4-380C705EC66B",
		Issuer:  "https://oidc-ack-cn-hangzhou.oss-cn-hangzhou.aliyuncs.com/c0ffee",
		Subject: "system:serviceaccount:shop:default", Audience: []string{"sts.aliyuncs.com"},
	})))
	report := k.diagnose(t)
	if *show {
		report.Text(screen.New(os.Stdout, os.Getenv))
		return
	}
	var out bytes.Buffer
	report.Text(screen.New(&out, os.Getenv))
	const golden = "testdata/untrusted.txt"
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil { //nolint:gosec // not a secret
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || out.String() != string(want) {
		t.Fatalf("%s is not the present report (%v), which -update writes:\n%s", golden, err, &out)
	}
	shown, _, _ := strings.Cut(string(want), "Trust policy that ") // the picture has no room for the policies
	for _, picture := range []string{"light", "dark"} {
		file := "../../../../docs/doctor-" + picture + ".svg"
		if got := textOf(t, file); got != strings.Join(strings.Fields("$ kubectl kms doctor -n shop web "+shown), "") {
			t.Errorf("%s shows another report; test/picture.sh draws the present one:\n%s", file, got)
		}
	}
}

// textOf returns the text of a drawing, without spaces.
func textOf(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var text strings.Builder
	for dec := xml.NewDecoder(f); ; {
		switch token, err := dec.Token(); token := token.(type) {
		case xml.CharData:
			text.Write(token)
		case nil:
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return strings.Join(strings.Fields(text.String()), "")
		}
	}
}
