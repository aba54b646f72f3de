package recipe

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/polargo/polar/manifold"
	"github.com/polargo/polar/optimizer"
)

// xor is the experiment of section 6.1: a network of three weights learns XOR in a few steps, from widths 8 to 1024, and the
// question is whether the learning rate that does it best depends on the width.
type xor struct {
	// Steps of training, and the seeds when the user names none.
	Steps int `yaml:"steps"`
	Seeds int `yaml:"seeds"`
	// Rates from small to large, half a decade apart.
	Rates []float64 `yaml:"rates"`
	Cases []xorCase `yaml:"cases"`
}

// xorCase is one curve family of the figure: the constraint on the weights, how directions are found, and the loss.
type xorCase struct {
	// Set is psd, spectrahedron (both for the square weight, the others on the scaled Stiefel manifold), ball (for all), or none.
	Set string `yaml:"set"`
	// Solver finds the direction; for the set none it is the name of an optimizer.
	Solver string `yaml:"solver"`
	Loss   string `yaml:"loss"`
	// Momentum of the gradients' average.
	Momentum float64 `yaml:"momentum"`
	Widths   []int   `yaml:"widths"`
	// MaxSeeds bounds the seeds by width, and OnlyRates the rates, for widths that take long.
	MaxSeeds  map[int]int       `yaml:"max_seeds"`
	OnlyRates map[int][]float64 `yaml:"only_rates"`
	// SolverSteps are the solver's iterations; 0 chooses its usual number.
	SolverSteps int `yaml:"solver_steps"`
}

// control reports that a case is shown for comparison and is no claim.
func (c xorCase) control() bool { return c.Set == "none" }

// name is how a case is called in keys and file names.
func (c xorCase) name() string {
	name := c.Set + "-" + c.Solver + "-" + c.Loss
	if c.Momentum > 0 {
		name += fmt.Sprintf("-m%g", c.Momentum)
	}
	return name
}

// key names a trial.
func (c xorCase) key(width int, rate float64, seed int64) string {
	return fmt.Sprintf("%s-w%d-r%s-s%d", c.name(), width, rateName(rate), seed)
}

// rateName writes a rate for a key: 0.0316, 1, 1e-05.
func rateName(rate float64) string { return strings.ToLower(fmt.Sprintf("%g", rate)) }

// seedsOf returns the seeds that a width of the case gets.
func (c xorCase) seedsOf(width int, seeds []int64) []int64 {
	if most, ok := c.MaxSeeds[width]; ok {
		return seeds[:min(most, len(seeds))]
	}
	return seeds
}

// ratesOf returns the rates that a width of the case gets.
func (x *xor) ratesOf(c xorCase, width int) []float64 {
	if only := c.OnlyRates[width]; len(only) > 0 {
		return only
	}
	return x.Rates
}

// openXOR reads the settings.
func openXOR(section []byte) (experiment, error) {
	var x xor
	if err := readSettings(section, &x); err != nil {
		return nil, err
	}
	return &x, x.check()
}

// check returns an error for settings that nothing can be computed from.
func (x *xor) check() error {
	if x.Steps < 1 || x.Seeds < 1 || len(x.Rates) < 2 || len(x.Cases) == 0 {
		return fmt.Errorf("xor wants steps, seeds, at least two rates, and cases")
	}
	for _, c := range x.Cases {
		if len(c.Widths) == 0 || losses[c.Loss] == nil {
			return fmt.Errorf("case %s wants widths and a loss that is known", c.name())
		}
		for width, only := range c.OnlyRates {
			for _, rate := range only {
				if !slices.Contains(x.Rates, rate) {
					return fmt.Errorf("case %s: rate %g of width %d is not on the grid", c.name(), rate, width)
				}
			}
		}
		if _, err := x.rules(c); err != nil {
			return fmt.Errorf("case %s: %w", c.name(), err)
		}
	}
	return nil
}

func (x *xor) defaultSeeds() int { return x.Seeds }

// plan goes through widths and cases, narrow ones first; a graph is compiled for each and serves all rates and seeds.
func (x *xor) plan(seeds []int64) (groups []group) {
	for _, c := range x.Cases {
		for _, width := range c.Widths {
			g := group{
				name: fmt.Sprintf("%s of width %d", c.name(), width), order: width,
				open: func(engine compute.Backend) (session, error) { return x.open(engine, c, width) },
			}
			for _, rate := range x.ratesOf(c, width) {
				for _, seed := range c.seedsOf(width, seeds) {
					g.trials = append(g.trials, Trial{Key: c.key(width, rate, seed), Rate: rate, Seed: seed, Cost: x.cost(c, width)})
				}
			}
			groups = append(groups, g)
		}
	}
	slices.SortStableFunc(groups, func(a, b group) int { return cmp.Compare(a.order, b.order) })
	return groups
}

// xorSession trains one case at one width.
type xorSession struct {
	*network
	rows  [4]*tensors.Tensor
	steps int
}

// open compiles the network of a case.
func (x *xor) open(engine compute.Backend, c xorCase, width int) (session, error) {
	rules, err := x.rules(c)
	if err != nil {
		return nil, err
	}
	square := orthonormal
	switch c.Set {
	case manifold.PSD:
		square = positivePart
	case manifold.Spectrahedron:
		square = symmetricPart
	}
	n := &network{
		layers: []layer{
			{name: "first", out: width, in: 2, start: orthonormal, rule: "ends"},
			{name: "square", out: width, in: width, start: square, rule: "square"},
			{name: "last", out: 2, in: width, start: orthonormal, rule: "ends"},
		},
		forward: func(w map[string]*Node, x *Node) *Node {
			return linear(relu(linear(relu(linear(x, w["first"])), w["square"])), w["last"])
		},
		loss: c.Loss,
	}
	if err := n.compile(engine, rules); err != nil {
		return nil, err
	}
	inputs := tensors.FromFlatDataAndDimensions([]float32{-1, -1, -1, 1, 1, -1, 1, 1}, 4, 2)
	labels := tensors.FromFlatDataAndDimensions([]float32{1, 0, 0, 1, 0, 1, 1, 0}, 4, 2)
	return &xorSession{network: n, rows: [4]*tensors.Tensor{inputs, labels, inputs, labels}, steps: x.Steps}, nil
}

// run trains on all four points and measures the loss after the last step.
func (s *xorSession) run(ctx context.Context, t Trial) (Result, error) {
	var curve []float64
	last, err := s.train(ctx, t, s.steps, func(int) [4]*tensors.Tensor { return s.rows }, func(m measured) bool {
		curve = append(curve, m.loss)
		return true
	})
	if err != nil {
		return Result{}, err
	}
	return Result{
		Values: map[string]Number{
			"loss": Number(last.loss), "accuracy": Number(last.accuracy),
			"norm_first": Number(last.norms[0]), "norm_square": Number(last.norms[1]), "norm_last": Number(last.norms[2]),
		},
		Series: map[string][]Number{"loss": numbers(curve)},
	}, nil
}

// best is the outcome of one width: which rate had the lowest mean loss, and which others are as good.
type best struct {
	width int
	// losses are the estimates by rate, in the order of the rates; N is 0 for a rate that was not run. A trial whose loss is not
	// finite counts as infinite.
	losses []Estimate
	// rate is the index of the lowest, asGood marks the rates whose difference from it, paired over seeds, is not distinct.
	rate   int
	asGood []bool
	// edge is set if the lowest is the first or last rate that was run.
	edge bool
}

// bestOf finds the best rate of a case at a width.
func (x *xor) bestOf(r Results, c xorCase, width int) best {
	b := best{width: width, rate: -1}
	samples := make([][]float64, len(x.Rates))
	ran := x.ratesOf(c, width)
	for i, rate := range x.Rates {
		if slices.Contains(ran, rate) {
			samples[i] = finiteOr(Results{Seeds: c.seedsOf(width, r.Seeds), byKey: r.byKey}.values("loss", func(seed int64) string { return c.key(width, rate, seed) }))
		}
		b.losses = append(b.losses, estimate(samples[i]))
		if samples[i] != nil && (b.rate < 0 || b.losses[i].Mean < b.losses[b.rate].Mean) {
			b.rate = i
		}
	}
	for i, sample := range samples {
		b.asGood = append(b.asGood, i == b.rate || sample != nil && !worse(sample, samples[b.rate]))
	}
	at := x.Rates[b.rate]
	b.edge = at == slices.Min(ran) || at == slices.Max(ran)
	return b
}

// finiteOr replaces NaN by infinity: a trial that diverged is worse than any that did not.
func finiteOr(sample []float64) []float64 {
	for i, v := range sample {
		if math.IsNaN(v) {
			sample[i] = math.Inf(1)
		}
	}
	return sample
}

// worse reports whether the losses a are distinctly above those of b, seed by seed. Of one seed any difference counts.
func worse(a, b []float64) bool {
	difference := paired(a, b)
	if math.IsInf(float64(difference.Mean), 1) || difference.N == 1 {
		return difference.Mean > 0
	}
	return difference.above()
}

// transfer judges whether the best rate is the same across widths. The rule was fixed before the experiment was run:
// reproduced, if the best rates lie within one step of the grid and one rate is as good as the best at every width; partly, if only
// one of the two holds, or if the best is at the end of the grid somewhere, where it may lie outside; else not.
func transfer(rates []float64, widths []best) (v Verdict, reason string) {
	low, high, edge := len(rates), -1, false
	shared := make([]bool, len(rates))
	for i := range shared {
		shared[i] = true
	}
	for _, b := range widths {
		low, high = min(low, b.rate), max(high, b.rate)
		edge = edge || b.edge
		for i, good := range b.asGood {
			shared[i] = shared[i] && good
		}
	}
	var common []string
	for i, ok := range shared {
		if ok {
			common = append(common, fmt.Sprintf("%g", rates[i]))
		}
	}
	near := high-low <= 1
	reason = fmt.Sprintf("The best rates lie within %d steps of half a decade", high-low)
	if len(common) > 0 {
		reason += fmt.Sprintf("; as good as the best at every width: %s", strings.Join(common, ", "))
	} else {
		reason += "; no rate is as good as the best at every width"
	}
	switch {
	case edge:
		reason += "; the best is at an end of the grid, where it may lie outside"
		if near || len(common) > 0 {
			return Partly, reason + "."
		}
		return NotReproduced, reason + "."
	case near && len(common) > 0:
		return Reproduced, reason + "."
	case near || len(common) > 0:
		return Partly, reason + "."
	}
	return NotReproduced, reason + "."
}

// cost estimates the time of a trial, in about seconds on two cores. The powers of the width are fitted to measured times: overhead
// of the graph's nodes, element by element work, and products.
func (x *xor) cost(c xorCase, width int) float64 {
	factor := map[string]float64{"adamw": 0.03, "muon": 0.12, manifold.Oracle: 0.7, manifold.Alternating: 1, manifold.PDHG: 20}[c.Solver]
	if factor == 0 {
		factor = 20
	}
	w := float64(width)
	return 0.001 * float64(x.Steps) * factor * (1 + w/16 + math.Pow(w/40, 2) + math.Pow(w/80, 3))
}

// rules returns how the layers are updated.
func (x *xor) rules(c xorCase) (map[string]optimizer.Config, error) {
	of := func(set string) (optimizer.Config, error) {
		if set == "none" {
			return plainRule(c.Solver, c.Momentum)
		}
		return setRule(set, 1, c.Solver, c.SolverSteps, c.Momentum)
	}
	ends := c.Set
	if c.Set == manifold.PSD || c.Set == manifold.Spectrahedron {
		ends = manifold.Stiefel
	}
	square, err := of(c.Set)
	if err != nil {
		return nil, err
	}
	other, err := of(ends)
	return map[string]optimizer.Config{"square": square, "ends": other}, err
}
