package optimizer

import (
	"fmt"
	"math"
	"testing"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// riteOf returns the reference that a configuration asks for, at the given factors.
func riteOf(cfg Config, a, b *mat.Dense, s float64) *oracle.LoRARITE {
	m, _ := a.Dims()
	n, _ := b.Dims()
	return &oracle.LoRARITE{LearningRate: cfg.LearningRate, Momentum: cfg.Momentum, Beta2: cfg.Beta2, WeightDecay: cfg.WeightDecay,
		S: s, Scale: widthScale(cfg.Scale, m, n), A: a, B: b}
}

// denseGradients returns gradients of W that lean to one direction, so that moments build up.
func denseGradients(seed, steps, m, n int) (grads []*mat.Dense) {
	rng := random(seed, m*n)
	lean := gaussian(rng, m, n)
	for range steps {
		grads = append(grads, add(lean, gaussian(rng, m, n)))
	}
	return grads
}

// follow takes one step for each gradient of W, taken at the factors of that step, and returns the factors before each step and
// after the last.
func follow(t testing.TB, cfg Config, a, b *mat.Dense, s float64, grads []*mat.Dense) (as, bs []*mat.Dense) {
	t.Helper()
	values := pair("l", a, b, s)
	store := newStore(t, values...)
	stepper := newStepper(t, store, mustNew(t, cfg), paths(values)...)
	as, bs = []*mat.Dense{get(t, store, values[0].path)}, []*mat.Dense{get(t, store, values[1].path)}
	for _, g := range grads {
		a, b := as[len(as)-1], bs[len(bs)-1]
		stepper.step(t, scaled(s, mul(g, b)), scaled(s, mul(g.T(), a)))
		as, bs = append(as, get(t, store, values[0].path)), append(bs, get(t, store, values[1].path))
	}
	return as, bs
}

// TestLoRARITEOracle holds six steps against SVDs and eigendecompositions, as a path: each starts where the last one ended.
func TestLoRARITEOracle(t *testing.T) {
	const steps, s = 6, 2.0
	// Exact: float32 of the factors and of the state. Else the Schatten norm for the escaped mass, up to r^{1/16} of it, and the
	// ridge and rounding of the roots of factors and second moments. Worst here 3.6e-5 and 7.5e-5.
	const exactTol, tol = 2e-4, 5e-4
	worst := map[bool]float64{}
	for _, shape := range [][3]int{{24, 16, 1}, {24, 16, 3}, {16, 40, 8}, {48, 48, 16}} {
		for _, beta2 := range []float64{0.9, 0.999, 1} {
			for _, exact := range []bool{false, true} {
				m, n, r := shape[0], shape[1], shape[2]
				a, b := gaussian(random(r, 1), m, r), gaussian(random(r, 2), n, r)
				cfg := setting(t, "lora-rite", func(c *Config) { c.LearningRate, c.WeightDecay, c.Exact, c.Beta2 = 0.5, 0.2, exact, beta2 })
				grads := denseGradients(r, steps, m, n)
				as, bs := follow(t, cfg, a, b, s, grads)
				off := func(change func(*oracle.LoRARITE)) (e float64) {
					ref := riteOf(cfg, a, b, s)
					if change(ref); ref.Beta2 > 1 {
						return math.Inf(1)
					}
					for i, g := range grads {
						if err := ref.Step(rounded(scaled(s, mul(g, bs[i]))), rounded(scaled(s, mul(g.T(), as[i])))); err != nil {
							t.Fatal(err)
						}
						before, now := []*mat.Dense{as[i], bs[i]}, []*mat.Dense{as[i+1], bs[i+1]}
						gotA, gotB := increments(cfg, before, now)
						wantA, wantB := increments(cfg, before, []*mat.Dense{ref.A, ref.B})
						e = max(e, relative(gotA, wantA), relative(gotB, wantB))
						ref.A, ref.B = now[0], now[1]
					}
					return e
				}
				name := fmt.Sprintf("%v, beta2 %g, exact %v", shape, beta2, exact)
				limit := map[bool]float64{false: tol, true: exactTol}[exact]
				got := off(func(*oracle.LoRARITE) {})
				worst[exact] = max(worst[exact], got)
				if !(got <= limit) {
					t.Errorf("%s: a step is %.1e from the reference, want at most %g", name, got, limit)
				}
				for bite, change := range map[string]func(*oracle.LoRARITE){
					"momentum": func(o *oracle.LoRARITE) { o.Momentum -= 0.1 }, "rate": func(o *oracle.LoRARITE) { o.LearningRate *= 1 + 3*limit },
					"beta2": func(o *oracle.LoRARITE) { o.Beta2 -= 0.1 }, "s": func(o *oracle.LoRARITE) { o.S *= 1 - 3*limit },
				} {
					if e := off(change); !(e > limit) {
						t.Errorf("%s: another %s passes: %.1e", name, bite, e)
					}
				}
			}
		}
	}
	t.Logf("worst step: %.1e as trained with, %.1e exact", worst[false], worst[true])
}

// TestLoRARITEFirstStep: from no state the direction is the polar factor of the unmagnified gradient, whatever beta2.
func TestLoRARITEFirstStep(t *testing.T) {
	const tol = 1e-5
	a, b := gaussian(random(1, 1), 20, 4), gaussian(random(2, 2), 30, 4)
	g := gaussian(random(3, 3), 20, 30)
	for _, beta2 := range []float64{0, 0.9, 1} {
		cfg := setting(t, "lora-rite", noDecay, func(c *Config) {
			c.Exact, c.Guard, c.Beta2, c.LearningRate, c.Scale = true, false, beta2, 1, "none"
		})
		as, bs := follow(t, cfg, a, b, 1, []*mat.Dense{g})
		root := must[*mat.Dense](t)(oracle.GramInvSqrt(b))
		want := scaled(-(1 - cfg.Momentum), mul(must[*mat.Dense](t)(oracle.Msign(mul(g, mul(b, root)))), root))
		if e := relative(sub(as[1], as[0]), want); !(e <= tol) {
			t.Errorf("beta2 %g: A moves %.1e from the polar factor", beta2, e)
		}
		if relative(bs[1], bs[0]) == 0 {
			t.Error("B does not move")
		}
	}
}

// TestLoRARITEIllConditioned: exact first steps from factors of condition number up to 1e4 and gradients that do not belong to them.
func TestLoRARITEIllConditioned(t *testing.T) {
	const tol = 1e-5 // of the change: the results are stored in float32
	for i, shape := range stateShapes {
		for _, cond := range []float64{1, 100, 1e4} {
			st := randomState(t, i, shape[0], shape[1], shape[2], cond)
			rng := random(i, 7)
			if i%2 == 0 {
				st.gA, st.gB = gaussian(rng, shape[0], shape[2]), gaussian(rng, shape[1], shape[2])
			}
			cfg := setting(t, "lora-rite", noDecay, func(c *Config) { c.Exact, c.Guard, c.LearningRate, c.Scale = true, false, 1, "none" })
			values := pair("l", st.a, st.b, 1)
			got := after(t, cfg, values, []*mat.Dense{st.gA, st.gB})
			off := func(rate float64) float64 {
				ref := riteOf(cfg, st.a, st.b, 1)
				if ref.LearningRate = rate; ref.Step(st.gA, st.gB) != nil {
					t.Fatal("the reference fails")
				}
				return max(relative(sub(got[0], st.a), sub(ref.A, st.a)), relative(sub(got[1], st.b), sub(ref.B, st.b)))
			}
			if e := off(1); !(e <= tol) || !(off(1+3*tol) > tol) {
				t.Errorf("%v, condition number %g: %.1e from the reference, want at most %g; a longer step %.1e", shape, cond, e, tol, off(1+3*tol))
			}
		}
	}
}

// TestLoRARITEGauge: (A, B) → (A G, B G⁻ᵀ) for any invertible G does not change the path of W, over several steps with all of the
// state in use; without the transport of the moments, which momentum on factors lacks, it does.
func TestLoRARITEGauge(t *testing.T) {
	// Rounding of factors of condition number up to 100, relative to the length of the path; worst here 1.9e-4 and 2.1e-5.
	const tol, exactTol, steps = 2e-3, 2e-4, 6
	const m, n, r = 40, 30, 6
	a, b := gaussian(random(11, 1), m, r), gaussian(random(11, 2), n, r)
	grads := denseGradients(5, steps, m, n)
	path := func(cfg Config, g *mat.Dense) (moved *mat.Dense) {
		x, y := a, b
		if g != nil {
			var inverse mat.Dense
			if err := inverse.Inverse(g); err != nil {
				t.Fatal(err)
			}
			x, y = mul(a, g), mul(b, inverse.T())
		}
		as, bs := follow(t, cfg, x, y, 1, grads)
		return sub(mul(as[steps], bs[steps].T()), mul(a, b.T()))
	}
	for _, exact := range []bool{false, true} {
		limit := map[bool]float64{false: tol, true: exactTol}[exact]
		cfg := setting(t, "lora-rite", func(c *Config) { c.Exact, c.Guard, c.LearningRate = exact, false, 0.3 })
		want := path(cfg, nil)
		for seed, cond := range []float64{1, 10, 30} {
			g := must[*mat.Dense](t)(oracle.RandomMatrix(uint64(seed), r, r, cond))
			e := relative(path(cfg, g), want)
			t.Logf("exact %v, G of condition number %g: the path of W moves by %.1e", exact, cond, e)
			if !(e <= limit) {
				t.Errorf("exact %v, G of condition number %g: the path of W moves by %.1e, want at most %g", exact, cond, e, limit)
			}
			other := setting(t, "factor-muon", func(c *Config) { c.Exact = exact })
			if e := relative(path(other, g), path(other, nil)); !(e > limit) && cond > 1 {
				t.Errorf("factor-muon passes: %.1e", e)
			}
		}
	}
}

// TestLoRARITEKeepsPath: whole runs end at the same loss for any scale of the pair and any balance of its factors.
func TestLoRARITEKeepsPath(t *testing.T) {
	run := func(s, c float64, kind string) []float64 {
		n := newNet(t, start{rank: 8, s: s, c: c, kind: kind})
		return n.run(t, mustNew(t, setting(t, "lora-rite", func(c *Config) { c.Schedule = Schedule{Kind: "linear", Steps: netSteps} })), netSteps)
	}
	want := last(run(1, 1, "balanced"))
	for _, c := range []struct{ s, c float64 }{{0.25, 1}, {32, 1}, {1, 9}, {1, 99}} {
		got := last(run(c.s, c.c, "balanced"))
		t.Logf("s = %g, c = %g: loss %.6f, moved %.1e", c.s, c.c, got, got-want)
		if !(math.Abs(got-want) <= lossTol) {
			t.Errorf("s = %g, c = %g: loss %.6f, want %.6f within %g", c.s, c.c, got, want, lossTol)
		}
	}
	for _, kind := range []string{"zero", "1e-5", "1e-3"} {
		losses := run(1, 1, kind)
		t.Logf("%s: start %.4f, highest %.4f, end %.4f", kind, losses[0], highest(losses), last(losses))
		if spike := highest(losses) - losses[0]; !(spike <= spikeTol) || !(last(losses) < 0.85*losses[0]) {
			t.Errorf("%s: start %.4f, highest %.4f, end %.4f", kind, losses[0], highest(losses), last(losses))
		}
	}
}

// TestEscapedMass: against eigenvalues; never below the shift of the eigenvalues, which it bounds, and equal to it for rank 1.
func TestEscapedMass(t *testing.T) {
	mass := func(p, v *mat.Dense, exact bool) float64 {
		r, _ := p.Dims()
		dtype := Config{Exact: exact}.dtype()
		out, err := CallOnce(check.Backend(t), func(p, v *Node) *Node {
			return Reshape(as(dtypes.Float64, (&Step{exact: exact}).escapedMass(as(dtype, p), as(dtype, v))))
		}, tensors.FromFlatDataAndDimensions(p.RawMatrix().Data, 1, r, r), tensors.FromFlatDataAndDimensions(v.RawMatrix().Data, 1, r, r))
		if err != nil {
			t.Fatal(err)
		}
		return tensors.ToScalar[float64](out)
	}
	ratios := []float64{}
	for seed := range 40 {
		r := []int{1, 2, 5, 16}[seed%4]
		sigma := make([]float64, r)
		for i := range sigma { // cosines of the angles between two bases
			sigma[i] = math.Cos(0.3 * float64(i+seed%3) / float64(r))
		}
		p := must[*mat.Dense](t)(oracle.WithSingularValues(uint64(seed), r, r, sigma))
		x := must[*mat.Dense](t)(oracle.RandomMatrix(uint64(100+seed), r+3, r, 30))
		v := mul(x.T(), x)
		want := must[float64](t)(oracle.EscapedMass(p, v))
		shift := must[float64](t)(oracle.EigenvalueShift(v, mul(p, mul(v, p.T()))))
		got, exact := mass(p, v, false), mass(p, v, true)
		const rounding = 1e-6 // of V's norm 1, in I - PᵀP
		if !(math.Abs(exact-want) <= 1e-5*want+1e-13) || !(got >= want-rounding && got <= want*math.Pow(float64(r), 1.0/16)+rounding) {
			t.Errorf("rank %d: escaped mass %.3e, exact %.3e, want %.3e", r, got, exact, want)
		}
		if !(want >= shift-1e-12) || r == 1 && !(math.Abs(want-shift) <= 1e-12) {
			t.Errorf("rank %d: escaped mass %.3e below the eigenvalues' shift %.3e", r, want, shift)
		}
		if r > 1 {
			ratios = append(ratios, want/shift)
		}
	}
	t.Logf("escaped mass over the shift of the eigenvalues: %.2f", ratios)
	eye := mat.NewDense(3, 3, []float64{1, 0, 0, 0, 1, 0, 0, 0, 1})
	if got := mass(mat.NewDense(3, 3, nil), scaled(4, eye), false); !(math.Abs(got/4-1) < 0.1) {
		t.Errorf("all of 4·I escapes from a basis that vanishes, not %g", got)
	}
	if got := mass(eye, mat.NewDense(3, 3, nil), false); got != 0 {
		t.Errorf("%g escapes of nothing", got)
	}
}
