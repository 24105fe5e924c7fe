package screen

import (
	"strings"
	"unicode/utf8"
)

// A Table has columns as wide as their widest cell. On a terminal that is too narrow its last column is broken into lines.
type Table struct {
	Header []string
	rows   [][]string
}

// Add adds a row.
func (t *Table) Add(cells ...string) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = string(Line(cell))
	}
	t.rows = append(t.rows, row)
}

// Table writes a table.
func (s Screen) Table(t Table) {
	widths := make([]int, len(t.Header))
	for _, row := range append([][]string{t.Header}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	const gap = 3
	last, indent := len(t.Header)-1, 0
	for _, w := range widths[:last] {
		indent += w + gap
	}
	for n, row := range append([][]string{t.Header}, t.rows...) {
		var line strings.Builder
		for i, cell := range row[:last] {
			line.WriteString(cell + strings.Repeat(" ", widths[i]+gap-utf8.RuneCountInString(cell)))
		}
		for i, part := range s.wrap(Text(row[last]), indent) {
			if i > 0 {
				line.WriteString("\n" + strings.Repeat(" ", indent))
			}
			line.WriteString(string(part))
		}
		text := Text(strings.TrimRight(line.String(), " "))
		if n == 0 {
			text = s.Faint(string(text))
		}
		s.Printf("%s\n", text)
	}
}
