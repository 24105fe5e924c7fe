package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
)

// outputFlag declares -o with the formats that a command knows; the first is the default. Others are refused before the command runs.
func outputFlag(cmd *cobra.Command, output *string, formats ...string) {
	last := len(formats) - 1
	cmd.Flags().StringVarP(output, "output", "o", formats[0], strings.Join(formats[:last], ", ")+" or "+formats[last])
	offer(cmd, "output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains(formats, *output) {
			return fmt.Errorf("-o %s: this command knows %q", *output, formats)
		}
		return nil
	}
}

// show writes a value for programs, or as text for people.
func (sh *shell) show(value any, output string, text func(screen.Screen)) error {
	if output == "json" || output == "yaml" {
		return sh.encode(value, output)
	}
	text(sh.screen())
	return nil
}

// verdict returns the error of a command that has shown what is wrong, or that something could not be looked at.
func verdict(wrong, unsure bool) error {
	switch {
	case wrong:
		return errWrong
	case unsure:
		return errUnsure
	}
	return nil
}
