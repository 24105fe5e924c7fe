package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// allowed are the licences that a program under Apache-2.0 may be linked under without more being asked for than to pass on
// their texts.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "0BSD", "Unlicense"}

// withoutLicense are modules that come without any; their authors publish everything else of the same kind under Apache-2.0.
const withoutLicense = "github.com/alibabacloud-go/darabonba-"

func TestLicenses(t *testing.T) {
	const path = "../../" + licensesFile
	want, err := licenses(t.Context(), "../..")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s is not about what the programs are linked of now; run make licenses", licensesFile)
	}

	dependencies, err := linked(t.Context(), "../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(dependencies) < 50 {
		t.Errorf("there are %d modules, which cannot be all", len(dependencies))
	}
	for _, d := range dependencies {
		for _, id := range d.licenses {
			if !slices.Contains(allowed, id) && (id != unstated || !strings.HasPrefix(d.path, withoutLicense)) {
				t.Errorf("%s is under %s; may we link it?", d.path, id)
			}
		}
	}
}
