// Package command is the kms-emulator program: it serves the emulated cloud, makes its certificate authority, and
// controls a running one.
package command

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/control"
)

// Streams are where a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer

	cloud control.Client // of commands that control one
}

// subcommand does one thing.
type subcommand struct {
	name     string
	operands string // as the usage shows them: [optional] and repeated... ones last.
	about    string
	controls bool                       // a running emulator, which a flag names
	setup    func(*flag.FlagSet) runner // declares the flags and returns what to do once they are parsed
}

type runner func(ctx context.Context, s Streams, operands []string) error

// plain is the setup of a command without flags of its own.
func plain(run runner) func(*flag.FlagSet) runner {
	return func(*flag.FlagSet) runner { return run }
}

const about = `kms-emulator answers as Alibaba Cloud's STS and KMS do.

Usage:
  kms-emulator --config=FILE --ca-dir=DIR [flags]    serve
  kms-emulator COMMAND [operands] [flags]

Commands:
`

func commands() []subcommand {
	return append([]subcommand{
		{name: "serve", about: "serve the cloud; the default command", setup: serveCommand},
		{name: "ca", about: "make the certificate authority that clients must trust", setup: caCommand},
		{
			name: "client-key", setup: clientKeyCommand,
			about: "make a client key: for an application two files, for the configuration its certificate",
		},
	}, controlCommands()...)
}

// Run runs the command that the arguments name.
func Run(ctx context.Context, s Streams, args []string) error {
	name := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	} else if len(args) == 0 || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		usage(s.Out)
		return nil
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(ctx, s, args)
		}
	}
	usage(s.Err)
	return fmt.Errorf("unknown command %q", name)
}

func usage(w io.Writer) {
	fmt.Fprint(w, about)
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-34s %s\n", strings.TrimSpace(c.name+" "+c.operands), c.about)
	}
	fmt.Fprint(w, "\nkms-emulator COMMAND --help lists the command's flags.\n")
}

func (c subcommand) run(ctx context.Context, s Streams, args []string) error {
	flags := flag.NewFlagSet("kms-emulator "+c.name, flag.ContinueOnError)
	flags.SetOutput(s.Err)
	flags.Usage = func() {
		fmt.Fprintf(s.Err, "Usage: kms-emulator %s [flags]\n  %s\n", strings.TrimSpace(c.name+" "+c.operands), c.about)
		flags.PrintDefaults()
	}
	run := c.setup(flags)
	if c.controls {
		flags.StringVar(&s.cloud.URL, "control", "http://127.0.0.1:8090", "`address` of the control API")
	}
	// Operands may stand before the flags, as people write them; package flag wants them behind.
	var operands []string
	for {
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil
		} else if err != nil {
			return err
		}
		if flags.NArg() == 0 {
			break
		}
		operands, args = append(operands, flags.Arg(0)), flags.Args()[1:]
	}
	least := 0
	for _, operand := range strings.Fields(c.operands) {
		if !strings.HasPrefix(operand, "[") {
			least++
		}
	}
	if more := strings.HasSuffix(c.operands, "..."); len(operands) < least || len(operands) > least && !more {
		flags.Usage()
		return fmt.Errorf("%s: want %s", c.name, cmp.Or(c.operands, "no operands"))
	}
	return run(ctx, s, operands)
}
