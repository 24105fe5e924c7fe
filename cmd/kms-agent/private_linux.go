package main

import "syscall"

// keepMemoryPrivate has the kernel write no core dump of this process, and keep others of the same user, such as the pod's
// containers when they share the agent's process namespace, from its memory, its environment and its open files in /proc. Only
// an old kernel in a strange sandbox refuses, and there is nothing better to do then than to go on.
func keepMemoryPrivate() {
	const setDumpable = 4 // PR_SET_DUMPABLE; a program that this process becomes can be dumped again
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setDumpable, 0, 0)
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}
