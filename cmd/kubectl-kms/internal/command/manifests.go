package command

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/decide"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/manifest"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// manifestFlags are the flags of commands that read manifests.
type manifestFlags struct {
	source  manifest.Source
	config  string // file of the webhook's configuration
	roleARN string // of ServiceAccounts that are not found
	offline bool
}

func (sh *shell) manifestFlags(cmd *cobra.Command) *manifestFlags {
	f := &manifestFlags{}
	sh.sourceFlags(cmd, &f.source)
	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "",
		"file with the webhook's configuration (config.yaml of the ConfigMap kms-webhook); then no cluster is asked")
	flags.StringVar(&f.roleARN, "role-arn", "",
		"ARN of the RAM role of ServiceAccounts that are neither in the manifests nor in the cluster: acs:ram::<account>:role/<name>")
	return f
}

func (sh *shell) sourceFlags(cmd *cobra.Command, source *manifest.Source) {
	source.In = sh.In
	flags := cmd.Flags()
	flags.StringSliceVarP(&source.Files, "filename", "f", nil, "files and folders with manifests; - is standard input")
	flags.StringVarP(&source.Kustomize, "kustomize", "k", "", "folder of a kustomization")
	flags.BoolVarP(&source.Recursive, "recursive", "R", false, "folders in the folders of -f too")
}

// onlyFlags refuses a file without its -f.
func onlyFlags(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%q is no flag; manifests are named by one: %s -f %[1]s", args[0], cmd.CommandPath())
	}
	return nil
}

func (sh *shell) inject() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inject -f FILE",
		Short: "Print manifests as their pods would be in the cluster",
		Long: "Prints the manifests with what the webhook would add to their pods, by the webhook's own code. Documents without such pods are\n" +
			"printed as they are. The webhook's configuration and ServiceAccounts come from the cluster, which is not changed; with --config\n" +
			"from that file and from the manifests; the role of a ServiceAccount that is not among them comes from --role-arn. Pods that the\n" +
			"webhook would refuse are reported, and then nothing is printed.",
		Example: `  # What would this Deployment's pods be?
  kubectl kms inject -f web.yaml

  # Only what is added
  kubectl kms inject -f web.yaml | diff web.yaml -

  # Without a cluster
  kubectl kms inject -k overlays/prod --config operator.yaml

  # Without a cluster, and with a ServiceAccount that comes from elsewhere
  kubectl kms inject -f web.yaml --config operator.yaml --role-arn acs:ram::1234567890123456:role/shop`,
		Args: onlyFlags, ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := sh.manifestFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		documents, err := f.source.Read()
		if err != nil {
			return err
		}
		world, _, blind, err := sh.world(cmd.Context(), f)
		switch {
		case err != nil:
			return err
		case blind != nil:
			return fmt.Errorf("%w; without a cluster, give its document with --config", blind)
		}
		return decide.Inject(cmd.Context(), world, documents, sh.namespace(), sh.Out, sh.Err)
	}
	return cmd
}

func (sh *shell) validate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate -f FILE | --config FILE",
		Short: "Say what is wrong with manifests before the cluster does",
		Long: "Holds the pods of manifests to what the webhook would hold them to: all annotations, the administrator's policy, the pod's own " +
			"content,\n" +
			"the ServiceAccount's role, and whether the webhook is called in the namespace. Without a cluster, or with --offline, the\n" +
			"annotations and the pods alone.\n" +
			"ExternalSecrets and stores (alibabacloud.com/v1alpha1) are held to what kms-sync holds them to.\n" +
			"With --config and no manifests, the webhook's configuration itself is checked.\n\n" +
			"Exit code: 0 nothing would be refused, 1 something would, 2 it could not be checked.",
		Example: `  # One file, folders, standard input
  kubectl kms validate -f web.yaml
  kubectl kms validate -R -f manifests/
  helm template web ./chart | kubectl kms validate -f -

  # In continuous integration, against the webhook's configuration in the repository
  kubectl kms validate -k overlays/prod --config operator.yaml -o json

  # The webhook's configuration itself
  kubectl kms validate --config operator.yaml`,
		Annotations: map[string]string{judges: "not checked"},
		Args:        onlyFlags, ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := sh.manifestFlags(cmd)
	var output string
	cmd.Flags().BoolVar(&f.offline, "offline", false, "ask no cluster")
	outputFlag(cmd, &output, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if f.config != "" && len(f.source.Files) == 0 && f.source.Kustomize == "" {
			return sh.checkConfiguration(f.config, output)
		}
		report, err := sh.check(cmd, f)
		if err != nil {
			return err
		}
		if err := sh.show(report, output, report.Text); err != nil {
			return err
		}
		return verdict(report.Mistakes() > 0, false)
	}
	return cmd
}

// checkConfiguration says what is wrong with the webhook's configuration in a file.
func (sh *shell) checkConfiguration(file, output string) error {
	document, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	_, wrong := sh.configured(file, document)
	report := decide.Report{Policy: file, Findings: []decide.Finding{}}
	mistakes, several := errors.AsType[config.Mistakes](wrong)
	if wrong != nil && !several {
		mistakes = config.Mistakes{{Problem: wrong.Error()}}
	}
	for _, m := range mistakes {
		report.Findings = append(report.Findings, decide.Finding{Severity: decide.Mistake, File: file, Where: m.Where, Problem: m.Problem})
	}
	err = sh.show(report, output, func(s screen.Screen) {
		if wrong != nil {
			s.Printf("%s: %s\n", screen.Line(file), wrong)
		} else {
			s.Printf("%s: no mistakes\n", screen.Line(file))
		}
	})
	if err != nil {
		return err
	}
	return verdict(wrong != nil, false)
}

func (sh *shell) check(cmd *cobra.Command, f *manifestFlags) (decide.Report, error) {
	documents, err := f.source.Read()
	if err != nil {
		return decide.Report{}, err
	}
	world, policy, blind, err := sh.world(cmd.Context(), f)
	if err != nil {
		return decide.Report{}, err
	}
	if blind != nil {
		policy = "none"
		if !f.offline {
			fmt.Fprintf(sh.Err, "Note: checked without the administrator's policy: %v\n", blind)
		}
	}
	report, err := decide.Validate(cmd.Context(), world, documents, sh.namespace())
	report.Policy = policy
	return report, err
}
