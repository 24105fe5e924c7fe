package kms

import (
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"slices"
	"testing"

	openapiutil "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	sdk "github.com/alibabacloud-go/kms-20160120/v3/client"
	"github.com/alibabacloud-go/tea/dara"
)

// TestSameRequestAsTheGeneratedClient compares with kms-20160120, whose GetSecretValue takes no context and is
// therefore not linked into the agent.
func TestSameRequestAsTheGeneratedClient(t *testing.T) {
	type request struct{ method, uri, proto, body string }
	var seen []request
	var headers []http.Header
	server, cfg := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen = append(seen, request{r.Method, r.RequestURI, r.Host, string(body)})
		headers = append(headers, r.Header)
		io.WriteString(w, answer)
	})

	ours, err := client(t, cfg).GetSecretValue(t.Context(), session, Ref{Name: "app/prod db+ü", VersionStage: "ACSPrevious"})
	if err != nil {
		t.Fatal(err)
	}
	generated, err := sdk.NewClient(&openapiutil.Config{
		AccessKeyId: &session.AccessKeyID, AccessKeySecret: &session.AccessKeySecret, SecurityToken: &session.SecurityToken,
		Endpoint: &cfg.Endpoint, Ca: dara.String(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))),
	})
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := generated.GetSecretValue(&sdk.GetSecretValueRequest{
		SecretName: dara.String("app/prod db+ü"), VersionStage: dara.String("ACSPrevious"), FetchExtendedConfig: dara.Bool(true),
	})
	if err != nil {
		t.Fatal(err)
	}

	if seen[0] != seen[1] {
		t.Errorf("requests differ:\n%q\n%q", seen[0], seen[1])
	}
	names := func(h http.Header) []string { return slices.Sorted(maps.Keys(h)) }
	// HTTP/2 carries no Host and no Connection among the headers; what is signed must be the same.
	if a, b := names(headers[0]), names(headers[1]); !slices.Equal(a, b) {
		t.Errorf("headers differ:\n%q\n%q", a, b)
	}
	for _, h := range []string{"X-Acs-Action", "X-Acs-Version", "X-Acs-Content-Sha256", "X-Acs-Accesskey-Id", "X-Acs-Security-Token",
		"Accept"} {
		if a, b := headers[0].Get(h), headers[1].Get(h); a != b {
			t.Errorf("%s: %q and %q", h, a, b)
		}
	}
	if string(ours.Data) != *theirs.Body.SecretData || ours.VersionID != *theirs.Body.VersionId {
		t.Error("the two read different values from one answer")
	}
}
