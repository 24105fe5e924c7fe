package agent

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The program goes on working, with less of its file in memory; other tests may be using some of it at the moment.
func TestGiveBack(t *testing.T) {
	rested := false
	a := &Agent{rest: func() { rested = true }}
	before := residentFile(t)
	a.giveBack()
	if after := residentFile(t); after > before*9/10 {
		t.Errorf("%d kB of the program's file were in memory, and still %d kB are", before, after)
	}
	if !rested {
		t.Error("the connections stay open")
	}
}

// Of a position-independent program: code, constants, constants that the loader has written, the same with a page swapped out,
// variables; and of another file.
func TestWhatIsNotAsInTheFileStaysInMemory(t *testing.T) {
	var smaps strings.Builder
	for _, m := range []struct{ header, anonymous, swap string }{
		{"1000-2000 r-xp 00000000 fe:00 7                    /kms-agent", "0", "0"},
		{"2000-3000 r--p 00001000 fe:00 7                    /kms-agent", "0", "0"},
		{"3000-4000 r--p 00002000 fe:00 7                    /kms-agent", "4", "0"},
		{"4000-5000 r--p 00003000 fe:00 7                    /kms-agent", "0", "4"},
		{"5000-6000 rw-p 00004000 fe:00 7                    /kms-agent", "0", "0"},
		{"6000-7000 rw-p 00000000 00:00 0", "0", "0"},
		{"7000-8000 r-xp 00000000 fe:00 8                    /lib/libc.so.6", "0", "0"},
		{"8000-9000 rw-p 00000000 00:00 0                    [stack]", "0", "0"},
	} {
		fmt.Fprintf(&smaps, "%s\nRss:  4 kB\nAnonymous:  %s kB\nSwap:  %s kB\nSwapPss:  0 kB\nVmFlags: rd mr mw me\n", m.header, m.anonymous, m.swap)
	}
	want := []addresses{{0x1000, 0x2000}, {0x2000, 0x3000}}
	if got := asInFile(smaps.String(), "/kms-agent"); !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

// residentFile is how much of files this process has in memory, in kB.
func residentFile(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`RssFile:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		t.Fatalf("no RssFile in\n%s", status)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
