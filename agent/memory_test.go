package agent

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
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
