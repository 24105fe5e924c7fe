package content

import (
	"fmt"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// Compat has kms-sync do what ack-secret-manager does where that is not what is documented. All are off unless the administrator
// switches them on: compat.<name>.
type Compat struct {
	ReplaceRuleValues   bool
	FloatForm           bool
	TrailingNewline     bool
	JMESPathFallback    bool
	MissingTemplateKeys bool
	FailedTemplates     bool
}

// A Difference is one between ack-secret-manager 0.6.7 and kms-sync.
type Difference struct {
	Switch   string // compat.<Switch> has kms-sync do as the original; "": there is none, and Why says why
	Field    string // of an ExternalSecret
	Original string
	Ours     string
	Why      string

	on func(*Compat) *bool
}

// Differences are all there are in what becomes of an ExternalSecret.
func Differences() []Difference { return differences }

var differences = []Difference{
	{
		Switch: "replaceRuleValues", on: func(c *Compat) *bool { return &c.ReplaceRuleValues },
		Field:    "dataProcess[].replaceRule",
		Original: "`source` is also replaced, as a literal, in the values: a rule for `-` changes the password `p-ss`",
		Ours:     "only names of keys are rewritten",
	},
	{
		Switch: "floatForm", on: func(c *Compat) *bool { return &c.FloatForm },
		Field:    "data[].jmesPath, dataProcess[].extract, templates",
		Original: "numbers take Go's form: `1234567.5` becomes `1.2345675e+06`, `9007199254740993` becomes `9007199254740992`",
		Ours:     "numbers stay as they are written",
	},
	{
		Field:    "data[].jmesPath, dataProcess[].extract",
		Original: "YAML's other notations of numbers and dates are converted: `0644` becomes `420`, `2026-01-02` a time of day too",
		Ours:     "they stay as they are written",
		Why:      "it is what was stored",
	},
	{
		Switch: "trailingNewline", on: func(c *Compat) *bool { return &c.TrailingNewline },
		Field:    "dataProcess[].extract, data[].jmesPath",
		Original: "what is no text in a YAML document gets a line end: `3306\\n`",
		Ours:     "nothing is added",
	},
	{
		Switch: "jmesPathFallback", on: func(c *Compat) *bool { return &c.JMESPathFallback },
		Field:    "data[].jmesPath",
		Original: "an expression that finds nothing is skipped; if none finds anything, the whole secret is written under `name`",
		Ours:     "each is an error, which names the keys there are; nothing is written",
	},
	{
		Switch: "missingTemplateKeys", on: func(c *Compat) *bool { return &c.MissingTemplateKeys },
		Field: "target.template",
		Original: "a key that does not exist is written as `<no value>`; `jsonPath` and `mergeJson` return an empty text or their input when " +
			"they fail",
		Ours: "each is an error, which names the keys there are",
	},
	{
		Switch: "failedTemplates", on: func(c *Compat) *bool { return &c.FailedTemplates },
		Field:    "target.template",
		Original: "a template that fails is left out, and the rest is written",
		Ours:     "it is an error; nothing is written",
	},
	{
		Field:    "target.template",
		Original: "`env`, `expandenv`, `getHostByName` are functions of templates",
		Ours:     "an object with them is refused",
		Why:      "they hand the controller's environment to every tenant",
	},
	{
		Field:    "target.template",
		Original: "`bcrypt`, `htpasswd` make a new hash at each refresh",
		Ours:     "the present hash stays while it fits the password; four calls for an object",
		Why:      "the Secret would change at each refresh, and what watches it would restart pods",
	},
	{
		Field: "target.template",
		Original: "`rand…`, `gen…`, `uuidv4`, `shuffle`, `now`, dates of now, `encryptAES` make a new value at each " +
			"refresh",
		Ours: "an object with them is refused",
		Why:  "the Secret would change at each refresh, and what watches it would restart pods",
	},
	{
		Field:    "target.template",
		Original: "templates may take any time and memory",
		Ours:     "their work and their output are bounded; `derivePassword`, which takes 32 MB a call, is refused",
		Why:      "one tenant's template must not take the controller away from the others",
	},
	{
		Field:    "dataProcess[].replaceRule",
		Original: "of two keys whose names become equal, one is lost, at random at each refresh",
		Ours:     "an error that names both",
		Why:      "no choice of the two is right",
	},
	{
		Field:    "dataProcess[].extract.jmesPath",
		Original: "not evaluated: only a path that equals a key renames it",
		Ours:     "a path that equals a key renames it; any other is evaluated, and what it picks is one more key",
		Why:      "it is what is documented, and adds to what the original does",
	},
	{
		Field:    "data[].key, data[].name, jmesPath[].objectAlias",
		Original: "a name that is no key of a Secret fails when the Secret is written",
		Ours:     "the object is refused, with the name that is wrong",
		Why:      "nothing could be written",
	},
	{
		Field:    "data[].versionId, data[].versionStage",
		Original: "both are sent",
		Ours:     "an object with both in one entry is refused",
		Why:      "a version ID that has lost the stage fails at the next rotation",
	},
	{
		Field:    "dataProcess[]",
		Original: "an entry without `extract` is skipped",
		Ours:     "the object is refused",
		Why:      "it does nothing",
	},
	{
		Field:    "type, target.template.type",
		Original: "any type, also those of ServiceAccount tokens and bootstrap tokens",
		Ours:     "these two are refused; required keys of the others are checked",
		Why:      "Kubernetes puts a credential into the one and takes the other for one",
	},
	{
		Field:    "data, dataProcess, replaceRule, jmesPath, target.template",
		Original: "as many as the API server takes, as often as they like",
		Ours:     "numbers and work are limited, by far more than a Secret needs",
		Why:      "one tenant's object must not take the controller away from the others",
	},
	{
		Field:    "rotationInterval",
		Original: "any duration, also `1ms`",
		Ours:     "at least `10s`",
		Why:      "the quota of KMS is everybody's",
	},
	{
		Field:    "target.template.data, target.template.metadata",
		Original: "names that Kubernetes does not allow are left out; such values fail when the Secret is written",
		Ours:     "an error that names the key, label or annotation",
		Why:      "nothing could be written",
	},
}

// ParseCompat returns the Compat in which the switches of these names are on. Known are further names, for the error.
func ParseCompat(names []string, known ...string) (Compat, error) {
	var c Compat
	for _, d := range differences {
		if d.Switch != "" {
			known = append(known, d.Switch)
		}
	}
	for _, name := range names {
		found := false
		for _, d := range differences {
			if d.Switch != "" && d.Switch == strings.TrimPrefix(name, "compat.") {
				*d.on(&c), found = true, true
			}
		}
		if !found {
			return c, fmt.Errorf("compat: %w", config.NotOneOf(name, known))
		}
	}
	return c, nil
}

// Table writes the differences in Markdown.
func Table() string {
	var out strings.Builder
	out.WriteString("| field | ack-secret-manager 0.6.7 | kms-sync | to have it as before |\n|---|---|---|---|\n")
	for _, d := range differences {
		undo := "no switch: " + d.Why
		if d.Switch != "" {
			undo = "`compat." + d.Switch + "`"
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", strings.ReplaceAll(d.Field, ", ", "`, `"), d.Original, d.Ours, undo)
	}
	return out.String()
}
