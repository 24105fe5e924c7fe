package certificate

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"
)

const commonName = "kms-webhook-ca"

func TestMerge(t *testing.T) {
	now := time.Now()
	a, _ := newTestAuthority(t)
	b, _ := newTestAuthority(t)
	both := merge(a, b, commonName, now)
	if string(both) != string(merge(b, a, commonName, now)) || string(both) != string(merge(both, a, commonName, now)) ||
		len(parse(both)) != 2 {
		t.Errorf("merging is not the same in every order")
	}
	if got := merge([]byte("something else"), a, commonName, now); string(got) != string(a) {
		t.Errorf("rubbish stayed in the bundle: %s", got)
	}
	if got := merge(a, b, commonName, now.Add(2*time.Hour)); len(got) != 0 {
		t.Errorf("expired authorities stayed in the bundle: %s", got)
	}
	bundle := a
	for range 10 {
		next, _ := newTestAuthority(t)
		bundle = merge(bundle, next, commonName, now)
	}
	if n := len(parse(bundle)); n != maxBundle {
		t.Errorf("the bundle grew to %d", n)
	}
	if got := merge(bundle, a, commonName, now); !strings.Contains(string(got), string(a)) || len(parse(got)) != maxBundle {
		t.Errorf("an authority that came back is not in the bundle: %s", got)
	}
	var current []byte // more than maxBundle
	for range maxBundle + 2 {
		next, _ := newTestAuthority(t)
		current = append(current, next...)
	}
	if got := merge(bundle, current, commonName, now); len(parse(got)) != maxBundle+2 || len(parse(merge(got, current, commonName, now))) !=
		maxBundle+2 || slices.ContainsFunc(parse(current), func(c *x509.Certificate) bool { return !slices.ContainsFunc(parse(got), c.Equal) }) {
		t.Errorf("%d of %d current authorities are in the bundle", len(parse(got)), maxBundle+2)
	}
	if got := merge(a, b, "another name", now); string(got) != string(b) {
		t.Errorf("got\n%s\nwant the authority that is used, whatever its name, and no other\n%s", got, b)
	}
}
