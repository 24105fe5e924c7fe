package agent

import "runtime/debug"

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
}
