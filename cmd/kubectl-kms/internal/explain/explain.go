// Package explain shows the documentation of the annotations where they are typed.
package explain

import (
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// Overview writes a line for each annotation.
func Overview(s screen.Screen) {
	s.Printf("Annotations of a pod, or of a workload's pod template, with the prefix %s\n\n", podconfig.Prefix)
	t := screen.Table{Header: []string{"ANNOTATION", "DEFAULT", "EFFECT"}}
	for _, a := range podconfig.Annotations() {
		t.Add(strings.TrimPrefix(a.Key, podconfig.Prefix), unmarked(a.Default), unmarked(a.Effect))
	}
	s.Table(t)
	s.Printf("\nMore about one of them: kubectl kms explain mode\nThe long form of secret.<file>: kubectl kms explain secret\n")
}

// Page writes all about one annotation.
func Page(s screen.Screen, a podconfig.Annotation) {
	s.Printf("%s\n\n", s.Strong(a.Key))
	s.Field("Effect", unmarked(a.Effect))
	s.Field("Value", unmarked(a.Value))
	s.Field("Default", unmarked(a.Default))
	s.Printf("\nExample:\n\n")
	for line := range strings.SplitSeq(a.Example, "\n") {
		s.Printf("  %s\n", line)
	}
	if len(a.Fields) == 0 {
		return
	}
	s.Printf("\nFields of the YAML mapping:\n\n")
	t := screen.Table{Header: []string{"FIELD", "VALUE", "DEFAULT", "EFFECT"}}
	for _, f := range a.Fields {
		t.Add(f.Name, unmarked(f.Value), unmarked(f.Default), unmarked(f.Effect))
	}
	s.Table(t)
}

// unmarked is Markdown without its marks.
func unmarked(text string) string { return strings.ReplaceAll(text, "`", "") }
