package command

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/explain"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

func (sh *shell) explain() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "explain [ANNOTATION]",
		Short: "Show the documentation of the annotations",
		Example: `  # All annotations
  kubectl kms explain

  # One of them
  kubectl kms explain refresh-interval

  # The fields of secret.<file>
  kubectl kms explain secret`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var known []string
			for _, a := range podconfig.Annotations() {
				name, _, _ := strings.Cut(strings.TrimPrefix(a.Key, podconfig.Prefix), ".")
				known = append(known, name+"\t"+a.Effect)
			}
			return known, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return sh.show(podconfig.Annotations(), output, explain.Overview)
			}
			a, err := podconfig.Describe(args[0])
			if err != nil {
				return err
			}
			return sh.show(a, output, func(s screen.Screen) { explain.Page(s, a) })
		},
	}
	outputFlag(cmd, &output, "text", "json")
	return cmd
}
