package podconfig

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The error about a mistyped annotation says what to type. There are no further errors that follow from the same mistake.
func TestMistypedKeys(t *testing.T) {
	for _, c := range []struct{ keys, want string }{
		{"inject secrt.db", "kms.alibabacloud.com/secrt.db: unknown annotation; did you mean kms.alibabacloud.com/secret.db?"},
		{"inject secrets.db", "kms.alibabacloud.com/secrets.db: unknown annotation; did you mean kms.alibabacloud.com/secret.db?"},
		{"inject secret-db", "kms.alibabacloud.com/secret-db: unknown annotation; did you mean kms.alibabacloud.com/secret.<file>?"},
		{"inject secret", "kms.alibabacloud.com/secret: unknown annotation; did you mean kms.alibabacloud.com/secret.<file>?"},
		{"inject secret.", "kms.alibabacloud.com/secret.: a name after the dot is missing; write kms.alibabacloud.com/secret.<file>"},
		{"inject env.", "kms.alibabacloud.com/env.: a name after the dot is missing; write kms.alibabacloud.com/env.<NAME>"},
		{"Inject secret.db", "kms.alibabacloud.com/Inject: unknown annotation; did you mean kms.alibabacloud.com/inject?"},
		{"injct secret.db", "kms.alibabacloud.com/injct: unknown annotation; did you mean kms.alibabacloud.com/inject?"},
		{"injection secret.db", "kms.alibabacloud.com/injection: unknown annotation; it is a label of namespaces, and " +
			"kms.alibabacloud.com/inject is what pods have"},
		{"inject secret.db mountPath", "kms.alibabacloud.com/mountPath: unknown annotation; did you mean kms.alibabacloud.com/mount-path?"},
		{"inject secret.db role", "kms.alibabacloud.com/role: unknown annotation; did you mean one of role-arn, role-name?"},
		{"inject secret.db refresh", "kms.alibabacloud.com/refresh: unknown annotation; did you mean kms.alibabacloud.com/refresh-interval?"},
		{"inject secret.db volume-path", "kms.alibabacloud.com/volume-path: unknown annotation; did you mean kms.alibabacloud.com/mount-path?"},
		{"inject secret.db zzz", "kms.alibabacloud.com/zzz: unknown annotation; the known ones are inject, secret, env, role-arn,"},
	} {
		annotations := map[string]string{}
		for key := range strings.FieldsSeq(c.keys) {
			annotations[Prefix+key] = "true"
		}
		if _, err := Parse(annotations); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: got\n%v\nwant\n%s", c.keys, err, c.want)
		}
	}
}

// A secret that was pasted where its name belongs is in no message: those end up in events.
func TestPastedSecret(t *testing.T) {
	for _, value := range []string{"hunter2 is my password", "hunter2{}?", "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
		`{"password": "hunter2"}`, "{name: hunter2?, format: json}", "- hunter2", "hunter2: [", "|\n hunter2 x", "\"hunter2"} {
		for _, key := range []string{"secret.db", "env.DB"} {
			_, err := Parse(map[string]string{Prefix + "inject": "true", Prefix + key: value})
			if err == nil || strings.Contains(err.Error(), "hunter") {
				t.Errorf("%s %q: %v", key, value, err)
			}
		}
	}
}

func TestMisspelt(t *testing.T) {
	got := Misspelt(map[string]string{
		"kms.alibabacloud.com.inject": "true", "kms.aliyun.com/secret.db": "x", "kms.alibaba.com/mode": "init",
		"kms.alibabacloud.com.cn/api":   "true",
		"kms.alibabacloud.com/secrt.db": "x", "kms.aliyun.com/something-else": "x", "example.com/inject": "true", "kms.alibabacloud.com": "x",
		"kms.ali": "x",
	})
	if diff := cmp.Diff(map[string]string{
		"kms.alibabacloud.com.inject": Prefix + "inject", "kms.aliyun.com/secret.db": Prefix + "secret.db", "kms.alibaba.com/mode": Prefix +
			"mode", "kms.alibabacloud.com.cn/api": Prefix + "api",
	}, got); diff != "" {
		t.Error(diff)
	}
}
