package optimizer

import (
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// TestSMuonOracle holds steps against the dense polar factor and pseudo-inverses, for moments of all kinds.
func TestSMuonOracle(t *testing.T) {
	// Exact: float32 of the results, changes of a tenth of the factors. Else the error of one polar factor inside another, on
	// average 5e-4 each; more only where the 2r x 2r matrix has singular values below 1e-4 of its norm, which Msign does not bring to
	// one (a state of rank 32 was 4e-2 off). Worst here 5.4e-8 and 1.1e-3.
	const exactTol, tol = 1e-5, 5e-3
	worst := map[bool]float64{}
	for i, shape := range [][3]int{{24, 16, 1}, {24, 16, 2}, {16, 40, 4}, {40, 40, 8}, {96, 48, 16}, {20, 33, 5}, {64, 96, 16}} {
		for seed := range 3 {
			for _, cond := range []float64{1, 20} {
				for _, exact := range []bool{false, true} {
					m, n := shape[0], shape[1]
					st := randomState(t, 3*i+seed, m, n, shape[2], cond)
					cfg := setting(t, "smuon", noDecay, func(c *Config) { c.Exact, c.Guard, c.LearningRate = exact, false, 1 })
					gotA, gotB := stepAll(t, cfg, []pairState{st})
					off := func(o oracle.SMuon) float64 {
						_, dA, dB, err := o.Step(oracle.Pair{A: st.a, B: st.b, MomentA: st.mA, MomentB: st.mB}, st.gA, st.gB)
						if err != nil {
							t.Fatal(err)
						}
						return max(relative(gotA[0], dA), relative(gotB[0], dB))
					}
					ref := oracle.SMuon{LearningRate: 1, Momentum: cfg.Momentum, S: 1, Scale: math.Sqrt(float64(m) / float64(n))}
					limit := map[bool]float64{false: tol, true: exactTol}[exact]
					got := off(ref)
					worst[exact] = max(worst[exact], got)
					t.Logf("%v, moments %d, condition number %g, exact %v: %.1e", shape, seed, cond, exact, got)
					if !(got <= limit) {
						t.Errorf("%v, moments %d, condition number %g, exact %v: %.1e from the reference, want at most %g",
							shape, seed, cond, exact, got, limit)
					}
					longer, other := ref, ref
					longer.LearningRate *= 1 + 3*limit
					other.Momentum -= 0.2
					if !(off(longer) > limit) || seed == 2 && !(off(other) > limit) {
						t.Errorf("%v: a longer step is %.1e off, one of another momentum %.1e", shape, off(longer), off(other))
					}
				}
			}
		}
	}
	t.Logf("worst: %.1e as trained with, %.1e exact", worst[false], worst[true])
}

// tangentOf returns ΔA Bᵀ + A ΔBᵀ, the first-order move of W/s.
func tangentOf(st pairState, dA, dB *mat.Dense) *mat.Dense {
	return add(mul(dA, st.b.T()), mul(st.a, dB.T()))
}

// TestSMuonProjects: for a gradient that the pair can express, W moves to first order by the least-squares projection of Muon's
// step: what is left of it is orthogonal to all that the factors can do. LoRA-Muon's halves are another step.
func TestSMuonProjects(t *testing.T) {
	const tol = 1e-5 // float32
	st := randomState(t, 3, 40, 30, 5, 3)
	rng := random(8, 8)
	g := add(mul(gaussian(rng, 40, 5), st.b.T()), mul(st.a, gaussian(rng, 5, 30)))
	st.gA, st.gB = mul(g, st.b), mul(g.T(), st.a)
	d := must[*mat.Dense](t)(oracle.Msign(g))
	residual := func(name string, eta float64) (alongB, alongA float64) {
		cfg := setting(t, name, noDecay, func(c *Config) { c.Exact, c.Guard, c.LearningRate, c.Scale = true, false, eta, "none" })
		dA, dB := stepAll(t, cfg, []pairState{st})
		left := add(d, tangentOf(st, dA[0], dB[0]))
		return mat.Norm(mul(left, st.b), 2) / mat.Norm(mul(d, st.b), 2), mat.Norm(mul(left.T(), st.a), 2) / mat.Norm(mul(d.T(), st.a), 2)
	}
	alongB, alongA := residual("smuon", 1)
	t.Logf("left of Muon's step: %.1e of what B's rows see, %.1e of A's columns", alongB, alongA)
	if !(max(alongB, alongA) <= tol) {
		t.Errorf("left of Muon's step: %.1e of what B's rows see, %.1e of A's columns", alongB, alongA)
	}
	if alongB, alongA := residual("lora-muon", 1); !(max(alongB, alongA) > 100*tol) {
		t.Error("lora-muon passes")
	}
}

// TestSMuonFullRank: a pair of full rank can express everything, and takes Muon's step.
func TestSMuonFullRank(t *testing.T) {
	const tol = 2e-3 // two polar factors of their own, within 6e-4 each; exact ones in float32
	for _, shape := range [][2]int{{30, 8}, {8, 30}, {12, 12}} {
		for _, exact := range []bool{false, true} {
			m, n := shape[0], shape[1]
			st := randomState(t, 3, m, n, min(m, n), 3)
			g := gaussian(random(m, n), m, n)
			st.gA, st.gB = mul(g, st.b), mul(g.T(), st.a)
			change := func(c *Config) { c.Exact, c.Guard, c.WeightDecay, c.LearningRate = exact, false, 0, 1 }
			dA, dB := stepAll(t, setting(t, "smuon", change), []pairState{st})
			w := mat.NewDense(m, n, nil)
			want := after(t, setting(t, "muon", change), []value{dense("/w", w)}, []*mat.Dense{g})[0]
			e := relative(tangentOf(st, dA[0], dB[0]), want)
			t.Logf("%v, exact %v: %.1e from muon", shape, exact, e)
			if !(e <= tol) {
				t.Errorf("%v, exact %v: %.1e from muon, want at most %g", shape, exact, e, tol)
			}
		}
	}
}

// TestSMuonGauge: a gauge, with moments carried as gradients are, does not change the first-order step on W.
func TestSMuonGauge(t *testing.T) {
	const tol = 1e-4 // exact steps, from float32 factors of condition number up to 60; here 1.5e-6
	st := randomState(t, 2, 40, 30, 6, 2)
	cfg := setting(t, "smuon", noDecay, func(c *Config) { c.Exact, c.Guard = true, false })
	move := func(st pairState) *mat.Dense {
		dA, dB := stepAll(t, cfg, []pairState{st})
		return tangentOf(st, dA[0], dB[0])
	}
	want := move(st)
	for seed, cond := range []float64{1, 10, 30} {
		g := must[*mat.Dense](t)(oracle.RandomMatrix(uint64(seed), 6, 6, cond))
		var inverse mat.Dense
		if err := inverse.Inverse(g); err != nil {
			t.Fatal(err)
		}
		turned := pairState{
			a: mul(st.a, g), b: mul(st.b, inverse.T()), mA: mul(st.mA, inverse.T()), mB: mul(st.mB, g),
			gA: mul(st.gA, inverse.T()), gB: mul(st.gB, g),
		}
		e := relative(move(turned), want)
		t.Logf("G of condition number %g: moved by %.1e", cond, e)
		if !(e <= tol) {
			t.Errorf("G of condition number %g: moved by %.1e, want at most %g", cond, e, tol)
		}
		turned.mA = st.mA
		if e := relative(move(turned), want); !(e > 10*tol) {
			t.Error("passes with a moment that is not carried")
		}
	}
}

// TestSMuonRuns: whole runs end at the same loss for any scale of the pair and balance of its factors, and no start spikes.
func TestSMuonRuns(t *testing.T) {
	run := func(s, c float64, kind string) []float64 {
		n := newNet(t, start{rank: 8, s: s, c: c, kind: kind})
		cfg := setting(t, "smuon", func(c *Config) { c.Schedule = Schedule{Kind: "linear", Steps: netSteps} })
		return n.run(t, mustNew(t, cfg), netSteps)
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
		if spike := highest(losses) - losses[0]; !(spike <= spikeTol) || !(last(losses) < 0.8*losses[0]) {
			t.Errorf("%s: start %.4f, highest %.4f, end %.4f", kind, losses[0], highest(losses), last(losses))
		}
	}
}

// TestSMuonSteps takes several steps, whose momentum is carried from factors to factors, at a scale s and with decay, and holds
// every one against the reference from the state before it.
func TestSMuonSteps(t *testing.T) {
	const tol = 1e-5 // float32 of state and factors; worst here 5.2e-8
	const m, n, r, s, steps = 24, 17, 4, 3.0, 5
	rng := random(6, 6)
	cfg := setting(t, "smuon", func(c *Config) { c.Exact, c.Guard, c.LearningRate, c.WeightDecay = true, false, 1, 0.2 })
	values := pair("layer", gaussian(rng, m, r), gaussian(rng, n, r), s)
	var grads [][]*mat.Dense
	for range steps {
		grads = append(grads, []*mat.Dense{gaussian(rng, m, r), gaussian(rng, n, r)})
	}
	ref := oracle.SMuon{LearningRate: 1, Momentum: cfg.Momentum, WeightDecay: 0.2, S: s, Scale: math.Sqrt(float64(m) / n)}
	stays := ref // its moments are averages of factor gradients, which stay as they are
	state := oracle.Pair{A: values[0].x, B: values[1].x}
	still := state
	worst, bite := 0.0, 0.0
	for i, g := range grads {
		averageA, averageB := scaled(1-ref.Momentum, g[0]), scaled(1-ref.Momentum, g[1])
		if i > 0 {
			averageA, averageB = add(averageA, scaled(ref.Momentum, still.MomentA)), add(averageB, scaled(ref.Momentum, still.MomentB))
		}
		var err error
		if state, _, _, err = ref.Step(state, g[0], g[1]); err != nil {
			t.Fatal(err)
		}
		if still, _, _, err = stays.Step(still, g[0], g[1]); err != nil {
			t.Fatal(err)
		}
		still.MomentA, still.MomentB = averageA, averageB
		got := after(t, cfg, values, grads[:i+1]...)
		worst = max(worst, relative(got[0], state.A), relative(got[1], state.B))
		bite = max(bite, relative(got[0], still.A))
	}
	t.Logf("factors within %.1e; %.1e from moments that are not carried", worst, bite)
	if !(worst <= tol) || !(bite > 100*tol) {
		t.Errorf("factors %.1e from the reference, %.1e from moments that are not carried", worst, bite)
	}
}

// TestSMuonStep: the first-order move of W is the least-squares solution as a solver of the whole linear system finds it, and
// no longer than 2/√3 in spectral norm, where Muon's is 1.
func TestSMuonStep(t *testing.T) {
	const tol = 1e-6 // float32 results, near 1; worst here 4.6e-8
	const m, n, r = 7, 6, 2
	longest := 0.0
	for seed := range 6 {
		st := randomState(t, 3*seed, m, n, r, 3)
		inverseA := must[*mat.Dense](t)(oracle.PseudoInverse(st.a))
		inverseB := must[*mat.Dense](t)(oracle.PseudoInverse(st.b))
		// The dense momentum that both gradients come from, as far as they show it.
		seen := mul(inverseA.T(), st.gB.T())
		rest := mul(st.gA, inverseB)
		d := must[*mat.Dense](t)(oracle.Msign(add(seen, sub(rest, mul(mul(st.a, inverseA), rest)))))
		system, right := mat.NewDense(m*n, (m+n)*r, nil), mat.NewDense(m*n, 1, nil)
		for i := range m {
			for j := range n {
				right.Set(i*n+j, 0, -d.At(i, j))
				for k := range r {
					system.Set(i*n+j, i*r+k, st.b.At(j, k))
					system.Set(i*n+j, (m+j)*r+k, st.a.At(i, k))
				}
			}
		}
		inverse := must[*mat.Dense](t)(oracle.PseudoInverse(system)) // of rank (m+n)r - r²: the gauge is free
		solution := mul(system, mul(inverse, right))
		want := mat.NewDense(m, n, solution.RawMatrix().Data)
		cfg := setting(t, "smuon", noDecay, func(c *Config) { c.Exact, c.Guard, c.LearningRate, c.Scale = true, false, 1, "none" })
		dA, dB := stepAll(t, cfg, []pairState{st})
		got := tangentOf(st, dA[0], dB[0])
		length := spectralNormOf(t, got)
		longest = max(longest, length)
		t.Logf("seed %d: %.1e from the solution, of norm %.4f", seed, relative(got, want), length)
		if !(relative(got, want) <= tol) || !(length <= 2/math.Sqrt(3)+tol) {
			t.Errorf("seed %d: %.1e from the least-squares solution, of norm %.4f", seed, relative(got, want), length)
		}
		if relative(scaled(-1, d), want) < 0.01 {
			t.Errorf("seed %d: the pair can express all of Muon's step: nothing to solve", seed)
		}
	}
	if longest < 1 {
		t.Errorf("no step is longer than %.4f", longest)
	}
}

// TestSMuonNesterov: looking ahead changes the step from the second on, and not the average that is kept.
func TestSMuonNesterov(t *testing.T) {
	rng := random(9, 9)
	values := pair("layer", gaussian(rng, 12, 3), gaussian(rng, 9, 3), 1)
	grads := [][]*mat.Dense{{gaussian(rng, 12, 3), gaussian(rng, 9, 3)}, {gaussian(rng, 12, 3), gaussian(rng, 9, 3)}}
	run := func(nesterov bool, grads ...[]*mat.Dense) (factors []*mat.Dense, moment []float32) {
		cfg := setting(t, "smuon", func(c *Config) { c.Nesterov, c.Exact = nesterov, true })
		store := newStore(t, values...)
		o := mustNew(t, cfg)
		s := newStepper(t, store, o, paths(values)...)
		for _, g := range grads {
			s.step(t, g...)
		}
		gr := must[[]*Group](t)(o.groups(store, trainableOf(store)))[0]
		moments := store.GetVariable(Scope + "/" + gr.Name() + "/mA").MustValue()
		return []*mat.Dense{get(t, store, values[0].path), get(t, store, values[1].path)}, tensors.MustCopyFlatData[float32](moments)
	}
	plain, moment := run(false, grads[0])
	ahead, sameMoment := run(true, grads[0])
	if e := max(relative(ahead[0], plain[0]), relative(ahead[1], plain[1])); !(e <= 1e-6) {
		t.Errorf("the first step, in the direction of its gradient either way, differs by %.1e", e)
	}
	check.Close(t, "average after the first step", sameMoment, moment, 1e-5)
	plain, _ = run(false, grads...)
	ahead, _ = run(true, grads...)
	if e := relative(ahead[0], plain[0]); !(e > 1e-4) {
		t.Errorf("the second step differs by %.1e only", e)
	}
}

// TestPairRulesStaySmall: steps of pairs form no matrix of the size of W, however wide the layer.
func TestPairRulesStaySmall(t *testing.T) {
	const m, n, r = 600, 500, 4
	for _, name := range []string{"lora-muon", "smuon"} {
		if got, limit := largestNode(t, setting(t, name), m, n, r), 2*(m+n)*r; got > limit {
			t.Errorf("%s: a node of %d elements, want at most %d", name, got, limit)
		}
	}
	if got := largestNode(t, setting(t, "lora-muon"), 8, 500, 4); got < 500*4 {
		t.Errorf("the largest node seen has %d elements: the factors were not looked at", got)
	}
}

// largestNode returns the number of elements of the largest value in the graph of a step on one pair.
func largestNode(t *testing.T, cfg Config, m, n, r int) (largest int) {
	t.Helper()
	rng := random(m, n)
	values := pair("layer", gaussian(rng, m, r), gaussian(rng, n, r), 1)
	store, o := newStore(t, values...), mustNew(t, cfg)
	exec, err := mlmodel.NewExec(check.Backend(t), store, func(scope *mlmodel.Scope, gA, gB *Node) *Node {
		o.Apply(scope, gA.Graph(), []VarGrad{{store.GetVariable(values[0].path), gA}, {store.GetVariable(values[1].path), gB}})
		for _, node := range gA.Graph().Nodes() {
			if node.NumOutputs() == 1 {
				largest = max(largest, node.Shape().Size())
			}
		}
		return gA
	})
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Finalize()
	grad := func(rows int) *tensors.Tensor {
		return tensors.FromFlatDataAndDimensions(oracle.Float32(gaussian(rng, rows, r)), rows, r)
	}
	if _, err := exec.Call(grad(m), grad(n)); err != nil {
		t.Fatal(err)
	}
	return largest
}
