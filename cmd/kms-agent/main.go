// Command kms-agent gives a pod its secrets from Alibaba Cloud KMS. What it does is in usage.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent"
	"github.com/kms-agent-injector/kms-agent-injector/agent/exec"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kmsagent"
	"github.com/kms-agent-injector/kms-agent-injector/agent/logkey"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == agentconfig.CommandExec {
		// Before anything else: it is a container's start, and no signal may be caught that is the command's.
		code, err := exec.Exec(os.Args[2:], os.Environ())
		fail(err)
		os.Exit(code)
	}
	keepMemoryPrivate()
	// A sidecar is multiplied by every pod. By default Go would take all cores of a node, and with them memory.
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) > 2 {
		runtime.GOMAXPROCS(2)
	}
	modest(strings.Join(os.Args[1:], " "))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fail(err)
	}
	os.Exit(code)
}

// readyLimit is for an agent that neither gets ready nor ends, which no agent should be.
const readyLimit = 10 * time.Minute

// initMemory in bytes is what the heap of init may grow to before it is collected.
const initMemory = 32 << 20

// modest makes the garbage collector fit for what the agent is: something small that is in every pod. The environment can say
// otherwise.
func modest(command string) {
	percent := 50 // idle but for a moment every few minutes
	// GOMEMLIMIT is the container's limit, which counts what Go does not: the program's pages, the kernel's buffers, files in memory.
	limit := debug.SetMemoryLimit(-1) / 5 * 4
	if command == agentconfig.CommandInit {
		// Ends before there is enough for a collection, which saves a fifth of its CPU time, unless the secrets are large.
		percent, limit = 400, min(limit, initMemory)
	}
	debug.SetMemoryLimit(limit)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "kms-agent:", err)
	terminated(terminationLog, err.Error())
}

// run returns an error only if it could not log it itself.
func run(ctx context.Context, args []string) (int, error) {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	wait := len(args) == 2 && name == agentconfig.CommandReady && args[1] == agentconfig.FlagWait
	switch {
	case kmsagent.Commands()[name] != nil:
		return runKMSAgent(ctx, name, args[1:])
	case name == commandStatus:
		code, err := printStatus(ctx, args[1:], os.Stdout)
		if err != nil {
			fmt.Fprintln(os.Stderr, "kms-agent:", err) // not the container's last words: it goes on
		}
		return code, nil
	case slices.Contains([]string{"help", "--help", "-h"}, name):
		fmt.Print(usage)
		return 0, nil
	case len(args) != 1 && !wait:
		return exitMisuse, errors.New("say what to do: " + commands)
	case name == "version", name == "--version":
		info, _ := debug.ReadBuildInfo()
		fmt.Println("kms-agent", info.Main.Version, info.GoVersion)
		return 0, nil
	case !slices.Contains([]string{agentconfig.CommandInit, agentconfig.CommandRun, agentconfig.CommandReady}, name):
		return exitMisuse, fmt.Errorf("%q is not a command: it is %s", name, commands)
	}
	doc, err := configured()
	if err != nil {
		return exitMisuse, err
	}
	if name == agentconfig.CommandReady {
		look := agent.Ready
		if wait {
			look = agent.WaitReady
		}
		ctx, cancel := context.WithTimeout(ctx, readyLimit)
		defer cancel()
		if err := look(ctx, doc); err != nil {
			fmt.Fprintln(os.Stderr, "kms-agent:", err)
			return exitFailed, nil // a hook must not write the container's termination message
		}
		return 0, nil
	}
	log := agent.NewLogger(os.Stderr, doc)
	a, err := open(doc, log)
	if err != nil {
		return exitMisuse, err
	}
	work := a.Init
	if name == agentconfig.CommandRun {
		work = a.Run
	}
	if err := work(ctx); err != nil {
		log.Error("exiting", logkey.Command, name, logkey.Error, a.Explain(err))
		terminated(terminationLog, status.Text(a.Problems(err)))
		if agent.Passing(err) {
			return exitAgain, nil
		}
		return exitFailed, nil
	}
	if name == agentconfig.CommandInit {
		initialized(doc, terminationLog)
	}
	return 0, nil
}

// configured returns what this pod's agent is told.
func configured() (agentconfig.Config, error) {
	if err := openapi.RefuseLeaks(os.Getenv); err != nil {
		return agentconfig.Config{}, err
	}
	return agentconfig.Read([]byte(os.Getenv(agentconfig.Env)))
}

// open returns the agent of this pod.
func open(doc agentconfig.Config, log *slog.Logger) (*agent.Agent, error) {
	m := metrics.New()
	src, err := source.Open(doc, os.Getenv, m)
	if err != nil {
		return nil, err
	}
	return agent.New(doc, src, m, log)
}

// runKMSAgent returns an error only if it ends a container: get is for people, in a container that goes on.
func runKMSAgent(ctx context.Context, name string, args []string) (int, error) {
	if err := openapi.RefuseLeaks(os.Getenv); err != nil {
		return exitMisuse, err
	}
	err := kmsagent.Commands()[name](ctx, args, os.Getenv, os.Stdout, os.Stderr)
	var usage *kmsagent.Usage
	code := 0
	switch {
	case errors.As(err, &usage):
		code = exitMisuse
	case err != nil:
		code = exitFailed
	}
	if err != nil && name == "get" {
		fmt.Fprintln(os.Stderr, "kms-agent:", err)
		return code, nil
	}
	return code, err
}
