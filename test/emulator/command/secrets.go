package command

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

func putSecretCommand(flags *flag.FlagSet) runner {
	value := valueFlags(flags)
	tags := tagsFlag{}
	flags.Var(tags, "tag", "`key=value`; may be given several times")
	kind := flags.String("type", "", "Generic (default), Rds, RAMCredentials, ECS, PolarDB or Redis")
	region := flags.String("region", "", "default: the emulator's")
	return func(ctx context.Context, s Streams, operands []string) error {
		v, err := value(s.In)
		if err != nil {
			return err
		}
		secret := emulator.Secret{Name: operands[0], Region: *region, Type: *kind, Tags: tags, Value: v}
		if err := s.cloud.PutSecret(ctx, secret); err != nil {
			return err
		}
		fmt.Fprintf(s.Out, "secret %s put\n", operands[0])
		return nil
	}
}

func rotateCommand(flags *flag.FlagSet) runner {
	value := valueFlags(flags)
	id := flags.String("version-id", "", "default: v and a number")
	return func(ctx context.Context, s Streams, operands []string) error {
		v, err := value(s.In)
		if err != nil {
			return err
		}
		if err := s.cloud.Rotate(ctx, operands[0], emulator.Version{ID: *id, Value: v}); err != nil {
			return err
		}
		fmt.Fprintf(s.Out, "secret %s rotated\n", operands[0])
		return nil
	}
}

func tag(ctx context.Context, s Streams, operands []string) error {
	tags := tagsFlag{}
	for _, pair := range operands[1:] {
		if err := tags.Set(pair); err != nil {
			return err
		}
	}
	if err := s.cloud.TagSecret(ctx, operands[0], tags); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "secret %s tagged %s\n", operands[0], tags)
	return nil
}

func deleteSecret(ctx context.Context, s Streams, operands []string) error {
	if err := s.cloud.DeleteSecret(ctx, operands[0]); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "secret %s deleted\n", operands[0])
	return nil
}

func secretsCommand(flags *flag.FlagSet) runner {
	output := outputFlag(flags)
	return func(ctx context.Context, s Streams, _ []string) error {
		list, err := s.cloud.Secrets(ctx)
		if err != nil {
			return err
		}
		return output(s.Out, list, "NAME\tTYPE\tTAGS\tVERSIONS", func(row func(...any)) {
			for _, secret := range list {
				var versions []string
				for _, v := range secret.Versions {
					versions = append(versions, strings.TrimSuffix(v.ID+"="+strings.Join(v.Stages, "+"), "="))
				}
				row(secret.Name, secret.Type, tagsFlag(secret.Tags), strings.Join(versions, ","))
			}
		})
	}
}

// putRoleCommand reads the role from the input, because policies do not fit on a command line.
func putRole(ctx context.Context, s Streams, _ []string) error {
	dec := json.NewDecoder(s.In)
	dec.DisallowUnknownFields()
	var role emulator.Role
	if err := dec.Decode(&role); err != nil {
		return fmt.Errorf("read role from the input: %w", err)
	}
	if err := s.cloud.PutRole(ctx, role); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "role %s put\n", role.Name)
	return nil
}

// valueFlags declare how a secret's value is given, and return what reads it.
func valueFlags(flags *flag.FlagSet) func(io.Reader) (emulator.Value, error) {
	text := flags.String("value", "", "the value, as `text`")
	stdin := flags.Bool("value-stdin", false, "read the value from the input, byte for byte; what is not UTF-8 is stored as binary")
	return func(in io.Reader) (emulator.Value, error) {
		if (*text != "") == *stdin {
			return emulator.Value{}, errors.New("want either --value or --value-stdin")
		}
		if !*stdin {
			return emulator.Value{Text: *text}, nil
		}
		raw, err := io.ReadAll(in)
		if err != nil {
			return emulator.Value{}, fmt.Errorf("read value from the input: %w", err)
		}
		if utf8.Valid(raw) {
			return emulator.Value{Text: string(raw)}, nil
		}
		return emulator.Value{Binary: base64.StdEncoding.EncodeToString(raw)}, nil
	}
}

type tagsFlag map[string]string

func (t tagsFlag) String() string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(t)) {
		pairs = append(pairs, key+"="+t[key])
	}
	return strings.Join(pairs, ",")
}

func (t tagsFlag) Set(pair string) error {
	key, value, ok := strings.Cut(pair, "=")
	if !ok || key == "" {
		return fmt.Errorf("tag %q: want key=value", pair)
	}
	t[key] = value
	return nil
}
