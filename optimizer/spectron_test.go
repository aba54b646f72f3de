package optimizer

import (
	"fmt"
	"math"
	"testing"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// spectronOf returns the exact step that a configuration asks for.
func spectronOf(cfg Config, m, n int, s float64) oracle.Spectron {
	return oracle.Spectron{LearningRate: cfg.LearningRate, Momentum: cfg.Momentum, WeightDecay: cfg.WeightDecay, S: s,
		Scale: widthScale(cfg.Scale, m, n)}
}

// TestSpectronOracle takes two steps and holds the second against SVDs, both as trained with and exact.
func TestSpectronOracle(t *testing.T) {
	// Exact: float32 of the stored factors, which are up to 500 times the step. Else the polar factor's error, on average 5e-4, and
	// the norms': (s₂/s₁)^64 of 2^4 power iterations in each of two steps. Worst here 2.4e-5 and 1.7e-3.
	const exactTol, tol = 1e-4, 5e-3
	for _, rank := range []int{1, 2, 8, 32} {
		for _, shape := range [][2]int{{96, 40}, {40, 96}} {
			for _, exact := range []bool{false, true} {
				t.Run(fmt.Sprintf("r%d/%dx%d/exact=%v", rank, shape[0], shape[1], exact), func(t *testing.T) {
					spectronCase(t, rank, shape[0], shape[1], exact, map[bool]float64{false: tol, true: exactTol}[exact])
				})
			}
		}
	}
}

func spectronCase(t *testing.T, rank, m, n int, exact bool, tol float64) {
	const s = 3.0
	rng := random(rank, m)
	a, b := gaussian(rng, m, rank), gaussian(rng, n, rank)
	var grads [][]*mat.Dense
	for range 2 {
		grads = append(grads, []*mat.Dense{gaussian(rng, m, rank), gaussian(rng, n, rank)})
	}
	cfg := setting(t, "spectron", func(c *Config) { c.WeightDecay, c.Exact, c.LearningRate = 0.1, exact, 1 })
	values := pair("layer", a, b, s)
	first, second := after(t, cfg, values, grads[:1]...), after(t, cfg, values, grads...)
	worst := func(o oracle.Spectron) float64 {
		before := oracle.Pair{A: first[0], B: first[1],
			MomentA: scaled(1-o.Momentum, grads[0][0]), MomentB: scaled(1-o.Momentum, grads[0][1])}
		next, err := o.Step(before, grads[1][0], grads[1][1])
		if err != nil {
			t.Fatal(err)
		}
		keep := 1 - cfg.WeightDecay*cfg.LearningRate // the steps are small beside what decays
		kept := []*mat.Dense{scaled(keep, first[0]), scaled(keep, first[1])}
		return max(relative(sub(second[0], kept[0]), sub(next.A, kept[0])), relative(sub(second[1], kept[1]), sub(next.B, kept[1])))
	}
	want := spectronOf(cfg, m, n, s)
	got := worst(want)
	t.Logf("relative error %.2e", got)
	if !(got <= tol) {
		t.Errorf("relative error %.2e, want at most %g", got, tol)
	}
	for bite, change := range map[string]func(*oracle.Spectron){
		"momentum": func(o *oracle.Spectron) { o.Momentum -= 0.1 }, "learning rate": func(o *oracle.Spectron) { o.LearningRate *= 1 + 3*tol },
		"scale": func(o *oracle.Spectron) { o.Scale *= 1 + 3*tol }, "s": func(o *oracle.Spectron) { o.S *= 1 + 9*tol },
		"decay": func(o *oracle.Spectron) { o.WeightDecay *= 1 + 9*tol },
	} {
		changed := want
		change(&changed)
		if rank == 1 && bite == "momentum" { // both moments are vectors: only their sum counts
			continue
		}
		if !(worst(changed) > tol) {
			t.Errorf("a step of another %s passes: %.2e", bite, worst(changed))
		}
	}
}

// normOf returns the norms that factorNorm finds in the given matrices one after another, its vector carried over.
func normOf(t *testing.T, exact bool, matrices ...*mat.Dense) (norms []float64) {
	t.Helper()
	m, r := matrices[0].Dims()
	dtype := Config{Exact: exact}.dtype()
	store := mlmodel.NewStore()
	exec, err := mlmodel.NewExec(check.Backend(t), store, func(scope *mlmodel.Scope, x *Node) *Node {
		s := &Step{Rate: Scalar(x.Graph(), dtype, 1), exact: exact, scope: scope, slots: map[string]Slot{"u": {Name: "u", Dims: []int{1, r}}}}
		return Reshape(ConvertDType(s.factorNorm("u", ConvertDType(x, dtype)), dtypes.Float64))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Finalize()
	for _, x := range matrices {
		out, err := exec.Call(tensors.FromFlatDataAndDimensions(mat.DenseCopyOf(x).RawMatrix().Data, 1, m, r))
		if err != nil {
			t.Fatal(err)
		}
		norms = append(norms, tensors.ToScalar[float64](out[0]))
	}
	return norms
}

// TestSpectronNorms: exact norms are right however close the singular values are; the others get right as vectors settle, and
// see a direction grow that the carried vector is orthogonal to.
func TestSpectronNorms(t *testing.T) {
	// 2^30 power iterations leave 1e-10, where the gap is about that; worst here 7.2e-13.
	const exactTol = 1e-9
	worst := 0.0
	for _, r := range []int{1, 3, 16} {
		for _, gap := range []float64{0, 1e-12, 1e-6, 1e-4, 1e-2, 0.5} {
			for _, scale := range []float64{1e-12, 1, 1e12} {
				sigma := make([]float64, r)
				for i := range sigma {
					sigma[i] = scale * (1 - gap*float64(i)/float64(max(r-1, 1)))
				}
				x := must[*mat.Dense](t)(oracle.WithSingularValues(uint64(r), 20, r, sigma))
				got := normOf(t, true, x)[0]
				worst = max(worst, math.Abs(got/scale-1))
				if !(math.Abs(got/scale-1) <= exactTol) {
					t.Errorf("rank %d, gap %g, scale %g: the norm is off by %.1e", r, gap, scale, got/scale-1)
				}
			}
		}
	}
	t.Logf("exact norms within %.1e", worst)
	// A first step may be far off; twenty steps from a Gaussian matrix are not.
	x := gaussian(random(4, 4), 60, 16)
	norms := normOf(t, false, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x)
	want := spectralNormOf(t, x)
	t.Logf("off by %.1e in the first step, %.1e in the twentieth", norms[0]/want-1, last(norms)/want-1)
	if !(math.Abs(last(norms)/want-1) <= 1e-4) || !(norms[0] < want*(1-1e-6)) {
		t.Errorf("norms %v, want the last to be %g", norms, want)
	}
	// The vector settles on the first column exactly; then the second one grows.
	one, two := mat.NewDense(4, 2, []float64{3, 0, 0, 1, 0, 0, 0, 0}), mat.NewDense(4, 2, []float64{3, 0, 0, 6, 0, 0, 0, 0})
	norms = normOf(t, false, one, one, one, two, two)
	if !(math.Abs(norms[2]-3) <= 1e-4) || !(math.Abs(norms[4]-6) <= 1e-4) {
		t.Errorf("norms %v, want 3 at the third and 6 at the fifth", norms)
	}
	zero := mat.NewDense(4, 2, nil)
	if norms = normOf(t, false, zero, one); norms[0] != 0 || !(math.Abs(norms[1]-3) <= 1e-2) {
		t.Errorf("norms %v of zero and then of norm 3", norms)
	}
}

// TestSpectronBound: W moves by at most eta, also where gradients and factors are aligned so that all terms add up.
func TestSpectronBound(t *testing.T) {
	const s = 2.0
	a, b := gaussian(random(1, 2), 12, 3), gaussian(random(2, 2), 9, 3)
	cfg := setting(t, "spectron", noDecay, func(c *Config) { c.LearningRate, c.Scale = 0.4, "none" })
	got := after(t, cfg, pair("layer", a, b, s), []*mat.Dense{scaled(-1, a), scaled(-1, b)})
	moved := spectralNormOf(t, scaled(s, sub(mul(got[0], got[1].T()), mul(a, b.T()))))
	t.Logf("W moves by %.3f of the bound", moved/0.4)
	if !(moved <= 0.4) || !(moved > 0.2) {
		t.Errorf("W moves by %.3f, want at most 0.4 and not much less", moved)
	}
}

// TestSpectronDependsOnScale is the comparison that LoRA-Muon's paper draws: moving scale between the factors, which leaves
// their product as it is, changes what Spectron does to the product and not what LoRA-Muon does.
func TestSpectronDependsOnScale(t *testing.T) {
	const tol = 1e-4 // the factors are float32, and a step a hundredth of them; here 2.4e-5
	const m, n, r = 40, 30, 6
	rng := random(12, 12)
	a, b, g := gaussian(rng, m, r), gaussian(rng, n, r), gaussian(rng, m, n)
	move := func(name string, c float64) *mat.Dense {
		x, y := scaled(c, a), scaled(1/c, b)
		cfg := setting(t, name, func(c *Config) { c.Exact = true })
		got := after(t, cfg, pair("layer", x, y, 1), []*mat.Dense{mul(g, y), mul(g.T(), x)})
		return sub(mul(got[0], got[1].T()), mul(a, b.T()))
	}
	for _, c := range []float64{3, 9, 27} {
		spectron := relative(move("spectron", c), move("spectron", 1))
		muon := relative(move("lora-muon", c), move("lora-muon", 1))
		t.Logf("c = %g: the step on A Bᵀ changes by %.2f with spectron, %.1e with lora-muon", c, spectron, muon)
		if !(spectron > 0.1) || !(muon <= tol) {
			t.Errorf("c = %g: the step changes by %.2e with spectron and %.2e with lora-muon", c, spectron, muon)
		}
	}
}

// TestSpectronKeepsPath: alpha does not matter where √s·A and √s·B start the same; a gauge does.
func TestSpectronKeepsPath(t *testing.T) {
	run := func(s, c float64) float64 {
		n := newNet(t, start{rank: 8, s: s, c: c, kind: "balanced"})
		return last(n.run(t, mustNew(t, setting(t, "spectron")), netSteps))
	}
	want := run(1, 1)
	for _, s := range []float64{0.25, 32} {
		got := run(s, 1)
		t.Logf("s = %g: loss %.6f, moved %.1e", s, got, got-want)
		if !(math.Abs(got-want) <= lossTol) {
			t.Errorf("s = %g: loss %.6f, want %.6f within %g", s, got, want, lossTol)
		}
	}
	if moved := run(1, 9) - want; !(math.Abs(moved) > 100*lossTol) {
		t.Errorf("c = 9 moves the loss by %.1e only: the test has no bite", moved)
	}
}
