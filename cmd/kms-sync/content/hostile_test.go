package content

import (
	"strings"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
)

// hostile are templates that would take all time or all memory: of text/template itself, of Sprig, and of what their numbers ask for.
func hostile() map[string]string {
	return map[string]string{
		"mulf":   `{{ range until 100 }}{{ mulf ` + strings.Repeat("1e308 ", 3800) + ` }}{{ end }}`,
		"mulf2":  `{{ range until 1000 }}{{ mulf ` + strings.Repeat("1e308 ", 100) + ` }}{{ end }}`,
		"divf":   `{{ range until 1000 }}{{ divf ` + strings.Repeat("1e-308 ", 100) + ` }}{{ end }}`,
		"eq":     `{{ $b := repeat 10 .big }}{{ range until 100000 }}{{ if eq $b $b }}{{ end }}{{ end }}`,
		"seq":    `{{ seq 1 0 10 }}`,
		"step":   `{{ untilStep 1 10 0 }}`,
		"step2":  `{{ untilStep 10 1 0 }}`,
		"split":  `{{ $x := split "" .big }}{{ $y := splitList "" .big }}`,
		"wrap":   `{{ $x := wrap 1 .big }}{{ $y := wrapWith 1 "abcdef" .big }}`,
		"snake":  `{{ $x := snakecase .big }}{{ $x := camelcase .big }}{{ $x := kebabcase .big }}{{ $x := title .big }}`,
		"regex":  `{{ range until 100 }}{{ if regexMatch "(a|x|b)*(a|x|c)*(x|d)*y" $.big }}{{ end }}{{ end }}`,
		"regex2": `{{ if regexMatch "((x{0,30}){0,30}){0,2}y" $.big }}{{ end }}`,
		"sort":   `{{ $l := splitList "" (trunc 6000 .big) }}{{ range until 100 }}{{ $_ := sortAlpha $l }}{{ end }}`,
		"uniq":   `{{ $l := until 20000 }}{{ $_ := uniq $l }}`,
		"uniq2":  `{{ $l := until 1900 }}{{ $_ := uniq $l }}`,
		"append": `{{ $l := list }}{{ range until 100000 }}{{ $l = append $l 1 }}{{ end }}`,
		"vars":   `{{ range $i := until 100000 }}` + strings.Repeat(`{{ $a := 1 }}`, 1000) + `{{ end }}`,
		"json":   `{{ $x := fromJson (printf "[%s1]" (repeat 20000 "1,")) }}`,
		"json2":  `{{ $x := fromJson (printf "%s%s" (repeat 9000 "[") (repeat 9000 "]")) }}`,
		"pretty": `{{ $x := fromJson (printf "%s%s" (repeat 90 "[") (repeat 90 "]")) }}` +
			`{{ range until 1000 }}{{ $_ := toPrettyJson $x }}{{ end }}`,
		"semver": `{{ range until 1000 }}{{ $_ := semverCompare "~1.2 || >3.4 <5.6" "1.2.3" }}{{ end }}`,
		"rec":    `{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}`,
		"block":  `{{ range until 100000 }}{{ block "a" . }}x{{ end }}{{ end }}`,
		"text":   `{{ range until 100000 }}` + strings.Repeat("y", 30000) + `{{ end }}`,
		"print":  `{{ range until 100000 }}{{ .big }}{{ end }}`,
		"nested": `{{ range until 100 }}{{ range until 100 }}{{ range until 100 }}{{ end }}{{ end }}{{ end }}`,
		"dict":   `{{ $d := dict }}{{ range $i := until 100000 }}{{ $_ := set $d (toString $i) 1 }}{{ end }}`,
		"toJson": `{{ range until 100000 }}{{ $_ := toJson (dict "a" 1 "b" "x") }}{{ end }}`,
		"merge":  `{{ range until 100000 }}{{ $_ := merge (dict "a" (dict "b" 1)) (dict "a" (dict "c" 2)) }}{{ end }}`,
		"aes":    `{{ range until 1000 }}{{ $_ := decryptAES "k" "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" }}{{ end }}`,
		"cat":    `{{ $s := "x" }}{{ range until 1000 }}{{ $s = cat $s $s }}{{ end }}`,
		"url":    `{{ range until 100000 }}{{ $x := urlParse "https://a:b@c/d?e=f#g" }}{{ end }}`,
		"round":  `{{ round 1.5 1000000000 }}{{ round 1e300 -5 }}{{ ceil 1e300 }}`,
		"dec":    `{{ toDecimal "777777777777777777777777777777777" }}{{ addf "1e1000000000" 1 }}`,
	}
}

// None takes more than its share, whether it is refused or not.
func TestHostileTemplates(t *testing.T) {
	const most = 3 * time.Second // of CPU: a tenth of it is usual
	dot := map[string]any{"big": strings.Repeat("x", 60<<10)}
	for name, text := range hostile() {
		t.Run(name, func(t *testing.T) {
			run := func() { _, _ = newEngine(Compat{}).render(text, dot) }
			if peak := bounds.Peak(run); peak > maxPeak {
				t.Errorf("takes %d MB", peak>>20)
			}
			if spent := bounds.CPU(run); spent > most {
				t.Errorf("takes %s", spent)
			}
		})
	}
}
