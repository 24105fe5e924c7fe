package main

import (
	"slices"
	"testing"
)

// kubectl runs kubectl_complete-kms with what was typed after kubectl kms.
func TestArguments(t *testing.T) {
	for name, want := range map[string][]string{
		"/bin/kubectl-kms":             {"doctor", ""},
		"/bin/kubectl_complete-kms":    {"__complete", "doctor", ""},
		"bin/kubectl_complete-kms.exe": {"__complete", "doctor", ""},
	} {
		if got := arguments([]string{name, "doctor", ""}); !slices.Equal(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
