package recipe

import (
	"fmt"
	"math"
	"strings"

	"github.com/polargo/polar/manifold"
)

// judge finds the best rate of every case and width, and holds it against the claim.
func (x *xor) judge(r Results) Findings {
	f := Findings{Settings: x.settings(), Limits: x.limits(r)}
	for _, c := range x.Cases {
		var widths []best
		for _, width := range c.Widths {
			widths = append(widths, x.bestOf(r, c, width))
		}
		verdict, reason := transfer(x.Rates, widths)
		if c.control() {
			reason = "For comparison, no claim is tested. By the rule of the claims it would be " + string(verdict) + ": " + reason
		} else {
			f.Claims = append(f.Claims, Claim{
				Statement: fmt.Sprintf("%s, %s loss: the best learning rate is the same for all widths", c.title(), c.Loss),
				Published: "the same (figure)",
				Measured:  x.bestRates(widths),
				Verdict:   verdict, Reason: reason,
			})
		}
		f.Tables = append(f.Tables, x.table(c, widths, reason))
		f.Figures = x.draw(f.Figures, c, widths)
	}
	return f
}

// title names a case in sentences.
func (c xorCase) title() string {
	set := map[string]string{manifold.PSD: "PSD cone", manifold.Spectrahedron: "spectrahedron [-1, 1]", manifold.Ball: "ball", "none": "no set"}[c.Set]
	title := set + ", " + c.Solver
	if c.Momentum > 0 {
		title += fmt.Sprintf(" with momentum %g", c.Momentum)
	}
	return title
}

// bestRates lists the best rate of each width.
func (x *xor) bestRates(widths []best) string {
	var parts []string
	for _, b := range widths {
		parts = append(parts, fmt.Sprintf("%g at %d", x.Rates[b.rate], b.width))
	}
	return strings.Join(parts, ", ")
}

// table shows the loss of a case by width and rate, and what the narrowest width's best rate would cost each width.
func (x *xor) table(c xorCase, widths []best, note string) Table {
	t := Table{Title: "Loss after the last step: " + c.title() + ", " + c.Loss + " loss", Header: []string{"width"}, Note: note}
	for _, rate := range x.Rates {
		t.Header = append(t.Header, fmt.Sprintf("rate %g", rate))
	}
	t.Header = append(t.Header, fmt.Sprintf("lost with the best rate of width %d", widths[0].width))
	for _, b := range widths {
		row := []string{fmt.Sprintf("%d (%d seeds)", b.width, b.losses[0].N)}
		for i, loss := range b.losses {
			cell := loss.String()
			switch {
			case i == b.rate:
				cell = "**" + cell + "**"
			case loss.N == 0:
				cell = "not run"
			}
			row = append(row, cell)
		}
		lost := b.losses[widths[0].rate]
		t.Rows = append(t.Rows, append(row, fmt.Sprintf("%.2g", float64(lost.Mean-b.losses[b.rate].Mean))))
	}
	return t
}

// draw adds the panel of a case, loss against rate by width, to the figure of its solver and loss.
func (x *xor) draw(figures []Figure, c xorCase, widths []best) []Figure {
	panel := Panel{Title: c.title() + ", " + c.Loss + " loss", X: "learning rate", Y: fmt.Sprintf("loss after %d steps", x.Steps), LogX: true, LogY: true, MiddleLegend: true}
	for i, b := range widths {
		curve := Curve{Name: fmt.Sprintf("width %d", b.width), X: x.Rates, Shade: float64(i) / math.Max(float64(len(widths)-1), 1)}
		for _, loss := range b.losses {
			curve.Y, curve.Errors = append(curve.Y, float64(loss.Mean)), append(curve.Errors, float64(loss.StandardError))
		}
		panel.Curves = append(panel.Curves, curve)
	}
	kind, name := c.Solver, "Loss against rate by width, "+c.Solver
	if c.control() {
		kind, name = "none", "Loss against rate by width, no set"
	}
	file := "xor-" + kind + "-" + c.Loss + ".png"
	for i := range figures {
		if figures[i].File == file {
			figures[i].Panels = append(figures[i].Panels, panel)
			return figures
		}
	}
	return append(figures, Figure{File: file, Title: name + ", " + c.Loss + " loss", Panels: []Panel{panel}})
}

// settings says what was computed.
func (x *xor) settings() []string {
	return []string{
		fmt.Sprintf("Published: a network 2 → D → D → 2, %d steps, updates of RMS→RMS norm η. With the PSD cone and the spectrahedron [-1, 1] the set is that of "+
			"the D x D weight, and the two other weights stay on the Stiefel manifold times sqrt(m/n); the ball of radius sqrt(m/n) is that of all weights. Published with pdhg; "+
			"one alternating step is ours.", x.Steps),
		"Ours: the four points (±1, ±1), all of them in each step; ReLU; no biases; no momentum, unless a case names it; the loss is the mean square over both outputs against ±1 " +
			"(square) or cross-entropy, run side by side.",
		"Starts: polar factors of Gaussian matrices times sqrt(m/n), on the ball's boundary; for the spectrahedron the symmetric part of one, for the PSD cone the nearest positive " +
			"semidefinite matrix to that. The seed decides nothing else.",
		"A case without a set is Muon or AdamW on all weights, without decay: what the same measurement says where nothing is claimed.",
		fmt.Sprintf("A width's best rate has the lowest mean loss. Another rate is as good if its loss, paired over seeds, is not above by more than %d standard errors. Reproduced: "+
			"the best rates of all widths lie within one step of the grid, and one rate is as good as the best at every width. Partly: one of the two, or the best lies at an end of the grid.", distinctErrors),
	}
}

// limits says what the results cannot support.
func (x *xor) limits(r Results) (out []string) {
	if len(r.Seeds) < 4 {
		out = append(out, fmt.Sprintf("%d seeds: standard errors mean little, and a difference is called one too easily or not at all.", len(r.Seeds)))
	}
	solvers := map[string]bool{}
	for _, c := range x.Cases {
		solvers[c.Solver] = true
		if last := c.Widths[len(c.Widths)-1]; !c.control() && last < 1024 {
			out = append(out, fmt.Sprintf("%s, %s loss: run up to width %d, not to 1024.", c.title(), c.Loss, last))
		}
	}
	for _, solver := range []string{manifold.Alternating, manifold.PDHG} {
		if !solvers[solver] {
			out = append(out, fmt.Sprintf("The solver %s was not run.", solver))
		}
	}
	for _, c := range x.Cases {
		for _, width := range c.Widths {
			what := fmt.Sprintf("%s, %s loss, width %d", c.title(), c.Loss, width)
			if n := len(c.seedsOf(width, r.Seeds)); n < len(r.Seeds) {
				out = append(out, fmt.Sprintf("%s: %d seeds only.", what, n))
			}
			if n := len(x.ratesOf(c, width)); n < len(x.Rates) {
				out = append(out, fmt.Sprintf("%s: %d of the %d rates only, which can tell whether the best moved up or down but not how far.", what, n, len(x.Rates)))
			}
		}
	}
	return out
}
