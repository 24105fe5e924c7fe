package review

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"
)

// append appends the AdmissionReview that says the verdict.
func (v Verdict) append(b []byte, uid string) []byte {
	b = append(b, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":`...)
	b = rawjson.AppendString(b, uid)
	b = strconv.AppendBool(rawjson.AppendName(b, "allowed"), v.Err == nil)
	switch {
	case v.Err != nil:
		b = append(rawjson.AppendName(b, "status"), `{"metadata":{},"status":"Failure","message":`...)
		b = rawjson.AppendString(b, v.Err.Error())
		b = rawjson.AppendString(rawjson.AppendName(b, "reason"), statusReasons[v.Code])
		b = append(strconv.AppendInt(rawjson.AppendName(b, "code"), int64(v.Code), 10), '}')
	case v.Patch != nil:
		b = append(rawjson.AppendName(b, "patch"), '"')
		b = append(base64.StdEncoding.AppendEncode(b, v.Patch), `","patchType":"JSONPatch"`...)
	}
	if len(v.Audit) > 0 {
		b = append(rawjson.AppendName(b, "auditAnnotations"), '{')
		keys := make([]string, 0, 8)
		for key := range v.Audit {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			b = rawjson.AppendString(rawjson.AppendName(b, key), v.Audit[key])
		}
		b = append(b, '}')
	}
	if len(v.Warnings) > 0 {
		b = append(rawjson.AppendName(b, "warnings"), '[')
		for i, w := range v.Warnings {
			if i > 0 {
				b = append(b, ',')
			}
			b = rawjson.AppendString(b, OneLine(w))
		}
		b = append(b, ']')
	}
	return append(b, "}}"...)
}

// OneLine is a text without line breaks: they are control characters, and the API server drops a warning that has any. Nor has it
// characters that change how those beside them look.
func OneLine(text string) string {
	unseen := func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
	}
	if !strings.ContainsFunc(text, unseen) {
		return text
	}
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unseen(r) }), " ")
}
