//go:build faults

package faults

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/agent"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// asAgent makes the test binary a sidecar that can be killed.
const asAgent = "KMS_AGENT_FAULTS_AS_AGENT"

func TestMain(m *testing.M) {
	if os.Getenv(asAgent) != "" {
		if err := sidecar(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		os.Unsetenv(name) // the cloud's names are of this machine here
	}
	// All faults at the same time: most of it is waiting.
	flag.Parse()
	if err := flag.Set("test.parallel", "64"); err != nil {
		panic(err)
	}
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: names.dial}
	os.Exit(m.Run())
}

// sidecar is kms-agent run.
func sidecar() error {
	doc, err := config.ReadAgent([]byte(os.Getenv(config.AgentEnv)))
	if err != nil {
		return err
	}
	a, err := agent.New(doc, os.Getenv, agent.NewLogger(os.Stderr, doc))
	if err != nil {
		return err
	}
	return a.Run(context.Background())
}
