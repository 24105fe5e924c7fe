package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// command is what was typed, checked.
type command struct {
	product, api string
	parameters   map[string]string
}

// parse reads the words behind "aliyun". Its errors are worded as the CLI's.
func parse(args []string) (command, error) {
	words, parameters, err := split(args)
	if err != nil {
		return command{}, err
	}
	if len(words) != 2 {
		return command{}, fmt.Errorf("want aliyun <product> <Api> --Name value …, have %d words before the parameters", len(words))
	}
	c := command{product: words[0], api: words[1], parameters: parameters}
	p, ok := products[c.product]
	if !ok {
		return command{}, fmt.Errorf("'%s' is not a valid command or product. See `aliyun help`.", c.product) //nolint:revive,staticcheck // the CLI's sentence
	}
	known, ok := p.apis[c.api]
	if !ok {
		return command{}, fmt.Errorf("'%s' is not a valid api. See `aliyun help %s`.", c.api, c.product) //nolint:revive,staticcheck // the CLI's sentence
	}
	for name := range parameters {
		if _, ok := known[name]; !ok {
			return command{}, fmt.Errorf("'--%s' is not a valid parameter or flag. See `aliyun help %s %s`.", name, c.product, c.api) //nolint:revive,staticcheck // the CLI's sentence
		}
	}
	var missing []string
	for name, required := range known {
		if _, given := parameters[name]; required && !given {
			missing = append(missing, "--"+name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return command{}, fmt.Errorf("required parameters not assigned:\n  %s", strings.Join(missing, "\n  "))
	}
	return c, nil
}

// split tells words from parameters, which are --name value or --name=value.
func split(args []string) (words []string, parameters map[string]string, err error) {
	parameters = map[string]string{}
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		name, parameter := strings.CutPrefix(word, "--")
		if !parameter {
			if strings.HasPrefix(word, "-") {
				return nil, nil, fmt.Errorf("not support flag form %s", word)
			}
			words = append(words, word)
			continue
		}
		name, value, assigned := strings.Cut(name, "=")
		if name == "" {
			return nil, nil, errors.New("not support '--' in command line")
		}
		if !assigned {
			if len(args) == 0 || strings.HasPrefix(args[0], "--") {
				return nil, nil, fmt.Errorf("--%s must be assigned with value", name)
			}
			value, args = args[0], args[1:]
		}
		if _, again := parameters[name]; again {
			return nil, nil, fmt.Errorf("--%s duplicated", name)
		}
		parameters[name] = value
	}
	return words, parameters, nil
}
