package podconfig

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
)

// What the API server would refuse after it has called the webhook is refused before anything is made of it.
func TestKeys(t *testing.T) {
	long := strings.Repeat("LONG_", 13) + "X"
	for key, want := range map[string]string{
		"secret." + strings.Repeat("f", 56): "",
		"env.A_B":                           "",
		"secret." + strings.Repeat("f", 57): "must have at most 63 characters, and this one has 64; write a shorter name, and the file's " +
			"own in the field path of the long form",
		"env." + long: `and this one has 70; write the variable in kms.alibabacloud.com/env, for example kms.alibabacloud.com/env: "{` +
			long + `: app/prod/db}"`,
		"env.A_": `must start and end with a letter or digit; write the variable in kms.alibabacloud.com/env, ` +
			`for example kms.alibabacloud.com/env: "{A_: app/prod/db}"`,
		"secret.a/b":                             "must consist of letters, digits, '-', '_' and '.'",
		"secret.a-":                              "must start and end with a letter or digit",
		"secret.\u00fc":                          "must consist of letters",
		"mode" + strings.Repeat("x", 100):        "must have at most 63 characters, and this one has 104",
		"":                                       "must consist of letters",
		"secret." + strings.Repeat("f", 150<<10): "must have at most 63 characters",
		"secret." + strings.Repeat("\x00", 1<<10): "must consist of letters",
	} {
		_, err := Parse(map[string]string{Prefix + "inject": "true", Prefix + "secret.other": "app/other", Prefix + key: "app/db"})
		if (err == nil) != (want == "") || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%.80q: %.500v, want %q", key, err, want)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("%.80q: a message of %d bytes", key, len(err.Error()))
		}
	}
}

// A variable that no annotation key can hold.
func TestLongVariable(t *testing.T) {
	const name = "SPRING_SECURITY_OAUTH2_CLIENT_REGISTRATION_KEYCLOAK_CLIENT_SECRET"
	spec, err := Parse(map[string]string{Prefix + "inject": "true", Prefix + "env": name + ": app/login#secret", Prefix + "env.DB": "app/db"})
	if err != nil || len(name) != 65 || len(spec.Env) != 2 ||
		spec.Env[1] != (config.Variable{Name: name, Secret: "app/login", Key: "secret", Annotation: "env"}) {
		t.Errorf("%+v, %v", spec.Env, err)
	}
}

func TestSecretNames(t *testing.T) {
	const arn = "acs:kms:cn-hangzhou:1234567890123456:secret/"
	for name, want := range map[string]string{
		"app/prod_1+2=3.@-":               "",
		arn + "app/prod_1+2=3.@-":         "",
		arn + strings.Repeat("a", 192):    "",
		strings.Repeat("a", 193):          "has 193 bytes, and a name at most 192",
		arn + strings.Repeat("a", 193):    "what follows secret/ is not the name of one: it has 193 bytes",
		arn:                               "it is empty",
		arn + "app/*":                     "has other characters in it",
		arn + "app/x,app/prod/root":       "has other characters in it",
		arn + "app/x:secret/y":            "has other characters in it",
		arn + "app/%2e%2e?versionId=1":    "has other characters in it",
		arn + "app/\x1b[31m\a":            "has other characters in it",
		arn + "app/\u202ebd":              "has U+202E in it, which is not ASCII",
		"app/pr\u043ed":                   "has U+043E in it, which is not ASCII",
		"app\uff0fdb":                     "has U+FF0F in it, the full-width form of '/'; write '/'",
		arn + "\uff21pp":                  "has U+FF21 in it, the full-width form of 'A'; write 'A'",
		"app/\u00fcber":                   "has U+00FC in it, which is not ASCII",
		"app/\xff":                        "not ASCII",
		"app/*":                           "has other characters in it",
		"app,db":                          "has other characters in it",
		"app\u3000db":                     "has white space in it",
		"acs:kms:cn-hangzhou:1:key/x":     "is not the ARN of a KMS secret",
		"acs:kms:CN:1:secret/x":           "is not the ARN of a KMS secret",
		"acs:kms:cn-hangzhou:x:secret/x":  "is not the ARN of a KMS secret",
		"acs:kms:cn-hangzhou:*:secret/x":  "is not the ARN of a KMS secret",
		"acs:ram:cn-hangzhou:1:secret/x":  "is not the ARN of a KMS secret",
		"acs:kms::1:secret/x":             "is not the ARN of a KMS secret",
		"acs:kms:cn-hangzhou:1:secretx/x": "is not the ARN of a KMS secret",
	} {
		for _, annotation := range [][2]string{{"secret.db", name}, {"env.DB", name}, {"secret.db", "{name: \"" + name + "\"}"},
			{"secret.db", "{from: {a: \"" + name + "\"}, format: template, template: x}"}} {
			if (strings.ContainsAny(name, "\x1b\x07") || !utf8.ValidString(name)) && annotation[1] != name {
				continue // no YAML
			}
			_, err := Parse(map[string]string{Prefix + "inject": "true", Prefix + annotation[0]: annotation[1]})
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want %q", annotation, err, want)
			}
		}
	}
}

// Of very many mistakes the first are kept, and the others counted.
func TestManyMistakes(t *testing.T) {
	annotations := map[string]string{Prefix + "inject": "true", Prefix + "secret.z": "no name"}
	for i := range 1000 {
		annotations[fmt.Sprintf("%senv.A%03d", Prefix, i)] = "no name"
	}
	_, err := Parse(annotations)
	var mistakes config.Mistakes
	if !errors.As(err, &mistakes) || len(mistakes) != 51 {
		t.Fatalf("%d mistakes", len(mistakes))
	}
	for _, want := range []string{"1001 mistakes:\n  1. ", "\n  50. ", "\n  … and 951 more"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
	if last := mistakes[50]; last.Where != "" || last.Problem != "… and 951 more mistakes" {
		t.Errorf("%+v", last)
	}
	several := append(append(config.Mistakes{}, mistakes...), mistakes...) // of two checks
	several.Add(strings.Repeat("k", 1000), "%s", strings.Repeat("p", 1<<20))
	if said := several.Error(); !strings.HasPrefix(said, "2003 mistakes:") || !strings.HasSuffix(said, "\n  … and 1953 more") {
		t.Errorf("%.20s … %s", said, said[len(said)-30:])
	}
	one := config.Mistakes{}
	one.Add(strings.Repeat("k", 1000), "%s", strings.Repeat("p", 1<<20))
	if n := len(one.Error()); n > 2500 {
		t.Errorf("%d bytes for one", n)
	}
}

func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return strings.TrimSuffix(b.String(), ",")
}

// Lists have an end, and the message says where.
func TestLongLists(t *testing.T) {
	for _, n := range []int{maxNames, maxNames + 1} {
		for name, annotation := range map[string][2]string{
			"containers":      {"containers", numbered("c%d,", n)},
			"skip-containers": {"skip-containers", numbered("c%d,", n)},
			"api-allow":       {"api-allow", numbered("c%d,", n)},
			"env":             {"env", "{" + numbered("A%d: a,", n) + "}"},
			"from":            {"secret.x", "{format: template, template: x, from: {" + numbered("a%d: a,", n) + "}}"},
			"keys":            {"secret.x", "{name: a, format: env, keys: {" + numbered("a%d: a,", n) + "}}"},
			"of one file":     {"secret.x", "{name: a, containers: [" + numbered("c%d,", n) + "]}"},
		} {
			annotations := map[string]string{Prefix + "inject": "true", Prefix + "secret.db": "app/db", Prefix + annotation[0]: annotation[1]}
			if annotation[0] == "api-allow" {
				annotations[Prefix+"api"] = "true"
			}
			_, err := Parse(annotations)
			if n == maxNames && err != nil || n > maxNames &&
				(err == nil || !strings.Contains(err.Error(), "has 1001 names in it; at most 1000 are allowed")) {
				t.Errorf("%s: %d: %.300v", name, n, err)
			}
		}
	}
}

// hostile are values of one annotation, as long as it may be.
func hostile() map[string]string {
	return map[string]string{
		"a list":                 "{name: a, containers: [" + strings.Repeat("a,", 32000) + "a]}",
		"a mapping":              "{name: a, keys: {" + strings.Repeat("a: b,", 13000) + "a: b}}",
		"a list in lines":        "name: a\ncontainers:\n" + strings.Repeat("- a\n", 16000),
		"a list without commas":  strings.Repeat("- ", 32000),
		"explicit keys":          strings.Repeat("? ", 32000),
		"brackets":               "{name: a, keys: " + strings.Repeat("[", 2900),
		"anchors":                "{name: a, containers: [" + strings.Repeat("&a a,*a,", 8000) + "a]}",
		"tags":                   "{name: a, containers: [" + strings.Repeat("!a ", 16000) + "]}",
		"comments":               "name: a #" + strings.Repeat("#\n#a\n", 13000),
		"empty lines":            "name: a\nformat: template\ntemplate: |\n" + strings.Repeat("\n", 64000),
		"empty lines of a text":  "name: a\nformat: template\ntemplate: |\n  a\n" + strings.Repeat("\n", 64000) + "  b",
		"fields":                 strings.Repeat("a: b\n", 13000),
		"carriage returns":       "name: |\n a\n" + strings.Repeat("\r", 64000),
		"a long word":            "{name: " + strings.Repeat("a ", 32000) + "}",
		"escapes":                "{name: \"" + strings.Repeat("\\n", 32000) + "\"}",
		"a long text":            "name: a\nformat: template\ntemplate: |\n" + strings.Repeat("  {{a}}, b: c\n", 4600),
		"comments below a text":  "template: |\n    a\n" + strings.Repeat(" # b\n", 12000),
		"items below a text":     "template: |\n    a\n" + strings.Repeat("  - b\n", 10000),
		"returns in a text":      "template: |\n  a\r" + strings.Repeat("? a\r", 15000),
		"fields after a text":    "template: |\n  a\n" + strings.Repeat("a: [b]\n", 9000),
		"a text in a quote":      "name: \"\nkeys: |\n  \", b, {" + strings.Repeat("a: b,", 12000) + "}",
		"a text in a list":       "containers: [\nkeys: |\n  " + strings.Repeat("a,", 30000) + "]",
		"lines of a quoted text": "{name: \"" + strings.Repeat("a\n", 32000) + "\"}",
		"directives":             strings.Repeat("%A\n", 21000),
		"documents":              strings.Repeat("---\n", 16000),
	}
}

// A long template is no YAML to count: it stands in its lines as it is.
func TestLongTemplate(t *testing.T) {
	text := strings.Repeat("{\"a\": [{{ .db.user }}, {{ .db.password }}],\n\n  # é\n}\n", 1000)
	for _, from := range []string{"{db: app/db, api: app/key}", "\n  db: app/db\n  api: app/key"} {
		value := "format: template\nfrom: " + from + "\nmode: \"0440\"\ncontainers: [web, worker]\npath: conf/x.json\ntemplate: |\n  " +
			strings.ReplaceAll(text, "\n", "\n  ")
		spec, err := Parse(map[string]string{Prefix + "inject": "true", Prefix + "secret.x": value})
		if err != nil || len(text) < 50_000 || spec.Secrets[0].Template != text {
			t.Errorf("%d bytes of template: %.300v", len(text), err)
		}
	}
}

// Whatever is written into as many annotations as there can be, it costs in proportion.
func TestHostileValues(t *testing.T) {
	for name, value := range hostile() {
		annotations, size := map[string]string{Prefix + "inject": "true"}, 0
		for i := range 4 {
			key := fmt.Sprintf("%ssecret.%d", Prefix, i)
			annotations[key] = value[:min(len(value), 65000)]
			size += len(key) + len(annotations[key])
		}
		t.Run(name, func(t *testing.T) {
			bounds.Allocations(t, size, func() { Parse(annotations) }) //nolint:errcheck // refused or not
			for tokens(value) > maxTokens-10 {                         // as much as is read
				value = value[:len(value)-1-len(value)/100]
			}
			one := map[string]string{Prefix + "inject": "true", Prefix + "env": value}
			bounds.Allocations(t, len(value), func() { Parse(one) }) //nolint:errcheck // refused or not
		})
	}
}
