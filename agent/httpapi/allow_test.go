package httpapi

import "testing"

func TestAllowList(t *testing.T) {
	const arn = "acs:kms:cn-hangzhou:1:secret/app/db"
	for _, c := range []struct {
		entry, id string
		want      bool
	}{
		{"app/db", "app/db", true},
		{"app/db", "app/DB", false},
		{"app/db", "app/db2", false},
		{"app/db", arn, false},
		{arn, arn, true},
		{arn, "app/db", false},
		{"app/*", "app/db", true},
		{"app/*", "app/", true},
		{"app/*", "app", false},
		{"app/*", "other/app/db", false},
		{"*/db", "app/db", true},
		{"*/db", arn, false}, // names only
		{"a*s:*", arn, false},
		{"acs:kms:cn-hangzhou:1:secret/*", arn, true},
		{"acs:kms:*:2:secret/*", arn, false},
		{"*", "app/db", true},
		{"*", arn, true},
		{"a*a", "a", false},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "a-c-b", false},
		{"a*b*x*c", "a-x-b-c", false}, // in that order
		{"a*b*b*c", "a-b-c", false},   // each part has text of its own
		{"ab*bc*d", "abcd", false},
		{"a*bc*cd", "abcd", false},
		{"", "", true},
	} {
		if got := allows([]string{"x/y", c.entry}, c.id); got != c.want {
			t.Errorf("%q allows %q: %v", c.entry, c.id, got)
		}
	}
	if allows(nil, "app/db") {
		t.Error("an empty list allows")
	}
}
