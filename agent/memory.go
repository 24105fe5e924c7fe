package agent

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

// localBytes is how many bytes of values the local API keeps: a quarter of the memory limit (GOMEMLIMIT), as there are the
// connections, the files' own values and the garbage collector's room beside them. More than 1,000 values of 32 kB it never needs.
func localBytes() int {
	return int(min(debug.SetMemoryLimit(-1)/4, localSize*32<<10))
}

// giveBack returns to the system what a refresh needed: the next one is minutes away, and an agent is in every pod.
func (a *Agent) giveBack() {
	if a.rest != nil {
		a.rest() // a connection has 50 kB of buffers and stacks
	}
	debug.FreeOSMemory()
	unmapProgram()
}

// unmapProgram gives up the pages of the program's own file, which the kernel maps whole around whatever is needed: code and
// constants, most of them for TLS and the SDKs. They stay in the page cache, which all agents of a node share, and come back
// from there one by one when they are needed, but this process keeps none of them there. It is 9 MB of an idle sidecar's
// resident 15 MB; its heap, stacks and variables, 4.5 MB, are not touched.
func unmapProgram() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	mappings, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, pages := range asInFile(string(mappings), program) {
		// It is about memory alone: if the kernel refuses, the pages stay.
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, pages.begin, pages.end-pages.begin, syscall.MADV_DONTNEED)
	}
}

type addresses struct{ begin, end uintptr }

// asInFile are the read-only mappings of a file that are what it has. Some are not: in a position-independent program, constants
// with addresses in them were written when it was loaded, and would come back without.
func asInFile(mappings, file string) []addresses {
	var found []addresses
	var pages addresses
	for line := range strings.Lines(mappings) {
		switch fields := strings.Fields(line); {
		case len(fields) == 6 && strings.Contains(fields[0], "-"): // 00400000-0097b000 r-xp 00000000 fe:00 11846000 /kms-agent
			pages = addresses{}
			from, to, _ := strings.Cut(fields[0], "-")
			begin, beginErr := strconv.ParseUint(from, 16, 64)
			end, endErr := strconv.ParseUint(to, 16, 64)
			if fields[5] == file && !strings.Contains(fields[1], "w") && beginErr == nil && endErr == nil {
				pages = addresses{uintptr(begin), uintptr(end)}
			}
		case len(fields) == 3 && (fields[0] == "Anonymous:" || fields[0] == "Swap:") && fields[1] != "0":
			pages = addresses{}
		case len(fields) > 0 && fields[0] == "VmFlags:" && pages != addresses{}: // the last of a mapping
			found = append(found, pages)
			pages = addresses{}
		}
	}
	return found
}
