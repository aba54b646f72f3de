package recipe

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"github.com/polargo/polar/internal/atomicfile"
)

// Figure is one PNG of one or more panels side by side.
type Figure struct {
	// File is its name in the folder, Title its caption in the report.
	File, Title string
	Panels      []Panel
}

// Panel is curves over one pair of axes.
type Panel struct {
	Title, X, Y  string
	LogX, LogY   bool
	Curves       []Curve
	WithoutMarks bool // lines alone, for curves of many points
	LowLegend    bool // the names of the curves at the bottom
	MiddleLegend bool // the names of the curves between left and right
}

// Curve is points joined by lines. Points that are not finite, or not positive on a logarithmic axis, are left out.
type Curve struct {
	Name string
	X, Y []float64
	// Errors are half the length of the error bars; nil for none.
	Errors []float64
	// Shade orders the colours of the curves, from 0 to 1; Dashed tells two kinds apart.
	Shade  float64
	Dashed bool
}

// The size of a panel. At 72 points an inch and 96 dots an inch this is 480 x 384 dots.
const (
	panelWidth  = 5 * vg.Inch
	panelHeight = 4 * vg.Inch
)

// write draws the figure into the folder.
func (f Figure) write(dir string) error {
	plots := make([]*plot.Plot, len(f.Panels))
	for i, panel := range f.Panels {
		p, err := panel.plot()
		if err != nil {
			return fmt.Errorf("figure %s: %w", f.File, err)
		}
		plots[i] = p
	}
	canvas := vgimg.New(panelWidth*vg.Length(len(plots)), panelHeight)
	tiles := draw.Tiles{Rows: 1, Cols: len(plots), PadX: vg.Points(6), PadTop: vg.Points(4), PadBottom: vg.Points(4), PadRight: vg.Points(6)}
	for i, canvases := 0, plot.Align([][]*plot.Plot{plots}, tiles, draw.New(canvas)); i < len(plots); i++ {
		plots[i].Draw(canvases[0][i])
	}
	return atomicfile.Write(filepath.Join(dir, f.File), func(w io.Writer) error {
		_, err := vgimg.PngCanvas{Canvas: canvas}.WriteTo(w)
		return err
	})
}

// plot builds one panel.
func (p Panel) plot() (*plot.Plot, error) {
	out := plot.New()
	out.Title.Text, out.X.Label.Text, out.Y.Label.Text = p.Title, p.X, p.Y
	if p.LogX {
		out.X.Scale, out.X.Tick.Marker = plot.LogScale{}, logTicks{}
	}
	if p.LogY {
		out.Y.Scale, out.Y.Tick.Marker = plot.LogScale{}, logTicks{}
	}
	out.Add(plotter.NewGrid())
	out.Legend.Top, out.Legend.XOffs = !p.LowLegend, -vg.Points(4)
	if p.MiddleLegend {
		out.Legend.XOffs = -panelWidth * 0.35
	}
	for _, c := range p.Curves {
		if err := p.add(out, c); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// logTicks marks 1 to 9 times powers of ten, and labels them at 1, or at 1, 2 and 5 where the axis has less than two decades.
type logTicks struct{}

// Ticks implements plot.Ticker.
func (logTicks) Ticks(low, high float64) (ticks []plot.Tick) {
	for e := math.Floor(math.Log10(low)); e <= math.Ceil(math.Log10(high)); e++ {
		for m := 1.0; m <= 9; m++ {
			v := m * math.Pow(10, e)
			if v < low*0.9999 || v > high*1.0001 {
				continue
			}
			tick := plot.Tick{Value: v}
			if m == 1 || high < 100*low && (m == 2 || m == 5) {
				tick.Label = fmt.Sprintf("%.4g", v)
			}
			ticks = append(ticks, tick)
		}
	}
	return ticks
}

// add draws a curve with its error bars and its line in the legend.
func (p Panel) add(out *plot.Plot, c Curve) error {
	var points plotter.XYs
	var bars plotter.YErrors
	for i := range c.X {
		if !p.shows(c.X[i], c.Y[i]) {
			continue
		}
		points = append(points, plotter.XY{X: c.X[i], Y: c.Y[i]})
		half := 0.0
		if i < len(c.Errors) && !math.IsNaN(c.Errors[i]) {
			half = c.Errors[i]
		}
		low := half
		if p.LogY {
			low = min(half, 0.9*c.Y[i])
		}
		bars = append(bars, struct{ Low, High float64 }{low, half})
	}
	if len(points) == 0 {
		return nil
	}
	line, marks, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	line.Color, line.Width = shade(c.Shade), vg.Points(1.4)
	marks.Color, marks.Shape, marks.Radius = line.Color, draw.CircleGlyph{}, vg.Points(2.2)
	if c.Dashed {
		line.Dashes = []vg.Length{vg.Points(4), vg.Points(2)}
	}
	out.Add(line)
	if !p.WithoutMarks {
		out.Add(marks)
	}
	if c.Errors != nil {
		errors, err := plotter.NewYErrorBars(struct {
			plotter.XYer
			plotter.YErrorer
		}{points, bars})
		if err != nil {
			return err
		}
		errors.Color = line.Color
		out.Add(errors)
	}
	out.Legend.Add(c.Name, line)
	return nil
}

// shows reports whether a point can be drawn.
func (p Panel) shows(x, y float64) bool {
	finite := !math.IsNaN(x+y) && !math.IsInf(x, 0) && !math.IsInf(y, 0)
	return finite && (!p.LogX || x > 0) && (!p.LogY || y > 0)
}

// shades are the colours from 0 to 1: dark violet over green to orange, told apart without seeing red and green.
var shades = []color.RGBA{{68, 1, 84, 255}, {59, 82, 139, 255}, {33, 145, 140, 255}, {94, 190, 80, 255}, {230, 140, 20, 255}}

// shade returns the colour at a place between 0 and 1.
func shade(at float64) color.Color {
	at = min(max(at, 0), 1) * float64(len(shades)-1)
	i := min(int(at), len(shades)-2)
	mix := func(a, b uint8) uint8 { return uint8(float64(a) + (at-float64(i))*(float64(b)-float64(a))) }
	a, b := shades[i], shades[i+1]
	return color.RGBA{mix(a.R, b.R), mix(a.G, b.G), mix(a.B, b.B), 255}
}
