package command

import (
	"github.com/spf13/cobra"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/manifest"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/migrate"
)

func (sh *shell) migrate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate -f FILE",
		Short: "Say which ExternalSecrets the injector can replace, and by which annotations",
		Long: "For each ExternalSecret (alibabacloud.com/v1alpha1) of the manifests: whether its Secret is only mounted, or used as\n" +
			"environment variables, by workloads, and then the annotations that give them the same without a Secret; else what needs the\n" +
			"Secret. Only what is in the manifests is looked at: give it all that the namespaces have. Nothing is changed.",
		Example: `  # What a cluster has
  kubectl get externalsecrets.alibabacloud.com,deployments,statefulsets,daemonsets,cronjobs,jobs,pods,ingresses,serviceaccounts -A -o yaml |
    kubectl kms migrate -f -

  # What a repository has
  kubectl kms migrate -R -f manifests/`,
		Args: onlyFlags, ValidArgsFunction: cobra.NoFileCompletions,
	}
	source := manifest.Source{In: sh.In}
	var output string
	flags := cmd.Flags()
	flags.StringSliceVarP(&source.Files, "filename", "f", nil, "files and folders with manifests; - is standard input")
	flags.StringVarP(&source.Kustomize, "kustomize", "k", "", "folder of a kustomization")
	flags.BoolVarP(&source.Recursive, "recursive", "R", false, "folders in the folders of -f too")
	outputFlag(cmd, &output, "text", "json")
	cmd.RunE = func(*cobra.Command, []string) error {
		documents, err := source.Read()
		if err != nil {
			return err
		}
		plans, err := migrate.Plans(documents, sh.namespace())
		switch {
		case err != nil:
			return err
		case output == "json":
			return sh.encode(plans, output)
		}
		migrate.Text(plans, sh.screen())
		return nil
	}
	return cmd
}
