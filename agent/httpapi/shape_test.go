package httpapi

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestShapes(t *testing.T) {
	secrets := map[string]*kms.Secret{
		"text": dbSecret,
		"json": {
			Name: "app/json", Type: "Generic", Data: []byte(`{"user":"a<b>&c", "n":1}`), VersionID: "v12",
			Stages: []string{"ACSCurrent", "blue"}, Answer: kms.Answer{RequestID: "req-2", CreateTime: "2024-05-01T08:00:00Z"},
		},
		"binary": {
			Name: "app/key", Type: "Generic", Data: []byte("\x00\x01\x02\xff"), Binary: true, VersionID: "2024-05",
			Answer: kms.Answer{RequestID: "req-3", CreateTime: "2024-05-01T08:00:00Z"},
		},
		"managed": {
			Name: "app/rds", Type: "Rds", Data: []byte(`{"AccountName":"app","AccountPassword":"p"}`),
			VersionID: "0a1b", Stages: []string{"ACSCurrent"}, Answer: kms.Answer{
				RequestID: "req-4", CreateTime: "2024-05-01T08:00:00Z", AutomaticRotation: "Enabled", RotationInterval: "604800s",
				LastRotationDate: "2024-05-01T08:00:00Z", NextRotationDate: "2024-05-08T08:00:00Z",
				ExtendedConfig: `{"SecretSubType":"SingleUser"}`,
			},
		},
	}
	prefixes := map[string]string{"json": "acs:kms:cn-hangzhou:1:secret/"}
	for shape, service := range []string{"kms", "aws", "vault"} {
		for name, secret := range secrets {
			t.Run(service+"/"+name, func(t *testing.T) {
				source := newOrigin()
				source.answers["app/x"] = secret
				address, _ := start(t, Config{Source: source, ResponseType: ResponseType(shape), ARNPrefix: prefixes[name]})
				res, body := ask(t, http.MethodGet, "http://"+address+"/v1/app/x", nil)
				for header, want := range map[string]string{
					"Content-Type": "application/json", "Cache-Control": "no-store", "Content-Length": fmt.Sprint(len(body)),
				} {
					if got := res.Header.Get(header); got != want {
						t.Errorf("%s: %q, want %q", header, got, want)
					}
				}
				golden := filepath.Join("testdata", service+"-"+name+".json")
				if *update {
					if err := os.WriteFile(golden, []byte(body), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if want, err := os.ReadFile(golden); err != nil || string(want) != body {
					t.Errorf("%v\n got %s\nwant %s", err, body, want)
				}

				value, err := Client{Address: address, Token: testToken}.Get(t.Context(), Request{Ref: kms.Ref{Name: "app/x"}})
				want := map[string]string{
					"text": sentinel, "json": `{"user":"a<b>&c", "n":1}`, "binary": "\x00\x01\x02\xff", "managed": string(secret.Data),
					"vault/text": `{"value":"sentinel-value"}`, "vault/json": `{"user":"a<b>&c","n":1}`, "vault/binary": `{"value":"AAEC/w=="}`,
				}
				expected, own := want[service+"/"+name]
				if !own {
					expected = want[name]
				}
				if err != nil || string(value) != expected {
					t.Errorf("the client reads %q, %v; want %q", value, err, expected)
				}
			})
		}
	}
	files, _ := filepath.Glob("testdata/*.json")
	if len(files) != 3*len(secrets) {
		t.Errorf("%d golden files for %d cases", len(files), 3*len(secrets))
	}
}
