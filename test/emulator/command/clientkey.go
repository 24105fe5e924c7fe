package command

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/clientkey"
)

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
