package notify

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// asProgram makes the test binary a program that prints the signals that it gets; with "parent" it has a child like itself.
const asProgram = "NOTIFY_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	switch os.Getenv(asProgram) {
	case "":
		os.Exit(m.Run())
	case "parent":
		child := exec.Command(os.Args[0])
		child.Path, child.Env, child.Stdout = "/proc/self/exe", []string{asProgram + "=child"}, os.Stdout
		child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := child.Start(); err != nil {
			panic(err)
		}
	}
	got := make(chan os.Signal, 10)
	signal.Notify(got, syscall.SIGHUP, syscall.SIGUSR1)
	fmt.Println(os.Getenv(asProgram), "ready")
	for s := range got {
		fmt.Println(os.Getenv(asProgram), s)
	}
}

// program starts a process and its child under a name, and returns what they print.
func program(t *testing.T, name string) (pid int, lines <-chan string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "/proc/self/exe")
	c.Args = []string{"/opt/bin/" + name}
	c.Env = []string{asProgram + "=parent"}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	all := make(chan string, 100)
	go func() {
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			all <- scanner.Text()
		}
		close(all)
	}()
	for range 2 { // parent and child
		next(t, all)
	}
	return c.Process.Pid, all
}

func next(t *testing.T, lines <-chan string) string {
	t.Helper()
	line, ok := <-lines
	if !ok {
		t.Fatal("it printed nothing more")
	}
	return line
}

func TestSignalGoesToTheEldest(t *testing.T) {
	name := fmt.Sprint("notify-test-", os.Getpid())
	_, lines := program(t, name)
	n := quiet()
	for range 3 {
		n.notify(t.Context(), target(t, "signal:HUP:"+name), Change{})
		n.Wait()
		if line := next(t, lines); line != "parent hangup" {
			t.Errorf("printed %q", line)
		}
	}
	if delivered, failed := n.Counts(); delivered != 3 || failed != 0 {
		t.Errorf("%d delivered, %d failed", delivered, failed)
	}
}

func TestSignalWithoutAProcess(t *testing.T) {
	n := quiet()
	if err := n.send(syscall.SIGHUP, "no-process-of-this-name"); err == nil || !strings.Contains(err.Error(), "without its directory") {
		t.Errorf("got %v", err)
	}
	// The agent itself is none of those that it looks for.
	self, err := n.read(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if found, _, err := n.find(self.program); err != nil || len(found) > 0 && found[0].pid == os.Getpid() {
		t.Errorf("found %v, %v", found, err)
	}
}

// inPod makes up a /proc, which shows what a machine of one's own does not: a pod's. It returns what adds a process.
func inPod(t *testing.T, n *Notifier) (put func(pid, parent int, state, name, arguments string)) {
	n.proc = t.TempDir()
	return func(pid, parent int, state, name, arguments string) {
		directory := filepath.Join(n.proc, fmt.Sprint(pid))
		if err := os.MkdirAll(directory, 0o755); err != nil {
			t.Fatal(err)
		}
		status := fmt.Sprintf("Name:\t%s\nState:\t%s\nPid:\t%d\nPPid:\t%d\nUid:\t33\t33\t33\t33\n", name, state, pid, parent)
		for file, content := range map[string]string{"status": status, "cmdline": arguments} {
			if err := os.WriteFile(filepath.Join(directory, file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Of two containers with a server of the same name, one cannot be signalled, which no attempt changes: the other hears once.
func TestSignalIsNotRepeatedForThoseThatHaveIt(t *testing.T) {
	name := fmt.Sprint("notify-test-", os.Getpid())
	pid, lines := program(t, name)
	n := quiet()
	put := inPod(t, n)
	put(pid, 1, "S (sleeping)", name, name+"\x00")
	put(1000007, 1, "S (sleeping)", name, name+"\x00") // the kernel knows of no such process
	if err := n.send(syscall.SIGHUP, name); err != nil {
		t.Errorf("it would be sent again: %v", err)
	}
	if line := next(t, lines); line != "parent hangup" {
		t.Errorf("printed %q", line)
	}
}

// The number of a process that has ended is another's now.
func TestSignalDoesNotGoToAnotherOfTheSameNumber(t *testing.T) {
	name := fmt.Sprint("notify-test-", os.Getpid())
	pid, lines := program(t, name)
	n := quiet()
	inPod(t, n)(pid, 1, "S (sleeping)", "another", "another\x00")
	if err := n.sendTo(process{pid: pid}, syscall.SIGHUP, name); err == nil || !strings.Contains(err.Error(), "has just ended") {
		t.Errorf("got %v", err)
	}
	if err := n.sendTo(process{pid: pid}, syscall.SIGUSR1, "another"); err != nil {
		t.Error(err)
	}
	if line := next(t, lines); line != "parent user defined signal 1" {
		t.Errorf("printed %q", line)
	}
}

func TestFind(t *testing.T) {
	n := quiet()
	put := inPod(t, n)
	put(1, 0, "S (sleeping)", "pause", "/pause\x00")
	if err := n.send(syscall.SIGHUP, "nginx"); err == nil || !strings.Contains(err.Error(), "shareProcessNamespace: true") {
		t.Errorf("alone: %v", err)
	}
	put(1000007, 1, "S (sleeping)", "nginx", "nginx: master process nginx -g daemon off;\x00")
	put(1000008, 1000007, "S (sleeping)", "nginx", "nginx: worker process\x00")
	put(1000009, 1000007, "S (sleeping)", "nginx", "nginx: worker process\x00")
	put(1000010, 1, "Z (zombie)", "nginx", "")
	put(1000011, 1, "S (sleeping)", "a-very-long-nam", "/usr/bin/a-very-long-name-of-a-program\x00--x\x00")
	put(1000012, 1, "S (sleeping)", "python3", "gunicorn\x00")
	for name, want := range map[string][]int{
		"nginx": {1000007}, "a-very-long-name-of-a-program": {1000011}, "gunicorn": {1000012}, "python3": {1000012},
		"pause": nil, "nginx:": nil, "ngin": nil,
	} {
		found, others, err := n.find(name)
		var pids []int
		for _, p := range found {
			pids = append(pids, p.pid)
		}
		if err != nil || others != 5 || fmt.Sprint(pids) != fmt.Sprint(want) {
			t.Errorf("%s: %v of %d, %v, want %v", name, pids, others, err, want)
		}
	}
	// The kernel knows of no such process: it has ended since.
	if err := n.send(syscall.SIGHUP, "gunicorn"); err == nil {
		t.Error("signalled a process that does not exist")
	}
}

func TestSignalThatIsNotPermitted(t *testing.T) {
	err := explain(syscall.EPERM, process{pid: 7, uid: "4711"}, "nginx")
	if !strings.Contains(err.Error(), "nginx (7) belongs to user 4711") || !strings.Contains(err.Error(), "runAsUser") {
		t.Errorf("got %v", err)
	}
}
