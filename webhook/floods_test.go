package webhook

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
)

// TestFloods are reviews that are as long as they may be, of parts that take the least text and the most memory. No annotation asks
// for anything.
func TestFloods(t *testing.T) {
	const long = 3 << 20
	many := func(before, part, after string) string {
		const head, tail = `{"request":{"uid":"1","namespace":"shop","object":{`, `}}}`
		n := (long - len(before) - len(after)) / (len(part) + 1)
		return head + before + strings.TrimSuffix(strings.Repeat(part+",", n), ",") + after + tail
	}
	var keys strings.Builder
	for i := range long / 11 {
		keys.WriteString(`"` + strconv.FormatInt(int64(i), 36) + `":"",`)
	}
	entries := keys.String()[:strings.LastIndexByte(keys.String()[:2<<20], ',')+1]
	const metadata, spec, container = `"metadata":{`, `"spec":{`, `"spec":{"containers":[{`
	floods := map[string]string{
		"containers":            many(spec+`"containers":[`, `{}`, `]}`),
		"init containers":       many(spec+`"initContainers":[`, `{}`, `]}`),
		"volumes":               many(spec+`"volumes":[`, `{"projected":{"sources":[{"serviceAccountToken":{}}]}}`, `]}`),
		"sources of a volume":   many(spec+`"volumes":[{"projected":{"sources":[`, `{"serviceAccountToken":{}}`, `]}}]}`),
		"variables":             many(container+`"env":[`, `{}`, `]}]}`),
		"mounts":                many(container+`"volumeMounts":[`, `{}`, `]}]}`),
		"ports":                 many(container+`"ports":[`, `0`, `]}]}`),
		"words of a command":    many(container+`"command":[`, `""`, `]}]}`),
		"capabilities":          many(container+`"securityContext":{"capabilities":{"add":[`, `""`, `]}}}]}`),
		"owners":                many(metadata+`"ownerReferences":[`, `{}`, `]}`),
		"annotations":           many(metadata+`"annotations":{`+entries+`"last":"`, `x`, `"}}`),
		"labels of nodes":       many(spec+`"nodeSelector":{`+entries+`"last":"`, `x`, `"}}`),
		"the same member again": many("", `"spec":{"containers":[{"name":"x","env":[{"name":"A"}]}]}`, ""),
		"objects inside others": many(`"x":[`, strings.Repeat("[", 100)+strings.Repeat("]", 100), "]"),
		"escapes":               many(metadata+`"annotations":{"x":"`, `\u0041`, `"}}`),
	}
	handler := mutator(t)
	for name, review := range floods {
		t.Run(name, func(t *testing.T) {
			ask := func() {
				r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(review))
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				if !bytes.Contains(w.Body.Bytes(), []byte(`"allowed"`)) && w.Code != http.StatusBadRequest {
					t.Errorf("%d %.300s", w.Code, w.Body)
				}
			}
			bounds.Review(t, []byte(review), ask)
		})
	}
}
