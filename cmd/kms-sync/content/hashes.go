package content

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

const (
	// mostHashes are the calls of bcrypt and htpasswd that an object's templates may make: each takes a twentieth of a second, and as much
	// for each hash of the present value that it tries.
	mostHashes = 4
	workOfHash = maxWork / (mostHashes + 1)
)

// ofBcrypt finds hashes of the cost that bcrypt has here. One of another cost could take hours to try.
var ofBcrypt = regexp.MustCompile(`\$2[aby]\$10\$[./A-Za-z0-9]{53}`)

// hashes are those of the key that a template makes. A hash has a random part, so that the Secret stays as it is only if the present one
// is taken whenever it fits the password.
type hashes struct {
	present func() []byte // the key's value; nil: the template makes no key of the Secret
	text    string        // the template's, and the values that it sees: with hashes that are not the templates' own
	values  map[string]any
	left    []string // of the present value, those that no call has taken; nil: it was not looked at
	made    []string
}

// own returns the hashes of a text that templates may have made.
func (h hashes) own(text string) []string {
	strange := map[string]bool{}
	note := func(text string) {
		for _, hash := range ofBcrypt.FindAllString(text, -1) {
			strange[hash] = true
		}
	}
	note(h.text)
	for _, value := range h.values {
		text, _ := value.(string)
		note(text)
	}
	own := []string{}
	for _, hash := range ofBcrypt.FindAllString(text, -1) {
		if !strange[hash] && len(own) < mostHashes {
			own, strange[hash] = append(own, hash), true
		}
	}
	return own
}

// bcrypt returns a hash of a password: the present one that fits, else a new one.
func (e *engine) bcrypt(password string) (string, error) {
	h := &e.hashes
	if h.present == nil {
		return "", problem("bcrypt and htpasswd are for target.template.data: the present hash of a label or an annotation is not looked at, " +
			"and a new one would change it at each refresh")
	}
	if h.left == nil {
		h.left = h.own(string(h.present()))
	}
	for i, hash := range h.left {
		if bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil {
			h.left = slices.Delete(h.left, i, i+1)
			h.made = append(h.made, hash)
			return hash, nil
		}
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		return "", problem("bcrypt takes at most 72 bytes")
	}
	h.made = append(h.made, string(hash))
	return string(hash), nil
}

// htpasswd returns a line of a file of users, as Apache and nginx read it.
func (e *engine) htpasswd(user, password string) (string, error) {
	if user == "" || strings.ContainsAny(user, ":\r\n") {
		return "", problem("htpasswd: the user's name is empty, or has a colon or the end of a line in it")
	}
	hash, err := e.bcrypt(password)
	return fmt.Sprintf("%s:%s", user, hash), err
}

// check returns an error if the next refresh would not find a hash in the result, and so make another one.
func (h hashes) check(result string) error {
	if len(h.made) == 0 {
		return nil
	}
	own := h.own(result)
	for _, hash := range h.made {
		if !slices.Contains(own, hash) {
			return problem("a hash of bcrypt or htpasswd is not in the result as it is, so that the next refresh would make another one; write it " +
				"without encoding or cutting it")
		}
	}
	return nil
}
