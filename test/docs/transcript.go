package docs

import (
	"regexp"
	"strings"
)

// Section returns the text of a page between <!-- name --> and <!-- /name -->; "" if it has none.
func (p Page) Section(name string) string {
	_, rest, _ := strings.Cut(p.Text, "<!-- "+name+" -->\n")
	text, _, closed := strings.Cut(rest, "<!-- /"+name+" -->")
	if !closed {
		return ""
	}
	return strings.TrimSpace(text)
}

// Unprinted returns the first line of a transcript that a program did not print, or not in the transcript's order; "" if it printed all.
// In a transcript … stands for other lines, or for the end of its line. What is different each time is not compared.
func Unprinted(transcript, printed string) string {
	lines := strings.Split(normal(printed), "\n")
	for shown := range strings.Lines(normal(transcript)) {
		shown = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(shown), "…"))
		if shown == "" || strings.HasPrefix(shown, "```") {
			continue
		}
		for len(lines) > 0 && !strings.Contains(lines[0], shown) {
			lines = lines[1:]
		}
		if len(lines) == 0 {
			return shown
		}
		lines = lines[1:]
	}
	return ""
}

var differs = regexp.MustCompile(`\[ *[0-9.]+s\]|-[a-z0-9]{6,10}-[a-z0-9]{5}\b|[0-9A-F]{8}-[0-9A-F-]+|` +
	`\b([0-9]+[dhms])+\b|[0-9]+(\.[0-9]+)?|[ \t]+`)

// normal leaves out of a transcript what is different each time: times, numbers, names of pods, ids of requests.
func normal(text string) string {
	return differs.ReplaceAllStringFunc(text, func(s string) string {
		if strings.TrimSpace(s) == "" {
			return " "
		}
		return "#"
	})
}
