package faults

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// program is the path of kms-agent, as it is in the image: what is killed is the real one.
var program string

func TestMain(m *testing.M) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		os.Unsetenv(name) // the cloud's names are of this machine here
	}
	// All faults at the same time: most of it is waiting.
	flag.Parse()
	if err := flag.Set("test.parallel", "64"); err != nil {
		panic(err)
	}
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: names.dial}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	directory, err := os.MkdirTemp("", "faults")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(directory)
	if err := os.Chmod(directory, 0o755); err != nil { // for programs of other users
		panic(err)
	}
	program = filepath.Join(directory, "kms-agent")
	build := exec.Command("go", "build", "-o", program, "github.com/kms-agent-injector/kms-agent-injector/cmd/kms-agent")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build kms-agent: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
