package command

import (
	"github.com/spf13/cobra"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/manifest"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/migrate"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
)

func (sh *shell) migrate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate -f FILE",
		Short: "Say which ExternalSecrets the injector can replace, and by which annotations",
		Long: "For each ExternalSecret (alibabacloud.com/v1alpha1) of the manifests: whether its Secret is only mounted, or used as\n" +
			"environment variables, by workloads, and then the annotations that give them the same without a Secret; else what needs the\n" +
			"Secret. Only what is in the manifests is looked at: give it all that the namespaces have. Nothing is changed.",
		Example: `  # What a cluster has
  kubectl get externalsecrets.alibabacloud.com,deployments,statefulsets,daemonsets,replicasets,cronjobs,jobs,pods,\
ingresses,serviceaccounts -A -o yaml |
    kubectl kms migrate -f -

  # What a repository has
  kubectl kms migrate -R -f manifests/`,
		Args: onlyFlags, ValidArgsFunction: cobra.NoFileCompletions,
	}
	var source manifest.Source
	var output string
	sh.sourceFlags(cmd, &source)
	outputFlag(cmd, &output, "text", "json")
	cmd.RunE = func(*cobra.Command, []string) error {
		documents, err := source.Read()
		if err != nil {
			return err
		}
		plans, err := migrate.Plans(documents, sh.namespace())
		if err != nil {
			return err
		}
		return sh.show(plans, output, func(s screen.Screen) { migrate.Text(plans, s) })
	}
	return cmd
}
