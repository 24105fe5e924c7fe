package main

import (
	"bytes"
	"fmt"
	"html"
	"time"
)

// A column and a row of Grafana's grid, and what is around panels, in pixels.
const (
	column, line   = 50.0, 26.0
	gap, head, top = 8.0, 36.0, 44.0
	left           = 70.0 // of a plot, for the values on its axis
)

// steps are Grafana's names of colours, light enough for dark letters.
var steps = map[string]string{"green": "#b7e3c0", "yellow": "#fbe29b", "red": "#f5b5b0", "blue": "#bcd8f5"}

// canvas is a picture that is being drawn. It has its own background: who shows it may do so on white or on black.
type canvas struct {
	bytes.Buffer
	from, to time.Time
}

func newCanvas(board dashboard, from, to time.Time) *canvas {
	c := &canvas{from: from, to: to}
	width, height := 0.0, 0.0
	for _, p := range board.Panels {
		width = max(width, (p.GridPos.X+p.GridPos.W)*column)
		height = max(height, top+(p.GridPos.Y+p.GridPos.H)*line)
	}
	width, height = width+gap, height+gap
	c.put(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img" font-family="-apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif">`+"\n", width, height, width, height)
	c.put("<title>%s</title>\n", html.EscapeString(board.Title))
	c.put(`<rect width="%g" height="%g" rx="6" fill="#eef0f2"/>`+"\n", width, height)
	c.text(2*gap, 28, 18, "start", "font-weight='600'", board.Title)
	c.text(width-2*gap, 28, 12, "end", "", from.Format("2006-01-02 15:04")+" – "+to.Format("15:04")+" UTC")
	return c
}

func (c *canvas) end() []byte {
	c.put("</svg>\n")
	return c.Bytes()
}

func (c *canvas) put(form string, args ...any) { fmt.Fprintf(c, form, args...) }

func (c *canvas) text(x, y, size float64, anchor, more, text string) {
	c.put(`<text x="%g" y="%g" font-size="%g" text-anchor="%s" fill="#24292f" %s>%s</text>`+"\n", x, y, size, anchor, more, html.EscapeString(text))
}

// panel draws a panel, or the heading of a row of them, in its place of the grid.
func (c *canvas) panel(p panel, all []series) {
	x, y := p.GridPos.X*column+gap, top+p.GridPos.Y*line
	w, h := p.GridPos.W*column-gap, p.GridPos.H*line-gap
	if p.Type == "row" {
		c.text(x+gap, y+h, 14, "start", "font-weight='600'", p.Title)
		return
	}
	fill := "#ffffff"
	if p.Type == "stat" && len(all) > 0 {
		fill = p.colour(all[0].points[0].value)
	}
	c.put("<g>\n"+`<rect x="%g" y="%g" width="%g" height="%g" rx="3" fill="%s" stroke="#d0d7de"/>`+"\n", x, y, w, h, fill)
	c.text(x+10, y+19, 13, "start", "font-weight='600'", p.Title)
	switch unit := p.FieldConfig.Defaults.Unit; {
	case len(all) == 0:
		c.text(x+w/2, y+h/2+10, 14, "middle", "", "No data")
	case p.Type == "stat":
		c.text(x+w/2, y+h/2+26, 48, "middle", "", format(all[0].points[0].value, unit))
	default:
		bottom := c.legend(all, x+left, y+h-8, x+w-gap)
		c.plot(box{x + left, y + head, x + w - 2*gap, bottom - 34}, all, unit)
	}
	c.put("</g>\n")
}

// colour of a number: that of the last threshold that it has reached.
func (p panel) colour(value float64) string {
	out := "#ffffff"
	for _, s := range p.FieldConfig.Defaults.Thresholds.Steps {
		if s.Value == nil || value >= *s.Value {
			out = steps[s.Color]
		}
	}
	return out
}
