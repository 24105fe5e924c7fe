package config

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// The shapes of Alibaba Cloud's and Kubernetes' names, as far as a document can be checked without asking either.
var (
	arnSecret = shape(`^acs:kms:[a-z0-9-]+:[0-9]+:secret/[^\s]+$`)
	region    = shape(`^[a-z]{2}(-[a-z0-9]+)+$`)
	clusterID = shape(`^[a-z0-9-]+$`)
	// A bare host name. With a scheme, a port or capitals the request's signature is over another name than the server's.
	hostName = shape(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
	// https://www.alibabacloud.com/help/en/kms/key-management-service/support/kms-endpoints; some write it with the region.
	instanceHost = shape(`^[a-z0-9-]+\.cryptoservice\.kms(\.[a-z0-9-]+)?\.aliyuncs\.com$`)
	// A file's name that a Unix socket's address has room for.
	fileName = shape(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$`)
	// resource.Quantity's grammar: https://pkg.go.dev/k8s.io/apimachinery/pkg/api/resource#Quantity, without a sign.
	quantity = shape(`^([0-9]+(\.[0-9]*)?|\.[0-9]+)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?[0-9]+)?$`)
)

// shape is compiled when it is first asked: the agent, which starts in every pod, asks for hardly any.
func shape(expression string) func(string) bool {
	compiled := sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
	return func(s string) bool { return compiled().MatchString(s) }
}

// Those that every injection asks for are not left to regular expressions.

// IsRoleARN reports whether a text is the ARN of a RAM role: acs:ram::<account>:role/<name>.
func IsRoleARN(s string) bool {
	rest, ram := strings.CutPrefix(s, "acs:ram::")
	account, role, found := strings.Cut(rest, ":role/")
	return ram && found && only(account, digit) && only(role, inRoleName)
}

// IsRoleName reports whether a text is the name of a RAM role.
func IsRoleName(s string) bool { return len(s) <= 64 && only(s, inRoleName) }

// account is an account's number.
func account(s string) bool { return only(s, digit) }

// identifier is the name of an environment variable, or one that a template reaches as .name.
func identifier(s string) bool {
	return only(s, func(c byte) bool { return letter(c) || digit(c) || c == '_' }) && !digit(s[0])
}

func inRoleName(c byte) bool {
	return letter(c) || digit(c) || c == '.' || c == '_' || c == '@' || c == '-'
}

func letter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func digit(c byte) bool { return '0' <= c && c <= '9' }

// only reports whether a text has some bytes, and none that are not in a set.
func only(s string, in func(byte) bool) bool {
	for i := range len(s) {
		if !in(s[i]) {
			return false
		}
	}
	return s != ""
}

// checkSecretName does not quote what is no name at all: it may be the secret itself, pasted by somebody in a hurry.
func checkSecretName(s string) error {
	switch {
	case s == "":
		return errors.New("a KMS secret's name or ARN is missing; write for example app/prod/db")
	case strings.HasPrefix(s, "acs:"):
		if !arnSecret(s) {
			return fmt.Errorf("%q is not the ARN of a KMS secret; write acs:kms:<region>:<account>:secret/<name>", s)
		}
	case strings.ContainsFunc(s, unicode.IsSpace):
		return errors.New("its value is not the name of a KMS secret: it has white space in it; write for example app/prod/db, never a secret's own value")
	case len(s) > maxSecretName:
		return fmt.Errorf("its value is not the name of a KMS secret: it has %d bytes, and a name at most %d; write for example app/prod/db, never a secret's own value", len(s), maxSecretName)
	case strings.ContainsFunc(s, func(r rune) bool { return !inSecretName(r) }):
		return errors.New("its value is not the name of a KMS secret, which has letters, digits and / _ + = . @ - in it; write for example app/prod/db, never a secret's own value; to write more than a name use the long form (a YAML mapping with name: …)")
	}
	return nil
}

// https://www.alibabacloud.com/help/en/kms/support/api-kms-createsecret
const maxSecretName = 192

func inSecretName(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("/_+=.@-", r)
}

// checkFilePath accepts a clean path below the mount path. ".." first in a segment is refused even where it would stay inside
// ("..data"): those names belong to the atomic switch of the directory.
func checkFilePath(p string) error {
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

func parseFileMode(s string) (uint32, error) {
	m, err := strconv.ParseUint(s, 8, 32)
	if err != nil || m > 0o777 || m&0o400 == 0 {
		return 0, fmt.Errorf(`%q is not a mode of a file; write four octal digits that let the owner read, for example "0440"`, s)
	}
	return uint32(m), nil
}

// matches reports whether s matches a pattern in which * stands for any characters, "/" and ":" too, as in RAM policies.
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

func anyMatches(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, s) })
}
