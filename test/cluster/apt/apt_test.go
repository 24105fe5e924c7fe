package apt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A machine with nothing but an apt-get that brings what it is asked for.
func fakeMachine(t *testing.T, aptGet string) (bin string) {
	t.Helper()
	bin = t.TempDir()
	t.Setenv("PATH", bin)
	if aptGet != "" {
		script := "#!/bin/sh\necho \"$@\" >>" + bin + "/calls\n" + aptGet
		if err := os.WriteFile(filepath.Join(bin, "apt-get"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

func noLog(t *testing.T) func(string, ...any) {
	return func(format string, args ...any) { t.Errorf("unexpected line: "+format, args...) }
}

func TestNothingMissingRunsNothing(t *testing.T) {
	fakeMachine(t, "exit 1")
	if err := Ensure(t.Context(), noLog(t), Need{Package: "apt", File: "apt-get"}, Need{Package: "any", File: "/et*/passwd"}); err != nil {
		t.Error(err)
	}
}

func TestInstallsWhatIsMissing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: Ensure refuses, see TestSaysWhatToDo")
		return
	}
	bin := fakeMachine(t, `case "$*" in *install*) : >"${0%/*}/there"; /bin/chmod +x "${0%/*}/there" ;; esac`)
	lines := 0
	err := Ensure(t.Context(), func(string, ...any) { lines++ },
		Need{Package: "pack", File: "there"}, Need{Package: "pack", File: filepath.Join(bin, "ther?")})
	if err != nil {
		t.Fatal(err)
	}
	calls, err := os.ReadFile(filepath.Join(bin, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(string(calls)), "\n")
	if len(got) != 2 || !strings.HasSuffix(got[0], " update") || !strings.HasSuffix(got[1], " install --yes --no-install-recommends pack") ||
		lines != 1 {
		t.Errorf("apt-get was called with %q, and %d lines printed", got, lines)
	}
}

func TestSaysWhatToDo(t *testing.T) {
	for name, c := range map[string]struct{ aptGet, want string }{
		"no apt-get":       {"", "install the equivalent of the Debian packages nft-package"},
		"apt-get fails":    {"echo no such package; exit 100", "no such package"},
		"package is wrong": {"exit 0", "nft-test still missing"},
	} {
		fakeMachine(t, c.aptGet)
		err := Ensure(t.Context(), func(string, ...any) {}, Need{Package: "nft-package", File: "nft-test"})
		want := c.want
		if c.aptGet != "" && os.Geteuid() != 0 {
			want = "run as root"
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one that says %q", name, err, want)
		}
	}
}
