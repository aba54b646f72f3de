package recipe

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// cell is what one method did in one setting at one rate.
type cell struct {
	setting mod31Setting
	method  mod31Method
	rate    float64
	// steps to the threshold by seed, the largest number of steps + 1 for a seed that did not reach it; reached counts those that did.
	steps   []float64
	reached int
	// moved is the mean ‖W_{t+1} - W_t‖_F over the steps that all methods of the setting and rate took, by seed.
	moved []float64
	// norm is the largest RMS→RMS norm of a weight at the end, over seeds.
	norm float64
}

// cells gathers the results by setting, rate and method, in that order.
func (m *mod31) cells(r Results) (out []cell) {
	for _, s := range m.Settings {
		methods, _ := m.methodsOf(s)
		for _, rate := range s.Rates {
			common := map[int64]int{}
			for _, method := range methods {
				for _, seed := range s.seedsOf(method, r.Seeds) {
					n := len(r.series(s.key(method.Name, rate, seed), "moved"))
					if had, ok := common[seed]; !ok || n < had {
						common[seed] = n
					}
				}
			}
			for _, method := range methods {
				c := cell{setting: s, method: method, rate: rate}
				for _, seed := range s.seedsOf(method, r.Seeds) {
					c.add(r, m.Steps, s.key(method.Name, rate, seed), common[seed])
				}
				out = append(out, c)
			}
		}
	}
	return out
}

// add takes the trial of one seed in.
func (c *cell) add(r Results, most int, key string, common int) {
	steps := r.value(key, "steps")
	if steps <= float64(most) {
		c.reached++
	} else {
		steps = float64(most) + 1
	}
	c.steps = append(c.steps, steps)
	sum := 0.0
	for _, moved := range r.series(key, "moved")[:common] {
		sum += moved
	}
	c.moved = append(c.moved, sum/float64(common))
	c.norm = math.Max(c.norm, r.value(key, "largest_norm"))
}

// comparison is two methods in the same setting at the same rate.
type comparison struct{ a, b cell }

// compare pairs the cells of two methods wherever both ran.
func compare(cells []cell, a, b string) (out []comparison) {
	for _, x := range cells {
		for _, y := range cells {
			if x.method.Name == a && y.method.Name == b && x.setting.Name == y.setting.Name && x.rate == y.rate {
				out = append(out, comparison{x, y})
			}
		}
	}
	return out
}

// where names setting and rate.
func (c comparison) where() string { return fmt.Sprintf("%s, rate %g", c.a.setting.Name, c.a.rate) }

// ratio is how much larger the updates of a are than those of b: the mean over seeds of the ratio.
func (c comparison) ratio() Estimate {
	out := make([]float64, min(len(c.a.moved), len(c.b.moved)))
	for i := range out {
		out[i] = c.a.moved[i] / c.b.moved[i]
	}
	return estimate(out)
}

// steps returns the steps of a and b for the seeds that both have.
func (c comparison) steps() (a, b []float64) {
	n := min(len(c.a.steps), len(c.b.steps))
	return c.a.steps[:n], c.b.steps[:n]
}

// sooner is by how many steps b reaches the threshold after a, seed by seed.
func (c comparison) sooner() Estimate {
	a, b := c.steps()
	return paired(b, a)
}

// learned reports whether every seed of one of the two reached the threshold; else there is nothing to compare.
func (c comparison) learned() bool {
	return c.a.reached == len(c.a.steps) || c.b.reached == len(c.b.steps)
}

// outcome is what one comparison says about a claim: 1 for it, 0 in part, -1 against it.
type outcome struct {
	where, measured string
	says            int
}

// test judges comparisons; words say in sentences what the outcomes 1, 0 and -1 mean.
type test struct {
	judge func(comparison) outcome
	words map[int]string
	// needsSteps leaves out comparisons in which neither method reached the threshold with all seeds.
	needsSteps bool
}

var (
	testTwice  = test{updatesTwice, map[int]string{1: "about twice", 0: "larger, but not about twice", -1: "not larger"}, false}
	testSooner = test{soonerThan, map[int]string{1: "distinctly fewer", 0: "fewer, but not distinctly", -1: "not fewer"}, true}
	testAsGood = test{asGoodAs, map[int]string{1: "at most a tenth more", 0: "more, but not distinctly", -1: "distinctly more"}, true}
)

// The rules of the claims, fixed before the experiment was run. "About twice" is a ratio from 1.5 to 2.5; anything above 1.1 is
// larger.
const (
	aboutTwiceLow, aboutTwiceHigh = 1.5, 2.5
	larger                        = 1.1
	// asGoodSteps is by which part of pdhg's steps one alternating step may be later and still be as good.
	asGoodSteps = 0.1
)

// updatesTwice judges one ratio of update sizes.
func updatesTwice(c comparison) outcome {
	ratio := c.ratio()
	o := outcome{where: c.where(), measured: ratio.String(), says: -1}
	switch mean := float64(ratio.Mean); {
	case mean >= aboutTwiceLow && mean <= aboutTwiceHigh:
		o.says = 1
	case mean > larger:
		o.says = 0
	}
	return o
}

// soonerThan judges whether a reaches the threshold in fewer steps than b.
func soonerThan(c comparison) outcome {
	d := c.sooner()
	o := outcome{where: c.where(), measured: fmt.Sprintf("%s against %s", describe(c.a), describe(c.b)), says: -1}
	switch {
	case d.above():
		o.says = 1
	case float64(d.Mean) > 0:
		o.says = 0
	}
	return o
}

// asGoodAs judges whether a needs at most a tenth more steps than b.
func asGoodAs(c comparison) outcome {
	o := outcome{where: c.where(), measured: fmt.Sprintf("%s against %s", describe(c.a), describe(c.b)), says: -1}
	a, b := c.steps()
	switch {
	case float64(estimate(a).Mean) <= (1+asGoodSteps)*float64(estimate(b).Mean):
		o.says = 1
	case !c.sooner().below():
		o.says = 0
	}
	return o
}

// describe writes the steps of a cell, and how many seeds reached the threshold where not all did.
func describe(c cell) string {
	text := estimate(c.steps).String()
	if c.reached < len(c.steps) {
		text += fmt.Sprintf(" (%d of %d seeds)", c.reached, len(c.steps))
	}
	return text
}

// verdictOf turns the outcomes of a claim into its verdict: reproduced or not if they all say so, else partly.
func verdictOf(outcomes []outcome, words map[int]string) (v Verdict, measured, reason string) {
	if len(outcomes) == 0 {
		return NotReproduced, "nothing", "No setting reached the threshold in time, so there is nothing to compare."
	}
	var figures, parts []string
	says := map[int][]string{}
	for _, o := range outcomes {
		figures = append(figures, o.measured+" ("+o.where+")")
		says[o.says] = append(says[o.says], o.where)
	}
	for _, kind := range []int{1, 0, -1} {
		if len(says[kind]) > 0 {
			parts = append(parts, fmt.Sprintf("%s in: %s", words[kind], strings.Join(says[kind], "; ")))
		}
	}
	v = Partly
	if len(says[1]) == len(outcomes) {
		v = Reproduced
	} else if len(says[-1]) == len(outcomes) {
		v = NotReproduced
	}
	return v, strings.Join(figures, "; "), upperFirst(strings.Join(parts, "; ")) + "."
}

// judge holds the three claims against the results.
func (m *mod31) judge(r Results) Findings {
	cells := m.cells(r)
	f := Findings{Settings: m.settings(), Limits: m.limits(r, cells)}
	claim := func(statement, published string, t test, a, b string) {
		var outcomes []outcome
		for _, c := range compare(cells, a, b) {
			if !t.needsSteps || c.learned() {
				outcomes = append(outcomes, t.judge(c))
			}
		}
		v, measured, reason := verdictOf(outcomes, t.words)
		f.Claims = append(f.Claims, Claim{Statement: statement, Published: published, Measured: measured, Verdict: v, Reason: reason})
	}
	if m.has("alternating-1") && m.has("oracle") {
		claim("updates after the retraction, one alternating step over the oracle", "about 2", testTwice, "alternating-1", "oracle")
		claim("steps to the threshold, one alternating step against the oracle", "fewer", testSooner, "alternating-1", "oracle")
	}
	if m.has("alternating-1") && m.has("decay") {
		claim("steps to the threshold, one alternating step against Muon with weight decay", "fewer", testSooner, "alternating-1", "decay")
	}
	if m.has("pdhg") && m.has("oracle") {
		claim("updates after the retraction, pdhg over the oracle", "about 2", testTwice, "pdhg", "oracle")
		claim("steps to the threshold, one alternating step against pdhg", "about the same", testAsGood, "alternating-1", "pdhg")
	}
	f.Tables = append(f.Tables, m.table(cells))
	f.Figures = m.figures(r)
	return f
}

// has reports whether a method is among those run.
func (m *mod31) has(name string) bool {
	return slices.ContainsFunc(m.Methods, func(method mod31Method) bool { return method.Name == name })
}

// table lists all cells.
func (m *mod31) table(cells []cell) Table {
	t := Table{
		Title:  fmt.Sprintf("Steps to a test accuracy of %g %%, and the size of updates", 100*m.Threshold),
		Header: []string{"setting", "rate", "method", "steps", "seeds that got there", "mean of the updates' norms", "largest RMS→RMS norm at the end"},
		Note: fmt.Sprintf("A seed that did not get there counts as %d steps. Norms of updates are over the steps that all methods of a setting and rate took.",
			m.Steps+1),
	}
	for _, c := range cells {
		t.Rows = append(t.Rows, []string{
			c.setting.Name, fmt.Sprintf("%g", c.rate), c.method.Name, estimate(c.steps).String(), fmt.Sprintf("%d of %d", c.reached, len(c.steps)),
			estimate(c.moved).String(), fmt.Sprintf("%.3f", c.norm),
		})
	}
	return t
}

// figures draws test accuracy and the norm of updates against steps, one figure for each setting and rate.
func (m *mod31) figures(r Results) (out []Figure) {
	for _, s := range m.Settings {
		methods, _ := m.methodsOf(s)
		for _, rate := range s.Rates {
			accuracy := Panel{Title: fmt.Sprintf("%s, rate %g", s.Name, rate), X: "step", Y: "test accuracy", WithoutMarks: true, LowLegend: true}
			moved := Panel{Title: accuracy.Title, X: "step", Y: "norm of the update", WithoutMarks: true, LogY: true}
			for i, method := range methods {
				var keys []string
				for _, seed := range s.seedsOf(method, r.Seeds) {
					keys = append(keys, s.key(method.Name, rate, seed))
				}
				shade := float64(i) / math.Max(float64(len(methods)-1), 1)
				accuracy.Curves = append(accuracy.Curves, meanCurve(r, keys, "test_accuracy", method.Name, shade, true))
				moved.Curves = append(moved.Curves, meanCurve(r, keys, "moved", method.Name, shade, false))
			}
			title := fmt.Sprintf("Test accuracy and ‖W_{t+1} - W_t‖_F: %s, rate %g", s.Name, rate)
			out = append(out, Figure{File: fmt.Sprintf("mod31-%s-r%s.png", s.Name, rateName(rate)), Title: title, Panels: []Panel{accuracy, moved}})
		}
	}
	return out
}

// meanCurve averages a series over trials. A trial that ended keeps its last value if hold is set; else the curve ends with the
// shortest.
func meanCurve(r Results, keys []string, series, name string, shade float64, hold bool) Curve {
	c := Curve{Name: name, Shade: shade}
	var all [][]float64
	length := 0
	for _, key := range keys {
		values := r.series(key, series)
		if len(all) == 0 || hold == (len(values) > length) {
			length = len(values)
		}
		all = append(all, values)
	}
	for step := range length {
		sum := 0.0
		for _, values := range all {
			sum += values[min(step, len(values)-1)]
		}
		c.X, c.Y = append(c.X, float64(step)), append(c.Y, sum/float64(len(all)))
	}
	return c
}

// settings says what was computed.
func (m *mod31) settings() []string {
	out := []string{
		fmt.Sprintf("Published: a network learns addition modulo %d, all weights in the ball of RMS→RMS radius %g, which for Muon is weight decay %g. "+
			"The measure of updates is ‖W_{t+1} - W_t‖_F after the retraction.", modulus, m.Radius, 1/m.Radius),
		fmt.Sprintf("Methods: %s. The oracle is Muon's direction with the retraction and nothing else, the published baseline; decay is Muon with weight decay %g and no retraction.",
			strings.Join(m.methodNames(), ", "), 1/m.Radius),
		fmt.Sprintf("Ours: %d of the %d pairs, drawn by the seed, are for training, the others for testing; cross-entropy; ReLU; no biases; starts are polar factors times "+
			"sqrt(m/n). Inputs have RMS norm 1. A trial ends %d steps after its test accuracy first reached %g %%.", trainingRows, modulus*modulus, m.After, 100*m.Threshold),
		"What the paper does not state runs side by side, with the same choices for all methods: they were made on Muon with weight decay alone, so that it learns in the steps given.",
	}
	for _, s := range m.Settings {
		rows := "all rows in each step"
		if s.Batch > 0 {
			rows = fmt.Sprintf("%d rows a step", s.Batch)
		}
		out = append(out, fmt.Sprintf("Setting %s: %s inputs, %d hidden layers of width %d, momentum %g, %s.", s.Name, s.Inputs, s.Hidden, s.Width, s.Momentum, rows))
	}
	return append(out,
		fmt.Sprintf("Updates are about twice as large at a ratio from %g to %g, and larger above %g. Fewer steps: the difference, paired over seeds, is above %d standard errors. As good: at most %g %% more steps. "+
			"A claim is reproduced if every setting and rate says so, not if none does, else partly.", aboutTwiceLow, aboutTwiceHigh, larger, distinctErrors, 100*asGoodSteps))
}

func (m *mod31) methodNames() (out []string) {
	for _, method := range m.Methods {
		out = append(out, method.Name)
	}
	return out
}

// limits says what the results cannot support.
func (m *mod31) limits(r Results, cells []cell) (out []string) {
	if len(r.Seeds) < 4 {
		out = append(out, fmt.Sprintf("%d seeds: standard errors mean little, and a difference is called one too easily or not at all.", len(r.Seeds)))
	}
	for _, name := range []string{"decay", "oracle", "alternating-1", "alternating-4", "pdhg"} {
		if !m.has(name) {
			out = append(out, fmt.Sprintf("The method %s was not run.", name))
		}
	}
	for _, s := range m.Settings {
		if len(s.Methods) > 0 && len(s.Methods) < len(m.Methods) {
			out = append(out, fmt.Sprintf("Setting %s was run with %s only.", s.Name, strings.Join(s.Methods, ", ")))
		}
		methods, _ := m.methodsOf(s)
		for _, method := range methods {
			if n := len(s.seedsOf(method, r.Seeds)); n < len(r.Seeds) {
				out = append(out, fmt.Sprintf("Setting %s was run with %d of the %d seeds for %s.", s.Name, n, len(r.Seeds), method.Name))
			}
		}
	}
	for _, c := range cells {
		if c.reached < len(c.steps) {
			out = append(out, fmt.Sprintf("%s, rate %g, %s: %d of %d seeds reached the threshold within %d steps; the mean of steps is a lower bound.",
				c.setting.Name, c.rate, c.method.Name, c.reached, len(c.steps), m.Steps))
		}
	}
	return out
}

// upperFirst begins a sentence.
func upperFirst(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
