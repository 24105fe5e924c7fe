package command

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/clientkey"
)

// controlCommands talk to the control API of a running emulator: its image has no shell and no curl, so that
// "kubectl exec deploy/kms-emulator -- /kms-emulator rotate NAME --value=…" is all that is needed.
func controlCommands() []subcommand {
	commands := []subcommand{
		{name: "put-secret", operands: "NAME", about: "create or replace a secret", setup: putSecretCommand},
		{name: "rotate", operands: "NAME", about: "give a secret a new version", setup: rotateCommand},
		{name: "tag", operands: "NAME [key=value]...", about: "replace a secret's tags", setup: plain(tag)},
		{name: "delete-secret", operands: "NAME", about: "delete a secret at once", setup: plain(deleteSecret)},
		{name: "secrets", about: "list the secrets, without values", setup: secretsCommand},
		{name: "put-role", about: "create or replace a role, given as JSON in the input", setup: plain(putRole)},
		{name: "expire-sessions", about: "end all sessions that STS gave out", setup: plain(expire)},
		{name: "calls", about: "show how often what was called", setup: callsCommand},
		{name: "fault", about: "make calls go wrong", setup: faultCommand},
		{name: "faults", about: "list the faults that still strike", setup: plain(faults)},
		{name: "remove-fault", operands: "ID", about: "remove a fault", setup: plain(removeFault)},
		{name: "reset", about: "remove all faults and count calls anew", setup: plain(reset)},
	}
	for i := range commands {
		commands[i].controls = true
	}
	return commands
}

func expire(ctx context.Context, s Streams, _ []string) error { return s.cloud.ExpireSessions(ctx) }

func callsCommand(flags *flag.FlagSet) runner {
	output := outputFlag(flags)
	return func(ctx context.Context, s Streams, _ []string) error {
		counts, err := s.cloud.Calls(ctx)
		if err != nil {
			return err
		}
		return output(s.Out, counts, "ACTION\tSECRET\tROLE\tCODE\tCALLS", func(row func(...any)) {
			for _, c := range counts {
				role := c.Role[strings.LastIndex(c.Role, "/")+1:]
				row(c.Action, c.Secret, role, c.Code, c.Count)
			}
		})
	}
}

func faultCommand(flags *flag.FlagSet) runner {
	var f emulator.Fault
	flags.StringVar(&f.Action, "action", "", "strike this `action` only, as in GetSecretValue, or *GetSecretValue for BatchGetSecretValue too")
	flags.StringVar(&f.Secret, "secret", "", "strike calls for this secret's `name` only")
	flags.IntVar(&f.Count, "count", 0, "strike so many calls; default: until removed")
	flags.IntVar(&f.Status, "status", 0, "answer this HTTP `status`")
	flags.StringVar(&f.Code, "code", "", "answer this error `code`, as in Throttling.User")
	flags.StringVar(&f.Message, "message", "", "`text` that goes with the code")
	flags.StringVar(&f.Body, "body", "", "answer this `text` instead of an error document")
	flags.Var(durationFlag{&f.RetryAfter}, "retry-after", "send the header Retry-After, as in 30s")
	flags.Var(durationFlag{&f.Latency}, "latency", "answer so much later, as in 500ms")
	flags.StringVar(&f.Hang, "hang", "", "send nothing more until the client gives up: `headers|body`")
	flags.StringVar(&f.Cut, "cut", "", "close the connection: `headers|body`")
	flags.IntVar(&f.MaxQPS, "max-qps", 0, "throttle above so many calls a second")
	flags.Var(durationFlag{&f.ClockSkew}, "clock-skew", "the cloud's clock is so far ahead, as in 20m or -20m")
	return func(ctx context.Context, s Streams, _ []string) error {
		id, err := s.cloud.AddFault(ctx, f)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.Out, "fault %s set\n", id)
		return nil
	}
}

func faults(ctx context.Context, s Streams, _ []string) error {
	list, err := s.cloud.Faults(ctx)
	if err != nil {
		return err
	}
	for _, f := range list {
		text, err := json.Marshal(f)
		if err != nil {
			return err
		}
		fmt.Fprintln(s.Out, string(text))
	}
	return nil
}

func removeFault(ctx context.Context, s Streams, operands []string) error {
	return s.cloud.RemoveFault(ctx, operands[0])
}

func reset(ctx context.Context, s Streams, _ []string) error {
	return errors.Join(s.cloud.ClearFaults(ctx), s.cloud.ResetCalls(ctx))
}

// outputFlag declares the form of a list and returns what prints it: rows under a header, or JSON.
func outputFlag(flags *flag.FlagSet) func(w io.Writer, list any, header string, rows func(func(...any))) error {
	format := flags.String("o", "table", "table or json")
	return func(w io.Writer, list any, header string, rows func(func(...any))) error {
		switch *format {
		case "json":
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			return enc.Encode(list)
		case "table":
			table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, header)
			rows(func(cells ...any) {
				for i, cell := range cells {
					if i > 0 {
						fmt.Fprint(table, "\t")
					}
					if text := fmt.Sprint(cell); text != "" {
						fmt.Fprint(table, text)
					} else {
						fmt.Fprint(table, "-")
					}
				}
				fmt.Fprintln(table)
			})
			return table.Flush()
		}
		return fmt.Errorf("-o %q: want table or json", *format)
	}
}

type durationFlag struct{ to *emulator.Duration }

func (d durationFlag) String() string {
	if d.to == nil {
		return ""
	}
	return time.Duration(*d.to).String()
}

func (d durationFlag) Set(text string) error { return d.to.UnmarshalText([]byte(text)) }

// The files of a client key, named as the keys of the Secret that the agent mounts.
const (
	clientKeyFile     = "clientKey"
	clientKeyPassword = "password"
)

func clientKeyCommand(flags *flag.FlagSet) runner {
	dir := flags.String("dir", ".", "`folder` for the files clientKey and password")
	life := flags.Duration("valid-for", 365*24*time.Hour, "how long the key is valid")
	return func(_ context.Context, s Streams, _ []string) error {
		key, err := clientkey.New(time.Now().Add(*life))
		if err != nil {
			return fmt.Errorf("make client key: %w", err)
		}
		if err := os.MkdirAll(*dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(*dir, clientKeyFile), key.JSON, 0o600); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(*dir, clientKeyPassword), []byte(key.Password), 0o600); err != nil {
			return err
		}
		certificate := strings.ReplaceAll(strings.TrimSpace(string(key.Certificate)), "\n", "\n    ")
		fmt.Fprintf(s.Out, "# for clientKeys of an access point in the configuration\n- id: %s\n  certificate: |\n    %s\n", key.ID, certificate)
		return nil
	}
}
