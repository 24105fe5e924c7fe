package main

import "math"

// colours of lines, in their order; they can be told apart by those who see no red or no green.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9", "#6a3d9a", "#e69f00", "#555555", "#a50026"}

// legend writes the names of the lines, from the bottom up, and returns where it begins.
func (c *canvas) legend(all []series, x0, bottom, x1 float64) float64 {
	const letter, height = 6.2, 15.0 // of a name: what a letter takes on the average
	type place struct{ x, row float64 }
	x, row, places := x0, 0.0, []place{}
	for _, s := range all {
		w := 26 + letter*float64(len([]rune(s.name)))
		if x > x0 && x+w > x1 {
			x, row = x0, row+1
		}
		places = append(places, place{x, row})
		x += w
	}
	first := bottom - row*height
	for i, s := range all {
		x, y := places[i].x, first+places[i].row*height
		c.put(`<rect x="%.1f" y="%.1f" width="10" height="3" fill="%s"/>`, x, y-5, colours[i%len(colours)])
		c.text(x+14, y, 11, "start", "", s.name)
	}
	return first
}

type box struct{ x0, y0, x1, y1 float64 }

// plot draws the axes and the lines.
func (c *canvas) plot(b box, all []series, unit string) {
	most := 0.0
	for _, s := range all {
		for _, p := range s.points {
			if p.there() {
				most = max(most, p.value)
			}
		}
	}
	marks := ticks(most, unit)
	scaleX := (b.x1 - b.x0) / c.to.Sub(c.from).Seconds()
	scaleY := (b.y1 - b.y0) / marks[len(marks)-1]
	for _, v := range marks {
		y := b.y1 - v*scaleY
		c.put(`<path d="M%.1f %.1fH%.1f" stroke="#e4e7eb"/>`, b.x0, y, b.x1)
		c.text(b.x0-6, y+4, 11, "end", "", format(v, unit))
	}
	for _, t := range moments(c.from, c.to) {
		x := b.x0 + t.Sub(c.from).Seconds()*scaleX
		c.put(`<path d="M%.1f %.1fV%.1f" stroke="#e4e7eb"/>`, x, b.y0, b.y1)
		c.text(x, b.y1+15, 11, "middle", "", t.Format("15:04"))
	}
	for i, s := range all {
		c.put(`<path class="series" fill="none" stroke="%s" stroke-width="1.6" stroke-linejoin="round" stroke-linecap="round" d="`, colours[i%len(colours)])
		c.line(s.points, func(p point) (float64, float64) {
			return b.x0 + (p.at-float64(c.from.Unix()))*scaleX, b.y1 - p.value*scaleY
		})
		c.put(`"/>` + "\n")
	}
}

// line draws through the points, and leaves out what is between two of them that are not neighbours.
func (c *canvas) line(points []point, place func(point) (x, y float64)) {
	step := math.Inf(1)
	for i := 1; i < len(points); i++ {
		step = min(step, points[i].at-points[i-1].at)
	}
	last := math.Inf(-1)
	for _, p := range points {
		if !p.there() {
			continue
		}
		x, y := place(p)
		if p.at-last > 1.5*step || math.IsInf(last, -1) {
			c.put("M%.1f %.1fh0", x, y) // a point without neighbours is a dot
		} else {
			c.put("L%.1f %.1f", x, y)
		}
		last = p.at
	}
}
