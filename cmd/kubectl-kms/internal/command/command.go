// Package command is the command line of kubectl kms.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
)

// Streams are where the plugin reads and writes, and its environment.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
}

// The exit codes.
const (
	exitWrong  = 1 // what was looked at is wrong, or a command that judges nothing failed
	exitBroken = 2 // of commands that judge: it could not be looked at, for whatever reason
)

// Errors of commands that have already printed what is wrong, or what they could not look at.
var (
	errWrong  = errors.New("what was looked at is wrong")
	errUnsure = errors.New("not everything could be looked at")
)

// judges is an annotation of the commands whose exit code 1 is a verdict, with what they did not do if they fail.
const judges = "judges"

// A shell is what all commands share.
type shell struct {
	Streams
	aside            screen.Screen // on which progress is shown
	version          string
	kube             *genericclioptions.ConfigFlags
	webhookNamespace string
	syncNamespace    string
}

// Execute runs the plugin and returns its exit code.
func Execute(ctx context.Context, args []string, streams Streams, version string) int {
	aside := screen.New(streams.Err, streams.Getenv)
	streams.Err = screen.Escaping(streams.Err)
	sh := &shell{Streams: streams, aside: aside, version: version, kube: genericclioptions.NewConfigFlags(true)}
	warnings := rest.NewWarningWriter(streams.Err, rest.WarningWriterOptions{Deduplicate: true})
	sh.kube.WrapConfigFn = func(c *rest.Config) *rest.Config {
		c.WarningHandler = warnings // the default one writes past Err
		return c
	}
	root := sh.root()
	root.SetArgs(args)
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	cmd, err := root.ExecuteContextC(ctx)
	switch undone := cmd.Annotations[judges]; {
	case err == nil:
		return 0
	case errors.Is(err, errWrong):
		return exitWrong
	case errors.Is(err, errUnsure):
		return exitBroken
	case undone != "":
		fmt.Fprintf(streams.Err, "error: %s: %v\n", undone, err)
		return exitBroken
	}
	fmt.Fprintln(streams.Err, "error:", err)
	return exitWrong
}

func (sh *shell) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "kubectl-kms",
		Short: "Alibaba Cloud KMS secrets for pods: look before, look after, find what is broken",
		Long: "Shows what kms-agent-injector does to pods and why.\n\n" +
			"inject, validate and explain are for before a pod is made; status and doctor for after. at-rest is about the Secrets that remain\n" +
			"in etcd, migrate about those that need not.",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl kms"},
		Version:       sh.version,
		SilenceErrors: true, SilenceUsage: true,
	}
	root.SetVersionTemplate("kubectl-kms {{.Version}}\n")
	root.Flags().Bool("version", false, "print the plugin's version") // without the -v that cobra would give it: kubectl's is the log's
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; %s --help shows the flags", err, cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	sh.kube.AddFlags(flags)
	offer(root, "namespace", sh.completeNamespaces)
	flags.StringVar(&sh.webhookNamespace, "webhook-namespace", "", "namespace of kms-webhook (default: where its webhook configuration says)")
	root.AddCommand(sh.inject(), sh.validate(), sh.explain(), sh.status(), sh.doctor(), sh.atRest(), sh.migrate(),
		sh.versions())
	return root
}

func (sh *shell) screen() screen.Screen { return screen.New(sh.Out, sh.Getenv) }
