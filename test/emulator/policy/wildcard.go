package policy

import (
	"regexp"
	"strings"
)

var wildcards = strings.NewReplacer(`\*`, `.*`, `\?`, `.`)

// Match reports whether value matches pattern, in which * stands for any run of characters, also none, and ? for one.
// There is no escape, and / is a character like any other: acs:kms:*:*:secret/app/* covers app/prod/db.
func Match(pattern, value string) bool {
	valid := func(text string) string { return strings.ToValidUTF8(text, "\uFFFD") } // as package regexp wants it
	return regexp.MustCompile(`(?s)^` + wildcards.Replace(regexp.QuoteMeta(valid(pattern))) + `$`).MatchString(valid(value))
}
