package config

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// The shapes of Alibaba Cloud's and Kubernetes' names, as far as a document can be checked without asking either. Those that every
// injection asks for are not left to regular expressions.
var (
	regionShape   = shape(`^[a-z]{2}(-[a-z0-9]+)+$`)
	hostShape     = shape(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
	instanceShape = shape(`^[a-z0-9-]+\.cryptoservice\.kms(\.[a-z0-9-]+)?\.aliyuncs\.com$`)
	quantityShape = shape(`^([0-9]+(\.[0-9]*)?|\.[0-9]+)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?[0-9]+)?$`)
)

// IsRegion reports whether a text is the name of a region of Alibaba Cloud.
func IsRegion(s string) bool { return len(s) <= maxRegion && regionShape(s) }

// IsHostName reports whether a text is a bare host name. With a scheme, a port or capitals the request's signature is over another
// name than the server's.
func IsHostName(s string) bool { return len(s) <= maxHostName && hostShape(s) }

// InstanceGateway reports whether a host is the gateway of a KMS instance, the only one that takes a client key:
// https://www.alibabacloud.com/help/en/kms/key-management-service/support/kms-endpoints; some write it with the region.
func InstanceGateway(host string) bool { return instanceShape(host) }

// IsQuantity reports whether a text is a quantity in the grammar of resource.Quantity, without a sign:
// https://pkg.go.dev/k8s.io/apimachinery/pkg/api/resource#Quantity
func IsQuantity(s string) bool { return len(s) <= 64 && quantityShape(s) }

// shape is compiled when it is first asked: the agent, which starts in every pod, asks for hardly any.
func shape(expression string) func(string) bool {
	compiled := sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
	return func(s string) bool { return compiled().MatchString(s) }
}

// IsRoleARN reports whether a text is the ARN of a RAM role: acs:ram::<account>:role/<name>.
func IsRoleARN(s string) bool {
	rest, ram := strings.CutPrefix(s, "acs:ram::")
	account, role, found := strings.Cut(rest, ":role/")
	return ram && found && IsAccount(account) && IsRoleName(role)
}

// IsRoleName reports whether a text is the name of a RAM role.
func IsRoleName(s string) bool { return len(s) <= 64 && only(s, inRoleName) }

// IsAccount reports whether a text is the number of an account.
func IsAccount(s string) bool { return len(s) <= 32 && only(s, isDigit) }

// Identifier reports whether a text is the name of an environment variable, or one that a template reaches as .name. It is a JMESPath
// expression, too.
func Identifier(s string) bool {
	return only(s, func(c byte) bool { return isLetter(c) || isDigit(c) || c == '_' }) && !isDigit(s[0])
}

func inRoleName(c byte) bool {
	return isLetter(c) || isDigit(c) || c == '.' || c == '_' || c == '@' || c == '-'
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// only reports whether a text has some bytes, and none that are not in a set.
func only(s string, in func(byte) bool) bool {
	for i := range len(s) {
		if !in(s[i]) {
			return false
		}
	}
	return s != ""
}

// CheckSecretName returns an error unless s is the name or the ARN of a KMS secret. The error does not quote text that cannot be a name:
// a user in a hurry may have pasted the secret itself.
func CheckSecretName(s string) error {
	name, arn := s, strings.HasPrefix(s, acs)
	if arn {
		var ok bool
		if name, ok = cutSecretARN(s); !ok {
			return fmt.Errorf("%q is not the ARN of a KMS secret; write acs:kms:<region>:<account>:secret/<name>", s)
		}
	}
	problem := notASecretName(name)
	switch {
	case problem == "" && name != "":
		return nil
	case arn:
		return fmt.Errorf("%q is not the ARN of a KMS secret, since what follows secret/ is not the name of one: it %s; write "+
			"acs:kms:<region>:<account>:secret/<name>",
			s, cmp.Or(problem, "is empty"))
	case name == "":
		return errors.New("a KMS secret's name or ARN is missing; write for example app/prod/db")
	}
	return fmt.Errorf("its value is not the name of a KMS secret: it %s; write for example app/prod/db, never a secret's own value", problem)
}

// acs is the prefix of ARNs. No name of a secret has it.
const acs = "acs:"

// cutSecretARN is what acs:kms:<region>:<account>:secret/ is before. Its name may be none.
func cutSecretARN(arn string) (name string, ok bool) {
	rest, kms := strings.CutPrefix(arn, "acs:kms:")
	region, rest, _ := strings.Cut(rest, ":")
	account, rest, _ := strings.Cut(rest, ":")
	name, secret := strings.CutPrefix(rest, "secret/")
	inRegion := func(c byte) bool { return 'a' <= c && c <= 'z' || isDigit(c) || c == '-' }
	return name, kms && secret && len(region) <= maxRegion && only(region, inRegion) && IsAccount(account)
}

// A secret's name has at most 192 characters: https://www.alibabacloud.com/help/en/kms/support/api-kms-createsecret
const (
	maxSecretName = 192
	maxRegion     = 64
	maxHostName   = 253
)

// notASecretName says what is wrong with the name of a secret; "" means nothing. KMS takes ASCII letters and digits and / _ + = . @ -.
func notASecretName(s string) string {
	if strings.ContainsFunc(s, unicode.IsSpace) {
		return "has white space in it"
	}
	if len(s) > maxSecretName {
		return fmt.Sprintf("has %d bytes, and a name at most %d", len(s), maxSecretName)
	}
	for _, r := range s {
		switch {
		case r < utf8.RuneSelf && inSecretName(byte(r)):
		case '\uFF01' <= r && r <= '\uFF5E': // in the order of ASCII
			return fmt.Sprintf("has %U in it, the full-width form of %q; write %q", r, r-'\uFF01'+'!', r-'\uFF01'+'!')
		case r >= utf8.RuneSelf:
			return fmt.Sprintf("has %U in it, which is not ASCII, whatever it looks like", r)
		default:
			return "has other characters in it than letters, digits and / _ + = . @ -; to write more than a name use the long form (a YAML " +
				"mapping with name: …)"
		}
	}
	return ""
}

func inSecretName(c byte) bool {
	return isLetter(c) || isDigit(c) || strings.IndexByte("/_+=.@-", c) >= 0
}

// CheckSecretPattern holds a pattern of names, or one of ARNs, to the characters that these have.
func CheckSecretPattern(pattern string) error {
	arn := strings.HasPrefix(pattern, acs)
	if len(pattern) <= maxSecretName+128 && only(pattern, func(c byte) bool { return inSecretName(c) || c == '*' || arn && c == ':' }) {
		return nil
	}
	return fmt.Errorf("%q is not a pattern of secrets' names, such as app/prod/*, nor of ARNs, such as "+
		"acs:kms:*:1234567890123456:secret/app/*", pattern)
}

// MatchesSecret reports whether a pattern is about a secret, by its name or ARN. A name is of the role's own account, and an ARN may be of
// another's: a pattern that does not begin with acs: is about names only, and "*" alone is about every secret. A * in a pattern stands
// for any characters.
func MatchesSecret(pattern, secret string) bool {
	return pattern == "*" || strings.HasPrefix(pattern, acs) == strings.HasPrefix(secret, acs) && matches(pattern, secret)
}

// CheckFilePath accepts a clean path below the mount path. ".." first in a segment is refused even where it would stay inside
// ("..data"): those names belong to the atomic switch of the directory.
func CheckFilePath(p string) error {
	switch {
	case p == "":
		return errors.New("the path is empty")
	case strings.HasPrefix(p, "/"):
		return fmt.Errorf("%q is absolute; write a path below the mount path, for example conf/db.env", p)
	case len(p) > 512:
		return fmt.Errorf("the path has %d bytes; at most 512 are allowed", len(p))
	}
	for segment := range strings.SplitSeq(p, "/") {
		switch {
		case segment == "..":
			return fmt.Errorf("%q leaves the mount path; write a path below it, for example conf/db.env", p)
		case strings.HasPrefix(segment, ".."):
			return fmt.Errorf("%q: names that begin with two dots are used for switching the directory", p)
		case len(segment) > 255:
			return fmt.Errorf("%q has a name of %d bytes; at most 255 are allowed", p, len(segment))
		}
	}
	if path.Clean(p) != p || p == "." {
		return fmt.Errorf("%q is not a clean path; write %q", p, path.Clean(p))
	}
	if strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%q has control characters in it", p)
	}
	return nil
}

// AnyMatches reports whether a text matches any of the patterns, in which * stands for any characters, "/" and ":" too, as in RAM
// policies.
func AnyMatches(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, s) })
}

func matches(pattern, s string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	for {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], more
	}
}
