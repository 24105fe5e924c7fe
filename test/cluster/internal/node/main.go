//go:build linux

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/build"
)

// readyTimeout is from the first program's start to a Ready node; four seconds on two idle cores.
const readyTimeout = 10 * time.Minute

// Main is PID 1 of the node. It is called in the process that Start made, and does not return.
//
// Until the starter detaches, Main ends with the starter, so that a killed `cluster up` leaves no partial cluster. Afterwards
// only SIGKILL or SIGTERM ends it, and with it the kernel ends every process of the node.
func Main() {
	control := os.NewFile(controlFD, "control")
	listener, err := inherit(listenerFD)
	if err == nil {
		unix.CloseOnExec(controlFD)
		unix.CloseOnExec(listenerFD)
		err = serve(control, listener)
	}
	slog.Error("node stopped", "error", err)
	send(control, message{Error: err.Error()})
	os.Exit(1)
}

func inherit(fd uintptr) (net.Listener, error) {
	f := os.NewFile(fd, "listener")
	defer f.Close()
	return net.FileListener(f)
}

func serve(control *os.File, listener net.Listener) error {
	// The configuration is sent after the record of this process has been written: nothing happens before.
	messages := json.NewDecoder(control)
	var cfg Config
	if err := messages.Decode(&cfg); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	go func() {
		var detached struct{}
		if messages.Decode(&detached) != nil {
			os.Exit(1) // the starter died, or gave up
		}
	}()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	for _, programs := range []string{cfg.Kubernetes, cfg.Containerd} {
		if err := build.Hold(programs); err != nil {
			return err
		}
	}
	if err := mountAll(cfg); err != nil {
		return err
	}
	os.WriteFile("/proc/self/comm", []byte("kms-cluster"), 0) //nolint:errcheck // for ps, which would say "exe"
	if err := unix.Sethostname([]byte(Name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := setUpNetwork(); err != nil {
		return err
	}
	probe, err := newProbes()
	if err != nil {
		return err
	}
	starting, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	s := &supervisor{reaper: newReaper(), logDir: filepath.Join(stateDir, LogDir), giveUp: giveUp}
	for _, c := range components(probe, cfg) {
		go s.keep(ctx, c)
	}
	go forward(listener, net.JoinHostPort("127.0.0.1", APIServerPort))

	if err := waitReady(starting, probe, func(step string) { send(control, message{Step: step}) }); err != nil {
		if cause := context.Cause(starting); cause != nil {
			err = cause
		}
		return err
	}
	send(control, message{Ready: true})
	<-ctx.Done()
	return errors.New("asked to stop")
}

// ContainerdAnswers is the step from which on images can be loaded.
const ContainerdAnswers = "containerd answers"

// waitReady returns when a pod could be created and would run.
func waitReady(ctx context.Context, probe *probes, report func(step string)) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for step, wait := range map[string]func(context.Context) error{
		ContainerdAnswers:                     probe.containerd,
		"API server ready":                    probe.apiserver,
		"default service account exists":      probe.defaultServiceAccount,
		"node Ready":                          probe.nodeReady,
		"Service addresses work (kube-proxy)": probe.kubeProxy,
		"cluster DNS answers (CoreDNS)":       probe.coreDNS,
	} {
		group.Go(func() error {
			if err := wait(ctx); err != nil {
				return err
			}
			report(step)
			return nil
		})
	}
	return group.Wait()
}
