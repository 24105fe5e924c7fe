package command

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (sh *shell) versions() *cobra.Command {
	var plugin bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of the plugin and of the cluster's webhook",
		Long: "Prints the versions of the plugin and of the cluster's webhook. inject and validate decide as a webhook of the\n" +
			"plugin's version does.",
		Example: `  # Both versions
  kubectl kms version

  # The plugin's, without asking a cluster
  kubectl kms version --client`,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&plugin, "client", false, "print the plugin's version only")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		fmt.Fprintln(sh.Out, "kubectl-kms", sh.version)
		if plugin {
			return nil
		}
		client, err := sh.client()
		if err != nil {
			return err
		}
		version, err := client.Version(cmd.Context())
		if err != nil {
			return err
		}
		fmt.Fprintln(sh.Out, "kms-webhook", version)
		return nil
	}
	return cmd
}
